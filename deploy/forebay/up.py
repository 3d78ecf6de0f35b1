"""``forebay up``: everything in one place. This process is the API; its child is the worker.

They start and end together (``child`` says how), in a home that is locked for both of them.
Work that was accepted outlives them: at the next start it is queued again without waiting for
anybody's lease, as the lock proves that nobody else can be alive.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping

from forebay.child import Child, ChildParts
from forebay.composition import (
    KILL_AFTER_DRAIN_S,
    open_database,
    share_the_interpreter,
    start_logging,
    worker_settings,
)
from forebay.home import HomeLock, lock_home
from forebay.serving import make_server, tell
from producers.cli.exits import Exit, Failure
from storage.database import Database
from storage.settings import Settings
from workers.devices import DeviceChoice, choose
from workers.keeper.recovery import recover_alone

log = logging.getLogger("forebay.up")


def run_up(host: str, port: int, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Serve until SIGTERM, SIGINT or the worker's end."""
    start_logging(logging.WARNING)
    share_the_interpreter()
    settings = Settings.from_environment(environ)
    if not settings.embedded:
        raise Failure(
            "forebay up is the embedded mode, but FOREBAY_BROKER_URL names a broker",
            exit_code=Exit.USAGE,
            code="not_embedded",
            hint="run forebay api, forebay worker and forebay keeper; or unset the three URLs",
        )
    device = choose("auto")[0]
    lock = lock_home(settings.home, os.getpid())
    database = open_database(settings)
    try:
        return _Embedded(settings, environ, database, device, lock, as_json).run(host, port)
    finally:
        database.close()
        lock.release()


class _Embedded:
    """One life of the embedded mode."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        database: Database,
        device: DeviceChoice,
        lock: HomeLock,
        as_json: bool,
    ) -> None:
        self._settings, self._environ, self._database = settings, environ, database
        self._device, self._as_json = device, as_json
        self._died: str | None = None
        self._url = ""
        self._listening = threading.Event()
        self._child = Child(
            ChildParts(
                database=database,
                device=device,
                environ=environ,
                ledger=settings.home / "worker.ledger",
                lock_fd=lock.fd,
                on_ready=self._on_ready,
                on_death=self._on_death,
                stop_grace_s=worker_settings(settings, environ).drain_s + KILL_AFTER_DRAIN_S,
            )
        )

    def run(self, host: str, port: int) -> int:
        self._server = make_server(
            self._settings,
            self._environ,
            self._database,
            host,
            port,
            poke=self._child.poke,
            trouble=self._child.trouble,
            news=lambda: self._child.news,
        )
        self._database.migrate()
        # A ledger of the run before blames nobody: everything of it was killed together.
        (self._settings.home / "worker.ledger").unlink(missing_ok=True)
        recovered = recover_alone(self._database)
        if recovered:
            text = f"{recovered:,} jobs of the run before are queued again"
            tell("recovered", text, as_json=self._as_json, jobs=recovered)
        watching = threading.Thread(target=self._child.run, name="forebay-child", daemon=True)
        watching.start()
        try:
            self._server.run(self._on_listening)
        finally:
            code = self._child.stop()
            watching.join(5.0)
            self._child.close()
        if self._died is not None:
            raise Failure(
                f"the worker process died ({self._died}), and the service ended with it",
                exit_code=Exit.FAILED,
                code="worker_died",
                hint="accepted work is safe: forebay up again, and it is done",
            )
        return Exit.GOOD if code in (0, 130) else Exit.FAILED

    def _on_listening(self, url: str) -> None:
        self._url = url
        self._listening.set()
        tell(
            "listening",
            f"listening at {url}   (documentation: {url}/docs)\nhome {self._settings.home}\n"
            "the worker is starting; what is submitted now waits for it",
            as_json=self._as_json,
            url=url,
            home=str(self._settings.home),
            pid=os.getpid(),
        )

    def _on_ready(self) -> None:
        self._listening.wait()
        text = f"ready: a worker on {self._device.name}"
        tell("ready", text, as_json=self._as_json, url=self._url, device=self._device.name)

    def _on_death(self, how: str) -> None:
        self._died = how
        self._listening.wait()
        self._server.stop()
