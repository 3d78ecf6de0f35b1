"""Engines: how connections to SQLite and PostgreSQL are made, kept and bounded in time.

Nothing here touches disk or network until the first transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg.types.string import TextLoader
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
SQLITE_BUSY_TIMEOUT_MS = 10_000
PING_AFTER_IDLE_S = 5.0

_SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    # 202 means durable. In WAL mode NORMAL syncs only at checkpoints: a power cut could take
    # back the last commits, jobs already accepted among them. FULL syncs the log per commit.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
)


@dataclass(frozen=True)
class Engines:
    """One pool for transactions that write, one for single statements that read."""

    url: URL
    writing: Engine
    reading: Engine

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.writing.dispose()
        self.reading.dispose()


def normalised(text: str) -> URL:
    """The URL with the one driver we use for its kind; ``ValueError`` says what is wrong."""
    try:
        url = make_url(text)
    except exc.ArgumentError:
        # The error's own text is not repeated: it may hold the password.
        raise ValueError(
            "the database URL cannot be read: use postgresql://user:password@host/name or"
            " sqlite:////absolute/path.db"
        ) from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite":
        if not url.database or not url.database.startswith("/"):
            raise ValueError("a SQLite database is given by its absolute path: sqlite:////path.db")
        return url.set(drivername="sqlite+pysqlite")
    raise ValueError(f"no database of kind {kind!r} is supported: use postgresql or sqlite")


def open_engines(url: URL, *, pool_size: int) -> Engines:
    """Engines for ``url``; nothing is connected yet."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url, pool_size)
    engine = _postgresql_engine(url, pool_size)
    # Reads commit by themselves, statement by statement: a reader that goes away to think holds
    # no snapshot and is never idle in a transaction. Both share one pool.
    return Engines(url, engine, engine.execution_options(isolation_level="AUTOCOMMIT"))


def _sqlite_engines(url: URL, pool_size: int) -> Engines:
    def engine(size: int) -> Engine:
        made = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            hide_parameters=True,
            # isolation_level=None: the driver starts no transaction of its own accord.
            connect_args={"check_same_thread": False, "isolation_level": None},
        )
        event.listen(made, "connect", _prepare_sqlite)
        return made

    # One writing connection: threads of this process queue fairly for it, where SQLite itself
    # would let them poll for the lock.
    writing = engine(1)
    event.listen(writing, "begin", _begin_immediate)
    return Engines(url, writing, engine(pool_size))


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma).close()


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once with 'locked', whatever the timeout,
    # when another one wrote in between. So every write transaction takes the lock at its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql_engine(url: URL, pool_size: int) -> Engine:
    settings = {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
        "jit": "off",
        # Prepared statements keep their plan. One made while the table was small would read all
        # of it, and go on doing so while it grows (a commit of 128 went from 2 to 15 ms in the
        # first minute). Every statement on a hot path has an index: take it from the start.
        "enable_seqscan": "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    given = url.query.get("options")
    defaults = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "forebay",
        # A peer that vanished without a word is noticed within about 20 seconds.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 20_000,
    }
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
        connect_args=arguments | {"options": f"{options} {given}" if given else options},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _ping_after_idling)
    return engine


def _prepare_postgresql(connection: Any, entry: ConnectionPoolEntry) -> None:
    connection.adapters.register_loader("uuid", TextLoader)  # ids are str everywhere
    entry.info["used_s"] = time.monotonic()


def _remember_use(_connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["used_s"] = time.monotonic()


def _ping_after_idling(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
    """Ask a connection that idled whether it still lives; a busy one is spared the round trip."""
    if time.monotonic() - entry.info.get("used_s", 0.0) < PING_AFTER_IDLE_S:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except Exception as error:
        raise exc.DisconnectionError from error
