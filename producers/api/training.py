"""Trainings beyond what every job has: their curves, as numbers and as a picture, and their log."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.jobs import find_job, job_id_of
from producers.api.pictures import curves_png
from producers.api.routes import JSON, answer, named, route
from producers.api.schemas import rfc3339
from producers.api.service import Service, service_of
from producers.api.training_documents import curves_document
from producers.shapes import Number, Schema, Shape, whole
from storage.records.errors import Conflict
from storage.records.jobs import Job, JobKind
from storage.records.training_runs import curves_of

router = APIRouter(prefix="/v1/jobs", tags=["trainings"])

PNG = "image/png"
MAX_STEP, MAX_POINTS, MAX_LINES = 10**12, 100_000, 10_000
POINTS_OF_PICTURE = 4_000
_AFTER_STEP: dict[str, Shape] = {"after_step": Number(0, MAX_STEP, default=0)}
CURVES = _AFTER_STEP | {"points": Number(1, MAX_POINTS, default=10_000)}
PICTURE: dict[str, Shape] = {
    "width": Number(200, 4000, default=960),
    "height": Number(150, 4000, default=540),
}
LOG: dict[str, Shape] = {
    "after": Number(0, MAX_STEP, default=0),
    "limit": Number(1, MAX_LINES, default=1000),
}
_PICTURE: Schema = {"type": "string", "format": "binary"}
_NOT_TRAINING = {409: "`not_training`: the job is no training."}


@route(
    router,
    "GET",
    "/{id}/curves",
    "What a training has measured",
    gives=named("TrainingCurves"),
    query=CURVES,
    also=_NOT_TRAINING,
)
async def get_curves(request: Request) -> Response:
    """Loss and metrics, by step and by epoch, also while it runs. `after_step` leaves out what was
    measured up to that step; of more than `points` steps every second, third, … is told. Has an
    `ETag`: with `If-None-Match` the answer is 304 while nothing is new."""
    service, job, values = await _asked(request, CURVES)
    after, points = whole(values.get("after_step", 0)), whole(values.get("points", 10_000))
    body = orjson.dumps(await _curves(service, job, after, points))
    return _answer_once(request, body) or Response(body, headers=_tag(body), media_type=JSON)


@route(
    router,
    "GET",
    "/{id}/curves.png",
    "A training's curves as a picture",
    gives=_PICTURE,
    media_type=PNG,
    query=PICTURE,
    also=_NOT_TRAINING,
)
async def get_curves_picture(request: Request) -> Response:
    """A panel for the loss and each metric: training and validation by epoch, the steps behind
    them. Has an `ETag`, and is drawn only if something is new."""
    service, job, values = await _asked(request, PICTURE)
    width, height = whole(values.get("width", 960)), whole(values.get("height", 540))
    curves = await _curves(service, job, 0, POINTS_OF_PICTURE)
    what = orjson.dumps([curves, width, height])
    known = _answer_once(request, what)
    if known is not None:
        return known
    drawn = await service.pictures.run(partial(curves_png, curves, width, height))
    return Response(drawn, headers=_tag(what), media_type=PNG)


@route(
    router,
    "GET",
    "/{id}/log",
    "A training's log",
    gives=named("TrainingLog"),
    query=LOG,
    also=_NOT_TRAINING,
)
async def get_log(request: Request) -> Response:
    """Lines in their order, numbered from 1 over the whole training, whoever worked at it. Pass
    `next` as `after`."""
    service, job, values = await _asked(request, LOG)
    after, limit = whole(values.get("after", 0)), whole(values.get("limit", 1000))
    lines = await service.read(lambda tx: tx.training.log(job.id, after=after, limit=limit + 1))
    page = lines[:limit]
    return answer(
        {
            "data": [
                {"number": line.number, "at": rfc3339(line.at), "text": line.text} for line in page
            ],
            "has_more": len(lines) > limit,
            "next": page[-1].number if page else after,
        }
    )


async def _asked(
    request: Request, known: dict[str, Shape]
) -> tuple[Service, Job, dict[str, object]]:
    """The training that the path names, and the query."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, known)
    job = await find_job(request, tenant, job_id_of(request))
    if job.kind is not JobKind.TRAINING:
        says = f"the job is one of {job.kind.value}; only trainings have curves and a log"
        raise Conflict(says, code="not_training")
    return service, job, values


async def _curves(service: Service, job: Job, after_step: int, points: int) -> dict[str, Any]:
    run, rows = await service.read(
        lambda tx: (
            tx.training.run(job.id, tenant=job.tenant),
            tx.training.measures(job.id, after_step=after_step),
        )
    )
    return curves_document(job, run, curves_of(rows), points)


def _tag(what: bytes) -> dict[str, str]:
    tag = hashlib.sha256(what).hexdigest()[:32]
    return {"etag": f'"{tag}"', "cache-control": "private, no-cache"}


def _answer_once(request: Request, what: bytes) -> Response | None:
    """304 for who has it already."""
    headers = _tag(what)
    given = request.headers.get("if-none-match", "")
    known = {one.strip().removeprefix("W/") for one in given.split(",")}
    if headers["etag"] in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return None
