"""SQL kept by name: one constant text per statement and dialect, made once at import.

Constant means that neither SQLAlchemy nor PostgreSQL ever sees a new text because a batch has
another size: many rows travel as one JSON parameter, many ids as one array. The two dialects
differ only in the fragments below; a statement is written once, with these marks in braces:

``{among_ids}``   the parameter ``:ids`` as something a column can be compared with
``{among}(…){end_among}``  a subquery as something a column can be compared with, worked out first
``{rows}``        the parameter ``:rows`` as a table of the statement's ``columns``
``{lock}``        wait for the rows of ``j``; only ever below an ORDER BY j.id, so that two bulk
                  statements never wait for each other in a circle
``{lock_free}``   take the rows of ``j`` that nobody holds, and do without the others
``{share}``       keep a row as it is until this transaction ends
``{keep}``        keep a row from being deleted until this transaction ends; it may change
``{own}``         wait for one row, and let nobody else have it until this transaction ends
``{uuid}``        the type of an id
``{jobs}``        jobs as a reader sees them: ``j`` as submitted, with ``l`` while it is live, or
                  ``e`` when it has ended (see ``storage.database.tables``)

SQLite needs no locks: its write transactions run one at a time.

``:now`` is PostgreSQL's own clock, read inside the statement, unless somebody gave the moment: so
a transaction needs no round trip to ask for it.

PostgreSQL keeps plans, and believes a table that was empty a minute ago to be empty still. So a
statement of the hot path leaves it no choice: rows are found by ``id = ANY (…)``, or one by one
from inside a LATERAL subquery that OFFSET 0 keeps as it is, and conditions that would let it take
a partial index instead are written so that it does not see them (``state || '' = …``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

SQLITE, POSTGRESQL = "sqlite", "postgresql"

_FRAGMENTS: Mapping[str, Mapping[str, str]] = {
    SQLITE: {
        "among_ids": "IN (SELECT value FROM json_each(:ids))",
        "among": "IN ",
        "end_among": "",
        "lock": "",
        "lock_free": "",
        "share": "",
        "keep": "",
        "own": "",
        "uuid": "text",
        "jobs": "jobs AS j LEFT JOIN live AS l ON l.id = j.id LEFT JOIN ends AS e ON e.id = j.id",
    },
    POSTGRESQL: {
        "among_ids": "= ANY (CAST(:ids AS uuid[]))",
        "among": "= ANY (ARRAY",
        "end_among": ")",
        "lock": "FOR UPDATE OF j",
        "lock_free": "FOR UPDATE OF j SKIP LOCKED",
        "share": "FOR SHARE",
        "keep": "FOR KEY SHARE",
        "own": "FOR UPDATE",
        "uuid": "uuid",
        "jobs": (
            "jobs AS j"
            " LEFT JOIN LATERAL (SELECT * FROM live WHERE live.id = j.id OFFSET 0) AS l ON true"
            " LEFT JOIN LATERAL (SELECT * FROM ends WHERE ends.id = j.id OFFSET 0) AS e ON true"
        ),
    },
}
WHOLE_JOBS: Mapping[str, str] = {name: marks["jobs"] for name, marks in _FRAGMENTS.items()}

# Milliseconds since 1970, once per statement: a subquery is worked out when it is first needed.
_OWN_CLOCK = "(SELECT CAST(extract(epoch FROM statement_timestamp()) * 1000 AS bigint))"

_NAMED = re.compile(r"(?<![:\w]):([a-z]\w*)")
_NOW = re.compile(r"(?<![:\w]):now\b")


@dataclass(frozen=True)
class Statement:
    """One statement: what it is for, its text, and the columns of ``{rows}`` if it takes rows.

    ``binary`` names parameters that psycopg must not write as text: a list of byte strings
    goes over five times as fast. ``only`` names the one dialect that can run it.
    """

    purpose: str
    text: str
    columns: Mapping[str, str] = field(default_factory=dict)
    binary: frozenset[str] = frozenset()
    only: str | None = None
    by_dialect: Mapping[str, str] = field(init=False)
    own_clock: str | None = field(init=False)  # for PostgreSQL, when it takes ``:now``

    def __post_init__(self) -> None:
        sqlite = self.text.format(**_FRAGMENTS[SQLITE], rows=_sqlite_rows(self.columns))
        postgresql = self.text.format(**_FRAGMENTS[POSTGRESQL], rows=_postgresql_rows(self.columns))
        told = _NOW.sub(_OWN_CLOCK, postgresql)
        object.__setattr__(
            self, "by_dialect", {SQLITE: sqlite, POSTGRESQL: self._for_psycopg(postgresql)}
        )
        own_clock = self._for_psycopg(told) if told != postgresql else None
        object.__setattr__(self, "own_clock", own_clock)

    def _for_psycopg(self, text: str) -> str:
        return _NAMED.sub(
            lambda found: f"%({found[1]}){'b' if found[1] in self.binary else 's'}",
            text,
        )


def ids_parameter(dialect: str, ids: Sequence[str]) -> str:
    """``ids`` as ``{among_ids}`` expects them. They must be well-formed ids."""
    if dialect == POSTGRESQL:
        return array_parameter(ids)
    return orjson.dumps(ids).decode()


def array_parameter(values: Iterable[object]) -> str:
    """A PostgreSQL array of numbers, ids, or texts without commas, braces, blanks and quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def rows_parameter(rows: Sequence[Mapping[str, object]]) -> str:
    """``rows`` as ``{rows}`` expects them."""
    return orjson.dumps(rows).decode()


def _sqlite_rows(columns: Mapping[str, str]) -> str:
    picked = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
    return f"(SELECT {picked} FROM json_each(:rows))"


def _postgresql_rows(columns: Mapping[str, str]) -> str:
    typed = ", ".join(f"{name} {sql_type}" for name, sql_type in columns.items())
    return f"(SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given({typed}))"
