"""Evaluations: written once, by the commit that ends the job, and kept with the version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import POSTGRESQL, SQLITE, Statement
from storage.database.store import Store
from storage.records.evaluations import Evaluation
from storage.records.ids import is_id

_EVALUATION = """
    e.job_id, e.tenant, e.version_id, e.model_name, e.version, e.data_digest, e.rows, e.metrics,
    e.document, e.created_at
"""

RECORD = Statement(
    "What a version was worth on some data.",
    """
    INSERT INTO evaluations (job_id, tenant, version_id, model_name, version, data_digest, rows,
        metrics, document, created_at)
    VALUES (:job, :tenant, :version_id, :name, :number, :digest, :row_count, :metrics, :document,
        :now)
    """,
)

GET = Statement(
    "One evaluation.", f"SELECT {_EVALUATION} FROM evaluations AS e WHERE e.job_id = :job"
)

OF_VERSION = Statement(
    "The evaluations of a version, newest first.",
    f"""
    SELECT {_EVALUATION} FROM evaluations AS e WHERE e.version_id = :version_id
    ORDER BY e.created_at DESC, e.job_id DESC LIMIT :limit
    """,
)

_BRIEF = ("job", "group", "model", "rows", "disagreed")  # of what it was compared with
_ROWS = """
    SELECT e.job_id, e.tenant, e.version_id, e.model_name, e.version, e.data_digest, e.rows,
        e.metrics, {brief} AS document, e.created_at
    FROM evaluations AS e WHERE e.version_id = :version_id
    ORDER BY e.created_at DESC, e.job_id DESC LIMIT :limit
"""


def _brief(build: str, part: str, is_there: str) -> str:
    """Of a document what fits a line."""
    told = ", ".join(
        f"'{name}', {part.format(path=name)}" for name in ("task", "data", "intervals")
    )
    against = ", ".join(f"'{one}', {part.format(path=f'against.{one}')}" for one in _BRIEF)
    return f"{build}({told}, 'against', CASE WHEN {is_there} THEN {build}({against}) END)"


MEASURED = Statement(
    "What a version was measured at, without what may be large (PostgreSQL).",
    _ROWS.format(
        brief="CAST("
        + _brief(
            "json_build_object",
            "CAST(e.document AS json) #> string_to_array('{path}', '.')",
            "json_typeof(CAST(e.document AS json) -> 'against') = 'object'",
        )
        + " AS text)"
    ),
    only=POSTGRESQL,
)

MEASURED_HERE = Statement(
    "The same for SQLite.",
    _ROWS.format(
        brief=_brief(
            "json_object",
            "json(e.document -> '$.{path}')",
            "json_type(e.document, '$.against') = 'object'",
        )
    ),
    only=SQLITE,
)


class Evaluations(Store):
    """What versions are worth."""

    def record(self, evaluation: Evaluation) -> None:
        """Write it; its time is set here. ``Conflict`` when the job has one already."""
        self._work.count(
            RECORD,
            job=evaluation.job_id,
            tenant=evaluation.tenant,
            version_id=evaluation.version_id,
            name=evaluation.model_name,
            number=evaluation.version,
            digest=evaluation.data_digest,
            row_count=evaluation.rows,
            metrics=orjson.dumps(dict(evaluation.metrics)).decode(),
            document=orjson.dumps(dict(evaluation.document)).decode(),
            now=self._work.now(),
        )

    def get(self, tenant: str, job_id: str) -> Evaluation | None:
        """The evaluation of a job, if it is this tenant's."""
        row = self._work.row(GET, job=job_id) if is_id(job_id) else None
        return None if row is None or row.tenant != tenant else _evaluation_of(row)

    def of_version(self, version_id: str, limit: int = 100) -> Sequence[Evaluation]:
        """The newest evaluations of a version, newest first."""
        if not is_id(version_id):
            return []
        rows = self._work.rows(OF_VERSION, version_id=version_id, limit=limit)
        return [_evaluation_of(row) for row in rows]

    def measured(self, version_id: str, limit: int = 100) -> Sequence[Evaluation]:
        """The same, of their documents only ``task``, ``data``, ``intervals``, and of ``against``
        what fits a line."""
        if not is_id(version_id):
            return []
        statement = MEASURED_HERE if self._work.dialect == SQLITE else MEASURED
        rows = self._work.rows(statement, version_id=version_id, limit=limit)
        return [_evaluation_of(row) for row in rows]


def _evaluation_of(row: Row[Any]) -> Evaluation:
    values = list(row)
    values[7:9] = orjson.loads(values[7]), orjson.loads(values[8])
    return Evaluation(*values)
