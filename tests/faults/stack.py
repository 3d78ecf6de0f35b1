"""The whole product in processes, each behind proxies of its own to each service."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.faults.files import S3Files
from tests.faults.light_device import CONTROL
from tests.faults.wire.amqp import AmqpWire
from tests.faults.wire.http import HttpWire
from tests.faults.wire.line import Line
from tests.faults.wire.postgres import PostgresWire
from tests.support.ports import free_port
from tests.support.process import ChildProcess
from tests.support.stack import FullStack, Servers, Services, command, descendants
from tests.support.waiting import wait_until
from workers.inference.ledger import OnDevice, read

ROOT = Path(__file__).resolve().parents[2]
OURS = os.pathsep.join((str(ROOT), str(ROOT / "deploy")))  # and nothing that is installed
STANDARD = ("api", "keeper", "worker")  # what always runs; the others only when a fault starts them


class FaultStack(FullStack):
    """``api``, ``keeper`` and ``worker`` run from the start; ``worker2``, ``keeper2`` and ``api2``
    when they are asked for. A device process is light unless ``heavy``."""

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        environment: Mapping[str, str] | None = None,
        *,
        heavy: bool = False,
    ) -> None:
        self.servers, self.heavy = servers, heavy
        self.api2_port = free_port()
        services: Services = servers.services()
        self.files = S3Files(servers.s3.buckets, f"{services.objects_url}-files")
        about = {"PYTHONPATH": OURS, **self.files.environment(), **(environment or {})}
        super().__init__(folder, services, about)
        self.broker = Line(servers.rabbitmq.port, AmqpWire)
        self.database = Line(servers.postgres.port, PostgresWire)
        self.objects = Line(servers.s3.port, HttpWire)
        self.extra: dict[str, dict[str, str]] = {}  # more environment for one part

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        worker = ["worker", "--devices", "cpu"]
        return {
            "api": ["api", "--port", str(self.port)],
            "api2": ["api", "--port", str(self.api2_port)],
            "keeper": ["keeper"],
            "keeper2": ["keeper"],
            "worker": worker,
            "worker2": worker,
        }

    def environment_of(self, name: str) -> dict[str, str]:
        services = self.services
        control = self.control(name)
        control.mkdir(parents=True, exist_ok=True)
        database = _through(services.database_url, self.database[name].port)
        return {
            **self.environment,
            "FOREBAY_HOME": str(self.folder / f"home-{name}"),
            "FOREBAY_BROKER_URL": _through(services.broker_url, self.broker[name].port),
            "FOREBAY_DATABASE_URL": f"{database}?sslmode=disable&gssencmode=disable",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.objects[name].port}",
            CONTROL: str(control),
            **self.extra.get(name, {}),
        }

    def control(self, worker: str) -> Path:
        """The folder that steers a light device."""
        return self.folder / "control" / worker

    def start(self, *names: str) -> None:
        """Start these parts, or those that always run, and wait for the service."""
        self.spawn(*(names or STANDARD))
        if "api" in self._running:
            self.wait_ready()
        for name in names or STANDARD:
            if name.startswith("worker"):
                self.wait_device(name)

    def spawn(self, *names: str) -> None:
        """Start these parts and wait for nothing."""
        for name in names:
            if name in self._running:  # a fault ended it: what is left of it goes before
                self._running[name].kill()
            light = [sys.executable, "-m", "tests.faults.light_worker"]
            is_light = name.startswith("worker") and not self.heavy
            self._running[name] = ChildProcess(
                light if is_light else command(*self.parts[name]),
                log=self.folder / f"{name}.log",
                env=self.environment_of(name),
                cwd=ROOT,
            )

    def runs(self, name: str) -> bool:
        """Whether the part was started and has not been stopped or killed, or ended."""
        return name in self._running and self._running[name].alive()

    def device(self, worker: str = "worker") -> int:
        """The process that computes; waits for one that is being started."""
        return wait_until(
            lambda: next(iter(descendants(self.pid(worker))), 0), 30, what=f"a device of {worker}"
        )

    def ledger(self, worker: str = "worker") -> OnDevice | None:
        """What the device process says of itself."""
        run = self.folder / f"home-{worker}" / "run"
        for path in run.glob(f"*-{self.pid(worker)}.ledger"):
            return read(path)
        return None

    def wait_device(self, worker: str = "worker", deadline_s: float = 60) -> None:
        """Until the worker has a session, which is when it begins to consume."""

        def open_() -> bool:
            self._running[worker].require_alive()
            ledger = self.ledger(worker)
            return ledger is not None and ledger.session_id is not None

        wait_until(open_, deadline_s, what=f"a session of {worker}")

    def kill_device(self, worker: str = "worker") -> None:
        """SIGKILL to the process that computes; its supervisor lives on."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.device(worker), signal.SIGKILL)

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Straight to the database, past every proxy."""
        with psycopg.connect(self.services.database_url, connect_timeout=5) as connection:
            done = connection.execute(statement, values)
            return done.fetchall() if done.description else []

    def signal(self, number: signal.Signals, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, number)

    def close(self) -> None:
        super().close()
        for line in (self.broker, self.database, self.objects):
            line.close()


def _through(url: str, port: int) -> str:
    """The URL by way of a proxy."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
