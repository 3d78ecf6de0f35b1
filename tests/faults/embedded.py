"""The stage of the embedded mode: ``forebay up`` in a home on a disk of its own, a small one.

The disk is a tmpfs, so that it can be full; that takes root. Everything else a fault needs is as
on the other stage: the same callers, the same auditor, who reads tables and packs all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.fault import Fault
from tests.faults.files import LocalFiles
from tests.faults.light_device import CONTROL
from tests.faults.load import Load, Person
from tests.faults.stack import OURS, ROOT
from tests.faults.stage import FINISHED, FINISHED_PACKS, TENANTS, OneStack, push_echo
from tests.faults.wire.amqp import AmqpWire
from tests.faults.wire.http import HttpWire
from tests.faults.wire.line import Line
from tests.faults.wire.postgres import PostgresWire
from tests.support.process import ChildProcess
from tests.support.stack import EmbeddedStack
from workers.inference.ledger import OnDevice, read

DISK_BYTES = 48 << 20
_NAME = "forebay-faults-"  # of the file system; the process that mounted it follows


class SmallDisk:
    """A tmpfs at a folder. Those of test runs that were killed are unmounted first."""

    def __init__(self, folder: Path, size_bytes: int = DISK_BYTES) -> None:
        self.folder = folder
        for name, place in _mounted():
            if not Path(f"/proc/{name.removeprefix(_NAME)}").exists():
                subprocess.run(["umount", "--lazy", place], check=True)
        folder.mkdir(parents=True)
        options = f"size={size_bytes}"
        command = ["mount", "-t", "tmpfs", "-o", options, f"{_NAME}{os.getpid()}", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FileNotFoundError(f"no tmpfs can be mounted (are we root?): {done.stderr}")

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> int:
        """Until there is no byte left; how many it took."""
        with self.filler.open("wb", buffering=0) as file:
            block = bytes(1 << 16)
            while block:
                try:
                    file.write(block)
                except OSError:
                    block = block[: len(block) // 2]
        return self.filler.stat().st_size

    def make_room(self) -> None:
        self.filler.unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


def _mounted() -> Iterator[tuple[str, str]]:
    for line in Path("/proc/mounts").read_text().splitlines():
        name, place, *_ = line.split(" ")
        if name.startswith(_NAME):
            yield name, place


class SmallStack(EmbeddedStack):
    """``forebay up``, as far as a scene has to know a stack. There is nothing between its parts
    that a proxy could stand in."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.disk = folder, SmallDisk(folder / "home")
        control = self.control()
        control.mkdir(parents=True)
        self.files = LocalFiles(folder / "files")
        about = {"PYTHONPATH": OURS, CONTROL: str(control), **self.files.environment()}
        super().__init__(folder, {**about, **environment})
        self.broker, self.database = Line(0, AmqpWire), Line(0, PostgresWire)
        self.objects = Line(0, HttpWire)

    def start(self, *names: str) -> None:
        light = [sys.executable, "-m", "tests.faults.light_up"]
        self._running["up"] = ChildProcess(
            [*light, *self.parts["up"]], log=self.folder / "up.log", env=self.environment, cwd=ROOT
        )
        self.wait_ready()

    def control(self, worker: str = "worker") -> Path:
        """The folder that steers the light device."""
        return self.folder / "control" / worker

    def ledger(self, worker: str = "worker") -> OnDevice | None:
        """What the worker says of itself."""
        return read(self.home / "worker.ledger")

    @property
    def file(self) -> Path:
        """The database."""
        return self.home / "forebay.db"

    def runs(self, name: str = "up") -> bool:
        return name in self._running and self._running[name].alive()

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """To the database, as another process."""
        connection = sqlite3.connect(self.file, timeout=20, isolation_level=None)
        try:
            yield connection
        except sqlite3.Error as error:  # as the other stage's would be, for who waits
            raise psycopg.OperationalError(f"{self.file}: {error}") from error
        finally:
            connection.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return connection.execute(statement).fetchall()

    def close(self) -> None:
        super().close()
        self.disk.close()


class SmallStage(OneStack[SmallStack]):
    """Where faults of the embedded mode are played."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder, self._environment = folder, dict(environment or {})
        self._count = 0

    def ready(self, fault: Fault) -> tuple[SmallStack, Load]:
        """A stack on which everything runs, with an empty past."""
        if self._stack is None:
            self._make()
        assert self._stack is not None and self._load is not None
        if not self._stack.runs():
            self._stack.start()
        self._stack.wait_ready()
        return self._stack, self._load

    def _make(self) -> None:
        self._count += 1
        stack = SmallStack(self._folder / f"stack-{self._count}", self._environment)
        self._stack = stack
        try:
            stack.start()
            people = []
            for tenant in TENANTS:
                key = stack.new_key(tenant)
                with stack.caller(key) as caller:
                    push_echo(caller)
                people.append(Person(stack.url, tenant, key))
            self._load = Load(people)
        except BaseException:
            self.drop()
            raise

    def collect(self, stack: SmallStack, folder: Path) -> None:
        """What the auditor reads besides the book."""
        tables = folder / "tables"
        tables.mkdir(parents=True)
        with stack.connected() as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")  # one snapshot
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in names.fetchall():
                rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
                lines = [json.dumps(dict(row), default=bytes.hex) for row in rows]
                (tables / f"{name}.jsonl").write_text("\n".join(lines))
            connection.execute("ROLLBACK")
        for kind in ("packs", "bulk", "models"):
            if (stack.home / "objects" / kind).exists():
                shutil.copytree(stack.home / "objects" / kind, folder / "objects" / kind)
        stack.files.dump(folder / "files")

    def forget(self, stack: SmallStack) -> None:
        """Take the audited past away."""
        with stack.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in FINISHED:
                connection.execute(statement)
            keys = [key for (key,) in connection.execute(FINISHED_PACKS).fetchall()]
            connection.execute("COMMIT")
        for key in keys:
            (stack.home / "objects" / key).unlink(missing_ok=True)
        stack.files.clear()
