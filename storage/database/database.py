"""The database: where transactions begin. One object per process, shared by its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.clock import Clock
from storage.database.engines import (
    Engines,
    begun,
    listening_connection,
    normalised,
    open_engines,
)
from storage.database.news import News
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

    @property
    def has_one_writer(self) -> bool:
        """Whether its writing transactions run one at a time, so that none should wait inside."""
        return self._url.get_backend_name() == "sqlite"

    @contextmanager
    def begin(self, *, lasting: bool = True) -> Iterator[Transaction]:
        """A transaction that may write: committed at the end, rolled back on any error.

        What is not ``lasting`` does not wait for the disk: a crash of the database or its machine
        may take back the last moment's, whole transactions at a time, the latest first. It is for
        what somebody would do over (a claim), never for what a caller was told.
        """
        with (
            translated(self._url),
            begun(self._engines, lasting=lasting) as connection,
        ):
            work = Work(connection, self._url, writes=True, now=self._now)
            yield Transaction(work)
            work.finish()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Reads only, each statement by itself: it sees the moment it runs in."""
        with translated(self._url), self._engines.reading.connect() as connection:
            yield Transaction(Work(connection, self._url, writes=False, now=self._now))

    def listen(self) -> News | None:
        """News of jobs that changed, on a connection of its own; none on SQLite, which has none."""
        if self._url.get_backend_name() == "sqlite":
            return None
        with translated(self._url):
            return News(self._url, listening_connection(self._url))

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
