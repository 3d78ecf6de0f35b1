"""The worker process of ``forebay up``: device, in-process broker, relay and keeper in one.

It ends with its parent whatever happens: the kernel signals it, and a pipe that only the parent
writes to ends. The same pipe carries pokes: one byte says that there is new work. Another one
carries news back: which jobs a commit settled.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from forebay.composition import (
    duties,
    open_database,
    share_the_interpreter,
    start_logging,
    worker_settings,
)
from forebay.device import worker_parts
from forebay.news_pipe import tell
from forebay.relaying import make_relay
from storage.objects import open_objects
from storage.settings import Settings

ORPHAN_GRACE_S = 5.0  # a running batch may end; then the process does, come what may


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Work until the parent says stop, or is gone."""
    from workers.keeper.loop import Keeper
    from workers.process import run_worker

    wanted = _arguments(argv)
    start_logging(logging.WARNING)
    share_the_interpreter()
    # It has no address, and kombu wonders about that at every connection.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    settings = Settings.from_environment(environ)
    tuned = dataclasses.replace(
        worker_settings(settings, environ), ledger=wanted.ledger, parent_pid=wanted.parent_pid
    )
    if "FOREBAY_WORKER_CACHE_DIR" not in environ:
        tuned = dataclasses.replace(tuned, cache_dir=settings.home / "cache")
    database, objects = open_database(settings), open_objects(settings.objects_url)
    relay = make_relay(settings, environ, database)
    keeper = Keeper(database, objects, duties(settings))
    orphaned = threading.Event()

    def listen(end: threading.Event) -> None:
        while not end.is_set():
            if not os.read(wanted.poke_fd, 4096):
                orphaned.set()
                if not end.wait(ORPHAN_GRACE_S):
                    os._exit(1)
                return
            relay.poke()

    def wake_relay_at_the_end(end: threading.Event) -> None:
        end.wait()
        relay.poke()  # else it sleeps on for seconds, and everybody waits for it

    others = (relay.run, keeper.run, wake_relay_at_the_end)
    parts = dataclasses.replace(
        worker_parts(settings, tuned, database, objects, environ, others),
        announce=functools.partial(tell, wanted.news_fd),
    )
    # Not one of the parts: it blocks in a read, which only the parent's end ends.
    end = threading.Event()
    threading.Thread(target=listen, args=(end,), name="forebay-parent", daemon=True).start()

    def ready(_: object) -> None:
        os.write(wanted.ready_fd, b"\0")

    try:
        return run_worker(parts, stop=orphaned, on_ready=ready)
    finally:
        end.set()
        database.close()


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m forebay.embedded")
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--poke-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--news-fd", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
