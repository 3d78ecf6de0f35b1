"""Evaluations: written once, by the commit that ends the job, and kept with the version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import Statement
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


def _evaluation_of(row: Row[Any]) -> Evaluation:
    values = list(row)
    values[7:9] = orjson.loads(values[7]), orjson.loads(values[8])
    return Evaluation(*values)
