"""Engines: how connections to SQLite and PostgreSQL are made, kept and bounded in time.

Nothing here touches disk or network until the first transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.string import TextLoader
from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    exc,
    make_url,
)
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
SQLITE_BUSY_TIMEOUT_MS = 10_000
PING_AFTER_IDLE_S = 5.0

SQLITE_LASTING = "PRAGMA synchronous = FULL"

_SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    # 202 means durable. In WAL mode NORMAL syncs only at checkpoints: a power cut could take
    # back the last commits, jobs already accepted among them. FULL syncs the log per commit.
    SQLITE_LASTING,
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
)
LISTENER_STUCK_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Engines:
    """A pool for transactions that write, and one for single statements that read.

    And one on PostgreSQL for what need not last: whether a commit waits for the disk is a
    property of the connection there, as saying so in each transaction would be a round trip.
    """

    url: URL
    writing: Engine
    reading: Engine
    passing: Engine | None = None

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.writing.dispose()
        self.reading.dispose()
        if self.passing is not None:
            self.passing.dispose()


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
    # Reads commit by themselves, statement by statement: a reader that goes away to think holds
    # no snapshot and is never idle in a transaction. In a pool of their own, as a connection that
    # takes turns is told so each time, and the driver asks itself twice: 0.3 ms a read.
    reading = _postgresql_engine(
        url, pool_size, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
    )
    passing = _postgresql_engine(url, pool_size, {"synchronous_commit": "off"})
    writing = _postgresql_engine(url, pool_size)
    _share_bad_news([writing, reading, passing])
    return Engines(url, writing, reading, passing)


def _share_bad_news(engines: Sequence[Engine]) -> None:
    """A connection that died takes the idle ones of every pool with it: they went to one server."""

    def on_error(context: ExceptionContext) -> None:
        if context.is_disconnect:
            for engine in engines:
                if engine is not context.engine:
                    engine.dispose()

    for engine in engines:
        event.listen(engine, "handle_error", on_error)


@contextmanager
def begun(engines: Engines, *, lasting: bool) -> Iterator[Connection]:
    """A transaction on a connection of its own, which waits for the disk or does not."""
    if lasting:
        with engines.writing.begin() as connection:
            yield connection
    elif engines.passing is not None:
        with engines.passing.begin() as connection:
            yield connection
    else:
        with engines.writing.connect() as connection:
            own = connection.connection.cursor()
            own.execute("PRAGMA synchronous = NORMAL")  # which no transaction can change inside
            try:
                with connection.begin():
                    yield connection
            finally:
                own.execute(SQLITE_LASTING)


def listening_connection(url: URL) -> psycopg.Connection:
    """A PostgreSQL connection outside the pool, which may wait for ever."""
    dialect: Dialect = url.get_dialect()()
    _, said = dialect.create_connect_args(url)
    # A process that was stopped holds back PostgreSQL's queue of notifications for everybody:
    # the server lets go of a listener that has taken nothing for so long.
    own = _connect_arguments(url, {"tcp_user_timeout": LISTENER_STUCK_TIMEOUT_MS})
    return psycopg.connect(**{**said, **own}, autocommit=True)


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
        _insist(connection, pragma)


def _insist(connection: Any, pragma: str) -> None:
    """Of two that turn a new file to WAL at once one is told 'locked' whatever its timeout."""
    give_up_s = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(pragma).close()
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > give_up_s:
                raise
        time.sleep(0.005)


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once with 'locked', whatever the timeout,
    # when another one wrote in between. So every write transaction takes the lock at its start.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql_engine(
    url: URL,
    pool_size: int,
    more_settings: Mapping[str, object] | None = None,
    **options: Any,
) -> Engine:
    settings = {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
        "jit": "off",
        # Prepared statements keep their plan. One made while the table was small would read all
        # of it, and go on doing so while it grows (a commit of 128 went from 2 to 15 ms in the
        # first minute). Every statement on a hot path has an index: take it from the start.
        "enable_seqscan": "off",
        # Rows of many ids are met, and locked, in id order: an index gives them so, a bitmap
        # in the order they lie in.
        "enable_bitmapscan": "off",
        # A plan is made once per connection: the statements leave nothing to choose, and making
        # one takes longer than claiming a job.
        "plan_cache_mode": "force_generic_plan",
        # Inputs are JSON, mostly ASCII, which comes over as it is instead of twice as long.
        "bytea_output": "escape",
        **(more_settings or {}),
    }
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        # The connection used last: its server process has everything at hand still.
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args=_connect_arguments(url, settings),
        **options,
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _ping_after_idling)
    return engine


def _connect_arguments(url: URL, settings: Mapping[str, object]) -> dict[str, Any]:
    """How to connect, and the session's settings; what the URL says itself has the last word."""
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
    return arguments | {"options": f"{options} {given}" if given else options}


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
