"""A whole Forebay in processes of its own, as a user or an operator would start it.

Two modes with one face: ``embedded`` is ``forebay up`` on a folder; ``full`` is ``forebay api``,
``forebay worker`` and ``forebay keeper`` on RabbitMQ, PostgreSQL and S3. Parts can be killed and
started again; everything goes when the stack is closed, and with the process that made it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.caller import Caller
from tests.support.ports import free_port
from tests.support.postgres import Databases, Postgres
from tests.support.process import ChildProcess
from tests.support.rabbitmq import RabbitMQ, Vhosts
from tests.support.s3 import S3, Buckets
from tests.support.waiting import wait_until

START_DEADLINE_S = 90.0  # TensorFlow's import on a busy machine
LOG_TAIL = 6_000


class Stack:
    """Processes with one environment. ``parts`` maps a part's name to its arguments."""

    mode: str

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **_clean_environment(),
            "FOREBAY_API_URL": self.url,
            "FOREBAY_WORKER_CACHE_DIR": str(folder / "cache"),
            **environment,
        }
        self._running: dict[str, ChildProcess] = {}

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """What runs, in the order in which it is started."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What an operator does once before the first start."""

    def start(self, *names: str) -> None:
        """Start these parts, or all; returns when the service says that it is ready."""
        for name, arguments in self.parts.items():
            if name in (names or self.parts):
                self._running[name] = ChildProcess(
                    command(*arguments),
                    log=self.folder / f"{name}.log",
                    env=self.environment_of(name),
                )
        self.wait_ready()

    def environment_of(self, name: str) -> dict[str, str]:
        """What this part finds in its environment; the same for all, unless a test says more."""
        return self.environment

    def wait_ready(self, deadline_s: float = START_DEADLINE_S) -> None:
        """Until ``/readyz`` says yes; at once an error when a part ended meanwhile."""

        def ready() -> bool:
            for part in self._running.values():
                part.require_alive()
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200

        try:
            wait_until(
                ready, deadline_s, what="the service", every_s=0.1, ignoring=(httpx.HTTPError,)
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def pid(self, name: str) -> int:
        """The process of a part."""
        return self._running[name].pid

    def kill(self, *names: str) -> None:
        """``kill -9`` these parts and what they started, or all of it, as near to at once as
        it gets: everything is stopped by SIGKILL before anything is waited for."""
        chosen = [self._running.pop(name) for name in names or tuple(self._running)]
        tree = [pid for part in chosen for pid in (part.pid, *descendants(part.pid))]
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for part in chosen:
            part.kill()
        for pid in tree:
            wait_until(lambda pid=pid: not _runs(pid), 20, what=f"the end of process {pid}")

    def stop(self, *names: str) -> None:
        """Ask these parts, or all, to end (SIGTERM), the last started first."""
        for name in names or tuple(reversed(self._running)):
            self._running.pop(name).stop(deadline_s=45)

    def close(self) -> None:
        """End everything without ceremony."""
        if self._running:
            self.kill()

    def kill_worker(self) -> None:
        """``kill -9`` what computes, and whatever cannot go on without it."""
        raise NotImplementedError

    def start_worker(self) -> None:
        """What ``kill_worker`` ended, started again."""
        raise NotImplementedError

    def kill_device(self) -> None:
        """``kill -9`` the process that computes; whoever looks after it starts another."""
        self.kill_worker()
        self.start_worker()

    def caller(self, key: str | None = None) -> Caller:
        """Somebody who speaks HTTP to the service, with a tenant's key or without one."""
        return Caller(self.url, key)

    def run(
        self,
        *arguments: str,
        key: str | None = None,
        deadline_s: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """One ``forebay …`` command with the stack's environment."""
        own = {"FOREBAY_API_KEY": key} if key else {}
        return subprocess.run(
            command(*arguments),
            env={**self.environment, **own, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=deadline_s,
            stdin=subprocess.DEVNULL,
        )

    def new_key(self, tenant: str) -> str:
        """A key for ``tenant``, made as an operator makes it."""
        done = self.run("keys", "create", "--tenant", tenant, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return str(json.loads(done.stdout)["key"])

    def logs(self) -> str:
        """The end of every part's log."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-LOG_TAIL:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


class EmbeddedStack(Stack):
    """``forebay up``: SQLite, files and an in-process broker."""

    mode = "embedded"

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = folder / "home"
        super().__init__(folder, {"FOREBAY_HOME": str(self.home), **(environment or {})})

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        return {"up": ["up", "--port", str(self.port)]}

    def kill_worker(self) -> None:
        """The worker process is the API's child, and neither outlives the other."""
        part = self._running.pop("up")
        tree = descendants(part.pid)
        assert tree, "forebay up has no child process"
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not part.alive(), 20, what="the end of forebay up after its worker's")
        part.kill()

    def start_worker(self) -> None:
        self.start("up")


class FullStack(Stack):
    """``forebay api``, ``worker`` and ``keeper`` on real services."""

    mode = "full"

    def __init__(
        self, folder: Path, services: Services, environment: Mapping[str, str] | None = None
    ) -> None:
        self.services = services
        super().__init__(folder, {**services.environment(), **(environment or {})})

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        return {
            "api": ["api", "--port", str(self.port)],
            "keeper": ["keeper"],
            "worker": ["worker", "--devices", "cpu"],
        }

    def prepare(self) -> None:
        done = self.run("migrate")
        assert done.returncode == 0, done.stdout + done.stderr

    def kill_worker(self) -> None:
        self.kill("worker")

    def start_worker(self) -> None:
        self.start("worker")

    def kill_device(self) -> None:
        """Its supervisor lives on, blames what was on the device, and starts the next one."""
        (device,) = descendants(self.pid("worker"))
        os.kill(device, signal.SIGKILL)
        wait_until(lambda: not _runs(device), 20, what=f"the end of process {device}")


class Services:
    """A vhost, a database and a bucket, or a place in one, of one stack's own."""

    def __init__(
        self, vhosts: Vhosts, databases: Databases, buckets: Buckets, bucket: str | None = None
    ) -> None:
        self.broker_url = vhosts.url(vhosts.create())
        self.database_url = databases.url(databases.create())
        self.objects_url = f"s3://{bucket or buckets.create()}/{uuid.uuid4().hex[:12]}"
        self._s3 = buckets.env()

    def environment(self) -> dict[str, str]:
        """The variables that name them."""
        return {
            **self._s3,
            "FOREBAY_BROKER_URL": self.broker_url,
            "FOREBAY_DATABASE_URL": self.database_url,
            "FOREBAY_OBJECTS_URL": self.objects_url,
        }


@dataclass(frozen=True)
class Servers:
    """Running servers, which many stacks can share without meeting."""

    rabbitmq: RabbitMQ
    postgres: Postgres
    s3: S3
    bucket: str  # one for all: the S3 server has room for a few only

    def services(self) -> Services:
        """A fresh vhost, database and place for objects."""
        vhosts, databases = self.rabbitmq.vhosts, self.postgres.databases
        return Services(vhosts, databases, self.s3.buckets, self.bucket)


@contextlib.contextmanager
def private_servers() -> Iterator[Servers]:
    """RabbitMQ, PostgreSQL (with fsync) and S3 for a run outside pytest."""
    with contextlib.ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="forebay-run-")))
        folder.chmod(0o711)  # PostgreSQL runs as nobody when we are root, and must walk through
        for name in ("rabbitmq", "postgres", "s3"):
            (folder / name).mkdir()
        rabbitmq, s3 = RabbitMQ(folder / "rabbitmq"), S3(folder / "s3")
        postgres = Postgres(folder / "postgres", durable=True)
        for service in (rabbitmq, postgres, s3):
            cleanup.callback(service.close)
            service.start()
        yield Servers(rabbitmq, postgres, s3, s3.buckets.create())


def command(*arguments: str) -> list[str]:
    """``forebay …`` by this interpreter: what the installed script runs."""
    beside = Path(sys.executable).with_name("forebay")
    return [str(beside), *arguments]


def descendants(pid: int) -> list[int]:
    """The processes below ``pid``, nearest first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop(0)
        for task in _tasks(parent):
            with contextlib.suppress(OSError):
                children = [int(word) for word in (task / "children").read_text().split()]
                found += children
                waiting += children
    return found


def _tasks(pid: int) -> list[Path]:
    """A process's threads; none of one that has ended, be it while they are listed."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _runs(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _clean_environment() -> dict[str, Any]:
    """The caller's environment without settings of Forebay or boto3 that it may hold."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FOREBAY_", "AWS_", "COLUMNS"))
    }
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "NO_COLOR": "1"}
