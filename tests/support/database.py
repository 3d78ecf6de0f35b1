"""Databases for tests, on both engines, and short words for what tests put into them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage.clock import random_bits
from storage.database import Database
from storage.database.tables import metadata
from storage.records.ids import uuid7, uuid7_series
from storage.records.jobs import (
    ClaimedJob,
    JobError,
    JobKind,
    NewJob,
    Outcome,
    PackSlice,
    Verdict,
)
from storage.records.models import ModelFormat, NewVersion
from storage.records.packs import NewPack, PackKind, PackSummary
from storage.records.sessions import NewSession
from tests.simulator.fake_database.database import FakeDatabase
from tests.support.postgres import Databases

START_MS = 1_800_000_000_000
LEASE_MS = 15_000
POOL = "default"
ALICE, BOB = "alice", "bob"


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._now_ms / 1000

    def pass_ms(self, elapsed_ms: int) -> None:
        self._now_ms += elapsed_ms


_counter = itertools.count()


def new_id() -> str:
    """An id later than every one before it."""
    return uuid7(START_MS + next(_counter), random_bits())


VERSION_ID = new_id()


def new_job(**fields: Any) -> NewJob:
    """A job that is like any other but for ``fields``."""
    plain: dict[str, Any] = {
        "id": new_id(),
        "kind": JobKind.INFERENCE,
        "model_name": "digits",
        "version_id": VERSION_ID,
        "version": 1,
        "pool": POOL,
        "payload": b'{"tensor": [1]}',
    }
    return NewJob(**plain | fields)


def new_jobs(count: int, **fields: Any) -> list[NewJob]:
    ids = uuid7_series(count, START_MS + next(_counter), random_bits())
    return [new_job(id=one, **fields) for one in ids]


def submit(database: Database, tenant: str = ALICE, count: int = 1, **fields: Any) -> list[str]:
    """Submit ``count`` jobs; their ids."""
    jobs = new_jobs(count, **fields)
    with database.begin() as tx:
        tx.jobs.submit(tenant, jobs)
    return [job.id for job in jobs]


def new_version(database: Database, tenant: str = ALICE, version_id: str | None = None) -> str:
    """A version of a model of its own; its id."""
    found = version_id or new_id()
    with database.begin() as tx:
        tx.models.push(
            tenant,
            NewVersion(found, f"m-{found}", ModelFormat.KERAS, "0" * 64, 1, f"models/{found}", {}),
        )
    return found


def open_session(database: Database, pool: str = POOL, lease_ttl_ms: int = LEASE_MS) -> str:
    session_id = new_id()
    with database.begin() as tx:
        tx.sessions.open(NewSession(session_id, "node", "host", "cpu", pool), lease_ttl_ms)
    return session_id


def claim(database: Database, session_id: str, ids: list[str]) -> list[ClaimedJob]:
    with database.begin() as tx:
        return tx.jobs.claim(session_id, ids)


def open_pack(database: Database, tenant: str = ALICE, kind: PackKind = PackKind.RESULT) -> str:
    pack_id = new_id()
    with database.begin() as tx:
        tx.packs.open(NewPack(pack_id, tenant, kind, f"{kind}/{pack_id}"))
    return pack_id


def summary(pack_id: str, entries: int = 1) -> PackSummary:
    return PackSummary(pack_id, entries, size_bytes=10 * entries)


def success(job: ClaimedJob, pack_id: str, index: int = 0) -> Outcome:
    where = PackSlice(pack_id, 10 * index, 10, "d" * 64)
    return Outcome(job.id, job.epoch, Verdict.SUCCEEDED, entered_device=True, result=where)


def failure(job: ClaimedJob, *, entered_device: bool = True) -> Outcome:
    error = JobError("bad_item", "it is bad")
    return Outcome(job.id, job.epoch, Verdict.FAILED, entered_device, error=error)


def retry(job: ClaimedJob, *, in_ms: int = 0, entered_device: bool = True) -> Outcome:
    error = JobError("hiccup", "try again")
    return Outcome(job.id, job.epoch, Verdict.RETRY, entered_device, error=error, retry_in_ms=in_ms)


def finish(database: Database, session_id: str, ids: list[str], tenant: str = ALICE) -> None:
    """Claim the jobs and commit a result for each."""
    pack_id = open_pack(database, tenant)
    with database.begin() as tx:
        claimed = tx.jobs.claim(session_id, ids)
        outcomes = [success(job, pack_id, index) for index, job in enumerate(claimed)]
        report = tx.jobs.commit(session_id, outcomes, packs=[summary(pack_id, len(claimed))])
    assert len(report.settled) == len(ids)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of ``database``."""
    return ManualClock()


@pytest.fixture(scope="module")
def migrated_postgres_url(databases: Databases) -> Iterator[str]:
    """A PostgreSQL database with the schema, for one module's tests one after another."""
    name = databases.create()
    opened = Database.open(databases.url(name))
    opened.migrate()
    opened.close()
    yield databases.url(name)
    with contextlib.suppress(Exception):  # a test may have left the server dead
        databases.drop(name)


def emptied(database: Database) -> Database:
    """The database without rows: quicker than a new one."""
    tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
    with database._engines.writing.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables}"))
    return database


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Where a new SQLite database of this test's own will be."""
    return f"sqlite:///{tmp_path}/forebay.db"


REAL = ("sqlite", "postgresql")
WITH_FAKE = (*REAL, "fake")  # the simulator's database passes the suite as well


def database_on(*engines: str) -> Any:
    """A fixture: an empty database with the schema on each engine in turn, its clock in the
    test's hands."""

    @pytest.fixture(params=engines)
    def database(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Database]:
        if request.param == "fake":
            yield FakeDatabase(clock)  # type: ignore[misc]
            return
        if request.param == "sqlite":
            opened = Database.open(request.getfixturevalue("sqlite_url"), clock=clock)
            opened.migrate()
        else:
            url = request.getfixturevalue("migrated_postgres_url")
            opened = emptied(Database.open(url, clock=clock))
        yield opened
        opened.close()

    return database


database = database_on(*REAL)
