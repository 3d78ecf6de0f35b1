"""``forebay keeper``: the background duties and a relay, for the full mode."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping

from forebay.composition import duties, open_database, require_schema, require_services
from forebay.relaying import make_relay
from storage.settings import Settings


def run_keeper(settings: Settings, environ: Mapping[str, str]) -> int:
    """Keep until SIGTERM or SIGINT."""
    from storage.objects import open_objects
    from workers.keeper.loop import Keeper

    require_services(settings, "keeper")
    database = open_database(settings)
    require_schema(database)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    relay = make_relay(settings, environ, database)
    relaying = threading.Thread(target=relay.run, args=(stop,), name="forebay-relay")
    relaying.start()
    try:
        Keeper(database, open_objects(settings.objects_url), duties(settings)).run(stop)
    finally:
        stop.set()
        relay.poke()
        relaying.join()
        database.close()
    return 0
