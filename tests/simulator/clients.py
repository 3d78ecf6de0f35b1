"""The database and the object store as one process sees them: with faults, and with witnesses.

Every transaction and every call is a place where others may go first, where the process may be
stopped for a while, and where it may die.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from storage.database import Transaction
from storage.database.jobs import Jobs
from storage.records.errors import DatabaseUnavailable, ObjectsUnavailable
from storage.records.jobs import CommitReport, JobState, Outcome
from storage.records.packs import PackSummary
from tests.simulator.fake_objects import FakeObjects
from tests.simulator.scheduler import Crashed, Process

if TYPE_CHECKING:
    from tests.simulator.world import World


class WitnessedJobs(Jobs):
    """The product's verbs; what was said and what came of it is written down."""

    def __init__(self, work: Any, said: Said) -> None:
        super().__init__(work)
        self._witness = said

    def commit(
        self, session_id: str, outcomes: Sequence[Outcome], *, packs: Sequence[PackSummary] = ()
    ) -> CommitReport:
        report = super().commit(session_id, outcomes, packs=packs)
        self._witness.commits.append((session_id, outcomes, report))
        return report

    def blame(
        self, session_id: str, ids: Sequence[str], *, in_company: bool = False
    ) -> dict[str, JobState]:
        found = super().blame(session_id, ids, in_company=in_company)
        self._witness.verbs.add("blame")
        return found

    def time_out(self, limit: int = 1000) -> int:
        self._witness.verbs.add("time_out")
        return super().time_out(limit)


class Said:
    """What one transaction said."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, Sequence[Outcome], CommitReport]] = []
        self.verbs: set[str] = set()


class Database:
    """``storage.database.Database``, for one process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self.has_one_writer = world.one_writer

    @contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Transaction]:
        world, process = self._world, self._process
        world.boundary(process, "begin")
        self._ask()
        fate = world.faults.one_of(
            "database: no begin", "database: commit failed", "database: reply lost"
        )
        if fate:
            world.happenings.fault(world.now_ms, process.name, fate)
        if fate == "database: no begin":
            self._fail("no connection")
        said = Said()
        # Chosen before the body, so that no call of the world lies between it and the commit.
        dies = world.dies(process, "before its commit")
        with world.begin(lasting=lasting) as tx:
            tx.__dict__["jobs"] = WitnessedJobs(tx._work, said)
            yield tx
            if dies:
                world.kill(process)
                raise Crashed
            if fate == "database: commit failed":
                self._fail("the commit failed")
        world.committed(process, said)
        if fate == "database: reply lost":
            self._fail("the reply to the commit was lost")
        if not lasting and world.faults.happens("database: crash takes back a claim"):
            world.take_back(process)
        world.boundary(process, "committed")

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        self._world.boundary(self._process, "read")
        self._ask()
        with self._world.read() as tx:
            yield tx

    def ping(self) -> None:
        self._ask()

    def listen(self) -> None:
        """No news here."""

    def _ask(self) -> None:
        world = self._world
        if world.faults.happens("database: slow"):  # for this thread: a lock, or no connection free
            world.happenings.fault(world.now_ms, self._process.name, "database: slow")
            seconds = world.chance.choice((1, 8, 30)) * world.chance.random() * 1.5
            world.scheduler.sleep(self._process, seconds)
        if world.faults.happens("database: down"):
            world.happenings.fault(world.now_ms, "database", "database: down")
            world.database_down_until_ms = world.now_ms + int(world.chance.random() * 40_000)
        if world.now_ms < world.database_down_until_ms:
            self._fail("it is down")

    def _fail(self, why: str) -> None:
        self._process.troubles += 1
        raise DatabaseUnavailable(why)


class Objects(FakeObjects):
    """The store in memory, for one process."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.stored)
        self._world, self._process = world, process

    def put(self, key: str, data: bytes) -> None:
        world, process = self._world, self._process
        world.boundary(process, "put")
        self._ask()
        world.invariants.put(key)
        fate = world.faults.one_of("objects: put failed", "objects: put arrived, reply lost")
        if fate:
            world.happenings.fault(world.now_ms, process.name, fate)
            self.put_failed(key, data, arrived=fate != "objects: put failed")
            raise ObjectsUnavailable("the store did not answer")
        super().put(key, data)
        world.happenings.note(world.now_ms, process.name, f"put {key[-18:]}")
        world.boundary(process, "stored")

    def put_failed(self, key: str, data: bytes, *, arrived: bool) -> None:
        name = self._name(key)
        if arrived and name not in self.stored:
            self.stored[name] = bytes(data)
        self._unsure.setdefault(name, bytes(data))

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        self._world.boundary(self._process, "get")
        self._ask()
        if self._world.faults.happens("objects: read cut"):
            self._world.happenings.fault(
                self._world.now_ms, self._process.name, "objects: read cut"
            )
            raise ObjectsUnavailable("the body was cut")
        return super().get_range(key, offset_bytes, length_bytes, etag=etag)

    def delete(self, keys: Sequence[str]) -> None:
        self._world.boundary(self._process, "delete")
        self._ask()
        super().delete(keys)

    def probe(self) -> None:
        self._ask()

    def _ask(self) -> None:
        world = self._world
        if world.faults.happens("objects: down"):
            world.happenings.fault(world.now_ms, "objects", "objects: down")
            world.objects_down_until_ms = world.now_ms + int(world.chance.random() * 60_000)
        if world.faults.happens("objects: slow"):
            world.happenings.fault(world.now_ms, self._process.name, "objects: slow")
            world.scheduler.sleep(self._process, world.chance.random() * 5)
        if world.now_ms < world.objects_down_until_ms:
            raise ObjectsUnavailable("the store is down")
