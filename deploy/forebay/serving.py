"""What ``forebay api`` and ``forebay up`` have in common: parts of the API, and the port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from producers.cli.exits import Exit, Failure
from producers.cli.output import say, say_json
from storage.settings import Settings

if TYPE_CHECKING:
    from producers.api.app import ApiServer
    from producers.api.news import OpenNews
    from producers.express import Express
    from storage.database import Database


def make_server(
    settings: Settings,
    environ: Mapping[str, str],
    database: Database,
    host: str,
    port: int,
    *,
    poke: Callable[[], None],
    trouble: Callable[[], str | None],
    news: OpenNews,
    express: Express | None = None,
) -> ApiServer:
    """The API over these parts, not yet listening. ``express`` needs the broker in reach."""
    from producers.api.app import ApiServer, create_app
    from producers.api.parts import ApiParts
    from producers.settings import ApiSettings, from_environment
    from storage.objects import open_objects

    require_free(host, port)
    parts = ApiParts(
        database=database,
        objects=open_objects(settings.objects_url),
        poke=poke,
        broker_trouble=trouble,
        express=express,
        news=news,
        settings=from_environment(ApiSettings, environ),
    )
    return ApiServer(create_app(parts), host, port)


def require_free(host: str, port: int) -> None:
    """Say clearly that an address cannot be listened on, before anything else is started."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "it is in use" if taken else (error.strerror or str(error))
        raise Failure(
            f"cannot listen on {host}:{port}: {why}",
            exit_code=Exit.USAGE,
            code="port_in_use" if taken else "cannot_listen",
            hint="stop what listens there, or choose another with --port" if taken else None,
        ) from error


def tell(event: str, text: str, *, as_json: bool, **facts: object) -> None:
    """One line about a service's life: a sentence, or a JSON document a line."""
    if as_json:
        say_json({"event": event, **facts}, compact=True)
    else:
        say(text)
