"""What the database holds, as the invariants look at it: the same for the fake and for SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.simulator.fake_database.database import FakeDatabase

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows by id at one moment."""

    jobs: Rows = field(default_factory=dict)
    live: Rows = field(default_factory=dict)
    ends: Rows = field(default_factory=dict)
    packs: Rows = field(default_factory=dict)
    groups: Rows = field(default_factory=dict)
    events: Rows = field(default_factory=dict)
    deliveries: Mapping[Any, Any] = field(default_factory=dict)  # by event and endpoint


class Camera(Protocol):
    """Takes pictures, and says what a transaction that just ended changed."""

    def __call__(self) -> Picture: ...

    def changed(self, before: Picture, now: Picture) -> Iterable[str]:
        """Ids of jobs whose rows are others than they were, in their order."""
        ...

    def close(self) -> None: ...


class OfFake:
    """Rows are never changed in place, so a copy of the dict is a picture."""

    def __init__(self, database: FakeDatabase) -> None:
        self._tables = database.tables

    def __call__(self) -> Picture:
        t = self._tables
        tables: Any = (t.jobs, t.live, t.ends, t.packs, t.groups, t.events, t.deliveries)
        return Picture(*map(dict, tables))

    def changed(self, before: Picture, now: Picture) -> Iterable[str]:
        t = self._tables
        ours = (t.jobs, t.live, t.ends)
        found = [key for table, key, _ in t.changes() if any(table is one for one in ours)]
        return sorted(set(found))  # type: ignore[type-var]

    def close(self) -> None:
        """Nothing is open."""


class OfSqlite:
    """By a connection of its own that only reads."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def __call__(self) -> Picture:
        tables = ("jobs", "live", "ends", "packs", "groups", "events")
        found = self._connection.execute("SELECT event_id, endpoint_id FROM deliveries")
        return Picture(*map(self._rows, tables), dict.fromkeys(found.fetchall()))

    def changed(self, before: Picture, now: Picture) -> Iterable[str]:
        return sorted(
            job_id
            for job_id in now.jobs.keys() | before.jobs.keys()
            if now.live.get(job_id) != before.live.get(job_id)
            or now.ends.get(job_id) != before.ends.get(job_id)
            or job_id not in now.jobs
        )

    def _rows(self, table: str) -> Rows:
        cursor = self._connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def close(self) -> None:
        self._connection.close()
