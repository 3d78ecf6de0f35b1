"""Drivers' errors in our own words.

Whatever says "not now" (no connection, a pool or lock that did not come free in time, a full
disk, a server that shuts down or only reads) becomes ``DatabaseUnavailable``: the caller may try
again. A text that cannot be stored is the caller's fault. Everything else is a fault of ours and
passes through as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import URL, exc

from storage.records.errors import DatabaseUnavailable, ForebayError, InvalidInput

# SQLSTATE classes: connection, cannot connect as that user, no such database, rolled back
# (deadlock), resources, object in use (lock timeout), operator intervention (statement timeout,
# shutdown), system error.
_PASSING_CLASSES = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58"})
_PASSING_STATES = frozenset(
    {
        "25006",  # the server only reads: a standby after a failover
        "25P03",  # idle in a transaction for too long: this process was stopped for a while
        "25P04",  # a transaction that took too long
        "42501",  # the user may not do this: for the operator to mend, like a wrong password
    }
)
_UNDEFINED_TABLE = "42P01"

_PASSING_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)

_NOT_MIGRATED = (
    "the database has no Forebay schema, or an older one: run `forebay migrate` with the same"
    " FOREBAY_DATABASE_URL"
)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise drivers' trouble inside as ``DatabaseUnavailable``, without secrets."""
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(
            f"no connection to {where(url)} came free in time: every one of the pool is in use"
        ) from error
    except (exc.DBAPIError, psycopg.Error, sqlite3.Error) as error:
        found = _diagnose(url, error)
        if found is None:
            raise
        # The driver's own error is not chained: its text may hold the connection string.
        raise found from None


def where(url: URL) -> str:
    """The address of the database as one may show it: no user, no password, no options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{host}{port}/{url.database or ''}"


def _diagnose(url: URL, error: BaseException) -> ForebayError | None:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _diagnose_sqlite(url, cause)
    if not isinstance(cause, psycopg.Error):
        return None
    state = cause.sqlstate
    if state == _UNDEFINED_TABLE:
        return DatabaseUnavailable(_NOT_MIGRATED, code="database_not_migrated")
    if isinstance(cause, psycopg.DataError) and state is None and "NUL" in str(cause):
        # The driver refuses the text before the server sees it; SQLite just finds nothing.
        return InvalidInput("a text holds a NUL character", code="nul_character")
    passing = (
        isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        if state is None
        else state[:2] in _PASSING_CLASSES or state in _PASSING_STATES
    )
    if not passing:
        return None
    return DatabaseUnavailable(f"the database at {where(url)} does not serve: {_said(url, cause)}")


def _diagnose_sqlite(url: URL, cause: sqlite3.Error) -> DatabaseUnavailable | None:
    primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_ERROR and str(cause).startswith("no such table"):
        return DatabaseUnavailable(_NOT_MIGRATED, code="database_not_migrated")
    if primary not in _PASSING_SQLITE:
        return None
    return DatabaseUnavailable(f"the database at {where(url)} does not serve: {cause}")


def _said(url: URL, cause: psycopg.Error) -> str:
    """The driver's first line, with every spelling of the password taken out."""
    line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    for secret in (url.password, url.query.get("password")):
        if isinstance(secret, str) and secret:
            line = line.replace(secret, "***")
    return line
