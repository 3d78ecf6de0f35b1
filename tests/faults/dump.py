"""What an outsider finds when a run is over, in a folder: plain SQL, plain objects, queue depths.

``tables/<name>.jsonl`` holds a table's rows, ``objects/<key>`` the packs, ``queues.json`` what the
broker still has. Nothing here knows what any of it means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

STORED = "SELECT object_key, state FROM packs WHERE state <> 'writing' ORDER BY object_key"
TABLES_QUERY = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


class Vanished(RuntimeError):
    """An object was listed, and deleted before it could be read."""


def stored(database_url: str) -> list[tuple[Any, ...]]:
    """The packs that are put, or are being taken away, as the database knows them now."""
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        return connection.execute(STORED).fetchall()


def dump_tables(database_url: str, folder: Path) -> None:
    """Every table of the database in one snapshot."""
    folder.mkdir(parents=True, exist_ok=True)
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for (name,) in connection.execute(TABLES_QUERY).fetchall():
            query = sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t").format(sql.Identifier(name))
            with (folder / f"{name}.jsonl").open("w") as file:
                for (row,) in connection.execute(query):
                    file.write(f"{row}\n")


def dump_objects(client: Any, objects_url: str, folder: Path, below: str = "packs/") -> list[str]:
    """Every object under the installation's ``below``; their full keys. Raises ``Vanished``."""
    parts = urlsplit(objects_url)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    keys: list[str] = []
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/{below}"
    )
    for page in pages:
        for one in page.get("Contents", ()):
            keys.append(one["Key"])
            path = folder / one["Key"].removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = client.get_object(Bucket=bucket, Key=one["Key"])
            except client.exceptions.NoSuchKey as error:
                raise Vanished(f"{one['Key']} was deleted while it was looked for") from error
            path.write_bytes(found["Body"].read())
    return keys


def delete_objects(client: Any, objects_url: str, keys: Sequence[str]) -> None:
    """Objects of an audited run, so that the next audit need not explain them."""
    parts = urlsplit(objects_url)
    prefix = parts.path.strip("/")
    for key in keys:
        client.delete_object(Bucket=parts.netloc, Key=f"{prefix}/{key}")
    client.close()


def dump_queues(ctl: Any, broker_url: str) -> list[Mapping[str, Any]]:
    """Name, ready and unacknowledged messages of every queue of the vhost."""
    vhost = urlsplit(broker_url).path.removeprefix("/")
    columns = ("name", "messages_ready", "messages_unacknowledged")
    text = ctl("list_queues", "-p", vhost, "--formatter", "json", *columns)
    found: list[Mapping[str, Any]] = json.loads(text or "[]")
    return found
