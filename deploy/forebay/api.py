"""``forebay api``: the API of a full installation, with a relay in its process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from forebay.composition import (
    open_database,
    require_schema,
    require_services,
    share_the_interpreter,
    start_logging,
)
from forebay.relaying import make_relay
from forebay.serving import make_server, tell
from storage.settings import Settings


def run_api(host: str, port: int, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT."""
    start_logging()
    share_the_interpreter()
    settings = Settings.from_environment(environ)
    require_services(settings, "api")
    database = open_database(settings)
    require_schema(database)
    relay = make_relay(settings, environ, database)
    server = make_server(
        settings,
        environ,
        database,
        host,
        port,
        poke=relay.poke,
        trouble=lambda: relay.trouble,
        express=relay,
        news=database.listen,
    )
    stop = threading.Event()
    relaying = threading.Thread(target=relay.run, args=(stop,), name="forebay-relay")
    relaying.start()

    def listening(url: str) -> None:
        text = f"listening at {url}   (documentation: {url}/docs)"
        tell("listening", text, as_json=as_json, url=url, pid=os.getpid())

    try:
        server.run(listening)
    finally:
        stop.set()
        relay.poke()
        relaying.join()
        database.close()
    return 0
