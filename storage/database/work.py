"""What a store works with: one connection, the statements, and the database's clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import URL, Connection, CursorResult, Row, Select
from sqlalchemy.exc import DBAPIError, IntegrityError

from storage.database.news import TELL, payloads_of
from storage.database.statements import (
    POSTGRESQL,
    SQLITE,
    Statement,
    array_parameter,
    ids_parameter,
    rows_parameter,
)
from storage.database.trouble import translated
from storage.records.errors import Conflict
from storage.records.ids import ID_PATTERN, is_id
from storage.records.jobs import Millis

# Milliseconds since 1970. (SQLite 3.40 answers NULL to unixepoch('subsec').)
CLOCK = {
    SQLITE: "SELECT CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)",
    POSTGRESQL: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
}

TELLING = Statement("Listeners are told which jobs changed.", TELL, only=POSTGRESQL)

Rows = Sequence[Row[*tuple[Any, ...]]]


class Work:
    """One connection inside one transaction, shared by the stores."""

    def __init__(
        self,
        connection: Connection,
        url: URL,
        *,
        writes: bool,
        now: Callable[[], Millis] | None,
    ) -> None:
        """``now`` overrides the database's clock: the one place where a test can."""
        self._connection = connection
        self._url = url
        self._writes = writes
        self._override = now
        self._now: Millis | None = None
        self._changed: list[str] = []
        self.dialect = connection.dialect.name

    def now(self) -> Millis:
        """The database's clock, read once per transaction."""
        if self._now is None:
            self._now = self._override() if self._override else self._ask_clock()
        return self._now

    def _ask_clock(self) -> Millis:
        with translated(self._url):
            return int(self._connection.exec_driver_sql(CLOCK[self.dialect]).scalar_one())

    def rows(self, statement: Statement, **parameters: object) -> Rows:
        """Run a statement that only reads."""
        with translated(self._url):
            return self._execute(statement, parameters).fetchall()

    def row(self, statement: Statement, **parameters: object) -> Row[*tuple[Any, ...]] | None:
        """The one row of a statement that only reads, or nothing."""
        found = self.rows(statement, **parameters)
        return found[0] if found else None

    def select(self, query: Select[Any]) -> Rows:
        """Run a query that was put together from the tables (the listing)."""
        with translated(self._url):
            return self._connection.execute(query).fetchall()

    def change(self, statement: Statement, **parameters: object) -> Rows:
        """Run a statement that writes and returns rows."""
        rows: Rows = self._write(statement, parameters).fetchall()
        return rows

    def count(self, statement: Statement, **parameters: object) -> int:
        """Run a statement that writes; how many rows it touched."""
        result = self._write(statement, parameters)
        if result.returns_rows:
            return len(result.fetchall())
        if self.dialect == SQLITE:  # its driver counts nothing for an UPDATE behind a WITH
            return int(self._connection.exec_driver_sql("SELECT changes()").scalar_one())
        return int(result.rowcount)

    def _execute(
        self, statement: Statement, parameters: dict[str, object] | list[dict[str, object]]
    ) -> CursorResult[Any]:
        text = statement.by_dialect[self.dialect]
        if statement.own_clock is not None and isinstance(parameters, dict):
            # A moment that was asked for in this transaction, or given by a test, goes for all.
            if self.dialect == SQLITE or self._override or self._now is not None:
                parameters.setdefault("now", self.now())
            elif "now" not in parameters:
                text = statement.own_clock
        return self._connection.exec_driver_sql(text, parameters)

    def _write(
        self, statement: Statement, parameters: dict[str, object] | list[dict[str, object]]
    ) -> CursorResult[Any]:
        if not self._writes:
            raise RuntimeError("this transaction only reads: use Database.begin() to write")
        try:
            with translated(self._url):
                return self._execute(statement, parameters)
        except IntegrityError as error:
            if _is_duplicate(error):
                raise Conflict("it exists already", code="already_exists") from error
            raise

    def each(self, statement: Statement, many: list[dict[str, object]]) -> None:
        """Run a statement once per row inside SQLite, where a round trip costs nothing."""
        self._write(statement, many)

    def tell(self, ids: Iterable[str]) -> None:
        """Let listeners know of jobs that changed, if this transaction commits."""
        if self.dialect == POSTGRESQL:
            self._changed.extend(ids)

    def finish(self) -> None:
        """What is left to do before the commit."""
        if self._changed:
            self.change(TELLING, told=array_parameter(payloads_of(self._changed)))

    def ids(self, ids: Iterable[str]) -> str:
        """The parameter ``:ids``. What is not spelled as an id cannot name a row: left out."""
        given = list(ids)
        if not _ALL_IDS.fullmatch(",".join(given)):  # at once: a tenth of the time
            given = [one for one in given if is_id(one)]
        return ids_parameter(self.dialect, given)

    def table(self, rows: Sequence[Mapping[str, object]]) -> str:
        """The parameter ``:rows``."""
        return rows_parameter(rows)


_ALL_IDS = re.compile(f"(?:{ID_PATTERN}(?:,{ID_PATTERN})*)?")


def _is_duplicate(error: DBAPIError) -> bool:
    cause = error.orig
    if getattr(cause, "sqlstate", None) == "23505":
        return True
    return "UNIQUE constraint failed" in str(cause)
