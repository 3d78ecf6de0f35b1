"""An operator's verbs, added to a user's. What a verb needs is imported when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.cli import models
from producers.cli.app import Translate
from producers.cli.exits import Exit, Failure, from_client
from producers.cli.options import AsJson

Host = Annotated[str, typer.Option(help="Address to listen on. Away from loopback, keys rule.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]


def add_commands(app: typer.Typer) -> None:
    """Everything that touches the database, the broker or a device itself."""
    from forebay import keys

    app.command()(up)
    app.command()(api)
    app.command()(worker)
    app.command()(keeper)
    app.command()(migrate)
    app.command()(doctor)
    app.command()(demo)
    app.add_typer(keys.app, name="keys")
    models.trusted_push[:] = [push_trusted]


def translators() -> tuple[Translate, ...]:
    """How errors of any floor become a message and an exit code."""
    return (from_client, from_service, from_missing_part)


def from_service(error: Exception) -> Failure | None:
    """An error of our own tree, met by an operator's verb."""
    if "storage.records.errors" not in sys.modules:
        return None
    from storage.records.errors import ForebayError, Unavailable

    if not isinstance(error, ForebayError):
        return None
    down = isinstance(error, Unavailable)
    return Failure(
        error.message,
        exit_code=Exit.UNREACHABLE if down else Exit.USAGE,
        code=error.stable_code,
        hint="forebay doctor says more" if down else None,
        details={"field": error.field} if error.field else {},
    )


def from_missing_part(error: Exception) -> Failure | None:
    """A verb whose extra is not installed."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    if package in ("storage", "producers", "workers", "forebay"):
        return None  # a fault of ours
    return Failure(
        f"this verb needs the package {package}, which is not installed here",
        exit_code=Exit.USAGE,
        code="not_installed",
        hint="pip install 'forebay[server]' for the service, 'forebay[cpu]' or '[gpu]' for workers",
    )


def up(host: Host = "127.0.0.1", port: Port = 8080, as_json: AsJson = False) -> None:
    """Run everything here: SQLite, local files, no services needed."""
    from forebay.up import run_up

    raise typer.Exit(run_up(host, port, os.environ, as_json=as_json))


def api(host: Host = "127.0.0.1", port: Port = 8080, as_json: AsJson = False) -> None:
    """Serve the API (and its relay) of a full installation."""
    from forebay.api import run_api

    raise typer.Exit(run_api(host, port, os.environ, as_json=as_json))


def worker(
    devices: Annotated[
        str, typer.Option(help="auto, cpu, or GPU numbers such as 0,1: one process for each.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Work on this machine's devices."""
    from forebay.composition import start_logging
    from forebay.worker import run_workers
    from storage.settings import Settings

    start_logging()
    raise typer.Exit(run_workers(Settings.from_environment(os.environ), os.environ, devices))


def keeper(as_json: AsJson = False) -> None:
    """Run the background duties and a relay."""
    from forebay.composition import start_logging
    from forebay.keeper import run_keeper
    from storage.settings import Settings

    start_logging()
    raise typer.Exit(run_keeper(Settings.from_environment(os.environ), os.environ))


def migrate(as_json: AsJson = False) -> None:
    """Bring the database's schema up to date."""
    from forebay.composition import open_database
    from producers.cli.output import say, say_json
    from storage.settings import Settings

    settings = Settings.from_environment(os.environ)
    if settings.embedded:
        settings.home.mkdir(parents=True, exist_ok=True)
    database = open_database(settings)
    applied = database.migrate()
    database.close()
    if as_json:
        say_json({"applied": applied})
    else:
        say(f"applied {', '.join(applied)}" if applied else "the schema is current")


def doctor(as_json: AsJson = False) -> None:
    """Say of each configured part whether it works, and what to do if not."""
    from forebay.doctor import run_doctor
    from storage.settings import Settings

    good = run_doctor(Settings.from_environment(os.environ), os.environ, as_json=as_json)
    raise typer.Exit(Exit.GOOD if good else Exit.FAILED)


def demo(
    data: Annotated[
        Path | None,
        typer.Option(envvar="FOREBAY_DEMO_DATA", help="The digits, if pip cannot fetch them."),
    ] = None,
    cache: Annotated[Path, typer.Option(envvar="XDG_CACHE_HOME", hidden=True)] = Path("~/.cache"),
    full: Annotated[
        bool, typer.Option("--full", help="Five trainings besides, with their curves as pictures.")
    ] = False,
    pictures: Annotated[Path, typer.Option(help="Where --full leaves curves and answers.")] = Path(
        "forebay-demo"
    ),
    as_json: AsJson = False,
) -> None:
    """The main job on real digits: train, push, submit 1,000, wait, and tell."""
    from forebay.demo import run_demo

    cached = cache.expanduser() / "forebay" / "data"
    run_demo(data, cached, os.environ, as_json=as_json, full=pictures if full else None)


def push_trusted(
    name: str,
    file: Path,
    options: Mapping[str, Any],
    tenant: str | None,
    said: Mapping[str, str | None],
) -> Mapping[str, Any]:
    """``forebay models push --trusted``: past the API, on the operator's word."""
    from forebay.trusted import push

    return push(name, file, options, tenant, said, os.environ)
