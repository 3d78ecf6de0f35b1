"""``forebay worker``: a supervisor, and one process per device under it (``device``)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from forebay.composition import (
    KILL_AFTER_DRAIN_S,
    open_database,
    require_schema,
    require_services,
    worker_settings,
)
from storage.settings import Settings


def run_workers(settings: Settings, environ: Mapping[str, str], devices: str) -> int:
    """Supervise until SIGTERM or SIGINT; the exit code."""
    from workers.devices import choose
    from workers.supervisor import SupervisorParts, run_supervisor

    require_services(settings, "worker")
    chosen = choose(devices)
    drain_s = worker_settings(settings, environ).drain_s
    database = open_database(settings)
    require_schema(database)
    parts = SupervisorParts(
        database=database,
        child_argv=[sys.executable, "-P", "-m", "forebay.device"],
        environ=environ,
        devices=chosen,
        run_dir=settings.home / "run",
        stop_grace_s=drain_s + KILL_AFTER_DRAIN_S,
    )
    return run_supervisor(parts)
