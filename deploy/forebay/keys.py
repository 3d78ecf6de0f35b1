"""``forebay keys …``: an operator's word on who may call. Straight to the database."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from producers.cli.exits import Exit, Failure
from producers.cli.options import AsJson
from producers.cli.output import note, say, say_json, say_table

app = typer.Typer(no_args_is_help=True, help="API keys (operators).")

Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose key.")]


@app.command()
def create(tenant: Tenant, as_json: AsJson = False) -> None:
    """Make a key for TENANT. It is printed once; only its hash is stored."""
    from forebay.composition import open_database, require_schema
    from producers.keys import KEY_BITS, make_key
    from storage.clock import SystemClock, random_bits
    from storage.records.ids import uuid7
    from storage.records.models import check_name
    from storage.settings import Settings

    check_name(tenant, field="tenant")
    key = make_key(random_bits(KEY_BITS))
    key_id = uuid7(SystemClock().now_ms(), random_bits())
    database = open_database(Settings.from_environment(os.environ))
    require_schema(database)
    with database.begin() as tx:
        tx.tenants.ensure(tenant)
        tx.tenants.add_key(tenant, key_id, key.key_hash, key.prefix)
    if as_json:
        say_json({"id": key_id, "tenant": tenant, "prefix": key.prefix, "key": key.secret})
    else:
        say(key.secret)
        note(f"the key {key_id} of {tenant}; it cannot be shown again")


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only its keys.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every key, without its secret."""
    from forebay.composition import open_database, require_schema
    from storage.settings import Settings

    database = open_database(Settings.from_environment(os.environ))
    require_schema(database)
    with database.read() as tx:
        found = tx.tenants.keys(tenant)
    rows = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "prefix": key.prefix,
            "created_at": _time(key.created_at),
            "revoked_at": _time(key.revoked_at),
        }
        for key in found
    ]
    if as_json:
        say_json(rows)
    else:
        columns = ("id", "tenant", "prefix", "created_at", "revoked_at")
        say_table(columns, [[row[name] for name in columns] for row in rows], empty="no keys")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id (not the key).")],
    as_json: AsJson = False,
) -> None:
    """Make a key worthless. API processes notice within seconds."""
    from forebay.composition import open_database, require_schema
    from storage.records.ids import is_id
    from storage.settings import Settings

    database = open_database(Settings.from_environment(os.environ))
    require_schema(database)
    revoked = False
    if is_id(key_id):
        with database.begin() as tx:
            revoked = tx.tenants.revoke(key_id)
    if not revoked:
        raise Failure(
            "there is no such key, or it is revoked already",
            exit_code=Exit.USAGE,
            code="key_not_found",
            hint="forebay keys list shows their ids",
        )
    if as_json:
        say_json({"id": key_id, "revoked": True})
    else:
        say(f"{key_id} revoked")


def _time(millis: int | None) -> str | None:
    from datetime import UTC, datetime

    if millis is None:
        return None
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
