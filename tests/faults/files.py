"""Where callers keep the files of bulk jobs, and where the parts go: in S3, or in a folder.

Read and written here past every proxy, and by nothing of ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.faults.dump import dump_objects
from tests.support.s3 import Buckets


class S3Files:
    """Objects below ``url``: inputs below ``in/``, outputs below ``out/``."""

    def __init__(self, buckets: Buckets, url: str) -> None:
        self._buckets, self.url = buckets, url

    def environment(self) -> Mapping[str, str]:
        """What an operator lists, so that bulk jobs may read and write there."""
        return _listed(self.url)

    def put(self, name: str, data: bytes) -> None:
        with self._client() as (client, bucket, prefix):
            client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)

    def names(self) -> list[str]:
        """Everything that is there."""
        with self._client() as (client, bucket, prefix):
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=f"{prefix}/"
            )
            found = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return [key.removeprefix(f"{prefix}/") for key in found]

    def dump(self, folder: Path) -> None:
        """All of it, for the auditor."""
        with self._client() as (client, _, _):
            dump_objects(client, self.url, folder, below="")

    def clear(self) -> None:
        """What an audited run has left."""
        names = self.names()
        with self._client() as (client, bucket, prefix):
            for name in names:
                client.delete_object(Bucket=bucket, Key=f"{prefix}/{name}")

    def _client(self) -> _Client:
        return _Client(self._buckets.client(), self.url)


class LocalFiles:
    """The same in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.url = folder, f"file://{folder}"
        for name in ("in", "out"):
            (folder / name).mkdir(parents=True)

    def environment(self) -> Mapping[str, str]:
        return _listed(self.url)

    def put(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def names(self) -> list[str]:
        return sorted(
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file()
        )

    def dump(self, folder: Path) -> None:
        shutil.copytree(self._folder, folder)

    def clear(self) -> None:
        for name in self.names():
            (self._folder / name).unlink()


class _Client:
    """A client for a while, with the place that a URL means."""

    def __init__(self, client: Any, url: str) -> None:
        parts = urlsplit(url)
        self._client = client
        self._found = (client, parts.netloc, parts.path.strip("/"))

    def __enter__(self) -> tuple[Any, str, str]:
        return self._found

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _listed(url: str) -> Mapping[str, str]:
    return {"FOREBAY_REF_PREFIXES": f"{url}/in/", "FOREBAY_OUTPUT_PREFIXES": f"{url}/out/"}
