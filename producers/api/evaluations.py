"""Evaluations of a version: what it was worth on which data, also when the jobs are long gone."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.evaluation_documents import evaluation_document
from producers.api.models import find_version
from producers.api.routes import answer, page_of, route
from producers.api.service import service_of
from producers.names import ID
from producers.shapes import Choice, Number, Shape, whole
from storage.database import Transaction
from storage.records.evaluations import Evaluation
from storage.records.models import ModelVersion

router = APIRouter(prefix="/v1/models", tags=["models"])

LIST: dict[str, Shape] = {
    "limit": Number(1, 100, default=20),
    "job": ID,
    "full": Choice(("true", "false"), default="false"),
}


@route(
    router,
    "GET",
    "/{name}/versions/{version}/evaluations",
    "What a version was measured to be worth",
    gives=page_of("VersionEvaluation"),
    query=LIST,
    also={404: "You have no such version."},
)
async def list_evaluations(request: Request) -> Response:
    """Newest first, the newest `limit` of them; two with the same `data_digest` saw the same rows
    and labels. With `job` that job's alone; with `full=true` each has its whole `document`, which
    is the job's result and stays when the job is gone. There are no further pages: `next` is
    null."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, LIST)
    version = await find_version(service, request, tenant)
    limit, job = whole(values.get("limit", 20)), values.get("job")
    full = values.get("full") == "true"

    def look(tx: Transaction) -> Sequence[Evaluation]:
        if job is not None:
            return _of_job(tx, version, str(job))
        some = tx.evaluations.of_version if full else tx.evaluations.measured
        return some(version.id, limit + 1)

    found = await service.read(look)
    return answer(
        {
            "data": [evaluation_document(one, full=full) for one in found[:limit]],
            "has_more": len(found) > limit,
            "next": None,
        }
    )


def _of_job(tx: Transaction, version: ModelVersion, job_id: str) -> Sequence[Evaluation]:
    found = tx.evaluations.get(version.tenant, job_id)
    return [] if found is None or found.version_id != version.id else [found]
