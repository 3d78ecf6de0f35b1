"""The database in memory: the product's own stores, over tables that are Python dicts.

Only the statements are played (``*_statements``), those that the simulator's parts need: what a
store does with their rows, and every decision, is the product's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from storage.clock import Clock, SystemClock
from storage.database.jobs import Jobs
from storage.database.statements import SQLITE, Statement
from storage.database.texts import refuse_nul
from storage.database.transaction import Transaction
from storage.records.ids import is_id
from storage.records.jobs import Job, JobFilter, Millis
from tests.simulator.fake_database import (
    backlog_statements,
    job_statements,
    other_statements,
    webhook_statements,
)
from tests.simulator.fake_database.tables import Tables

Played = Callable[[Tables, Millis, Mapping[str, Any]], Any]
PLAYED: dict[int, Played] = {
    id(statement): played
    for module in (job_statements, backlog_statements, other_statements, webhook_statements)
    for statement, played in module.PLAYED
}


class FakeWork:
    """What ``storage.database.work.Work`` is to the stores."""

    dialect = SQLITE  # the stores run the statements that change one table each

    def __init__(self, tables: Tables, now: Callable[[], Millis], *, writes: bool) -> None:
        self.tables, self._clock, self._writes = tables, now, writes
        self._now: Millis | None = None

    def now(self) -> Millis:
        if self._now is None:
            self._now = self._clock()
        return self._now

    def rows(self, statement: Statement, **parameters: object) -> Any:
        return PLAYED[id(statement)](self.tables, self.now(), parameters)

    def row(self, statement: Statement, **parameters: object) -> Any:
        found = self.rows(statement, **parameters)
        return found[0] if found else None

    def change(self, statement: Statement, **parameters: object) -> Any:
        if not self._writes:
            raise RuntimeError("this transaction only reads: use Database.begin() to write")
        return PLAYED[id(statement)](self.tables, self.now(), parameters)

    def count(self, statement: Statement, **parameters: object) -> int:
        done = self.change(statement, **parameters)
        return done if isinstance(done, int) else len(done)

    def each(self, statement: Statement, many: Sequence[Mapping[str, object]]) -> None:
        for one in many:
            self.change(statement, **one)

    def tell(self, ids: Iterable[str]) -> None:
        """Nobody listens."""

    def ids(self, ids: Iterable[str]) -> list[str]:
        return list(ids)

    def table(self, rows: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
        return rows


class FakeJobs(Jobs):
    """The one verb whose query is put together at run time is played as a whole."""

    def list(self, tenant: str, where: JobFilter, *, limit: int, after: str | None) -> list[Job]:
        for key, value in where.metadata.items():
            refuse_nul(key + value, field="metadata")
        tables: Tables = self._work.tables  # type: ignore[attr-defined]
        ids = [job_id for job_id, row in tables.jobs.items() if row["tenant"] == tenant]
        found = [
            job
            for job in self.get_many(tenant, sorted(ids, reverse=True))
            if (after is None or not is_id(after) or job.id < after)
            and (not where.states or job.state in where.states)
            and (where.kind is None or job.kind is where.kind)
            and (where.model_name is None or job.model_name == where.model_name)
            and (where.version is None or job.version == where.version)
            and (where.group_id is None or job.group_id == where.group_id)
            and where.metadata.items() <= job.metadata.items()
        ]
        return found[:limit]


class FakeTransaction(Transaction):
    """The product's, but for the listing."""

    @cached_property
    def jobs(self) -> Jobs:
        return FakeJobs(self._work)


class FakeDatabase:
    """What ``storage.database.Database`` is to the floors above."""

    has_one_writer = True

    def __init__(self, clock: Clock | None = None) -> None:
        self.tables = Tables()
        self._now = (clock or SystemClock()).now_ms

    @contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Transaction]:
        with self.tables.transaction():
            yield FakeTransaction(FakeWork(self.tables, self._now, writes=True))  # type: ignore[arg-type]

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        yield FakeTransaction(FakeWork(self.tables, self._now, writes=False))  # type: ignore[arg-type]

    def listen(self) -> None:
        """There are no news."""

    def ping(self) -> None:
        """It is there."""

    def close(self) -> None:
        """Nothing is open."""
