"""The database: where transactions begin. One object per process, shared by its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.clock import Clock
from storage.database.engines import Engines, normalised, open_engines
from storage.database.transaction import Transaction
from storage.database.trouble import translated
from storage.database.work import Work


class Database:
    """SQLite or PostgreSQL behind one set of verbs."""

    def __init__(self, engines: Engines, clock: Clock | None) -> None:
        self._engines = engines
        self._url = engines.url
        self._now = clock.now_ms if clock else None

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, pool_size: int = 8) -> Database:
        """The database at ``url``; nothing is connected yet, so nothing can fail but the URL.

        ``clock`` replaces the database's own clock in every statement; only tests give one.
        """
        return cls(open_engines(normalised(url), pool_size=pool_size), clock)

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """A transaction that may write: committed at the end, rolled back on any error."""
        with translated(self._url), self._engines.writing.begin() as connection:
            yield Transaction(Work(connection, self._url, writes=True, now=self._now))

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Reads only, each statement by itself: it sees the moment it runs in."""
        with translated(self._url), self._engines.reading.connect() as connection:
            yield Transaction(Work(connection, self._url, writes=False, now=self._now))

    def migrate(self) -> list[str]:
        """Bring the schema to the newest revision; which revisions were applied, in order."""
        from storage.database import migrations  # Alembic is only needed here

        with translated(self._url), self._engines.writing.begin() as connection:
            return migrations.upgrade(connection)

    def schema_is_current(self) -> bool:
        """Whether the schema is at the newest revision this code knows."""
        from storage.database import migrations

        with translated(self._url), self._engines.reading.connect() as connection:
            return migrations.is_current(connection)

    def ping(self) -> None:
        """One round trip; ``DatabaseUnavailable`` when there is no answer."""
        with translated(self._url), self._engines.reading.connect() as connection:
            connection.exec_driver_sql("SELECT 1").scalar_one()

    def close(self) -> None:
        """Close every connection. Transactions that still run keep theirs until they end."""
        self._engines.dispose()
