"""Groups: the jobs of one request, counted, streamed and cancelled together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from producers.api import bodies
from producers.api.jobs import WAIT
from producers.api.results import results_of
from producers.api.routes import answer, named, route
from producers.api.schemas import error_document, group_document
from producers.api.service import Service, service_of
from producers.shapes import Schema
from storage.records.errors import NotFound
from storage.records.ids import is_id
from storage.records.jobs import GroupCounts, Job

router = APIRouter(prefix="/v1/groups", tags=["groups"])

JOBS_PER_READ = 1_000
_LINE: Schema = {
    "type": "string",
    "description": 'One JSON object a line: {"id","custom_id","state","result","error"}.',
}


@route(
    router,
    "GET",
    "/{id}",
    "A group's counts, now or when all its jobs are over",
    gives=named("Group"),
    query=WAIT,
    also={404: "You have no such group."},
)
async def get_group(request: Request) -> Response:
    """With `wait` seconds it answers as soon as every job is over, at the latest after them."""
    service = service_of(request)
    tenant = await service.tenant(request)
    wait_s = float(str(bodies.query(request, WAIT).get("wait", 0)))
    if wait_s <= 0:
        return answer(group_document(await _find(service, request, tenant)))
    counts = await service.wait(
        request,
        "group",
        _id_of(request),
        lambda: _find(service, request, tenant),
        lambda counts: counts.done,
        min(wait_s, service.settings.max_wait_s),
    )
    return answer(group_document(counts))


@route(
    router,
    "GET",
    "/{id}/results",
    "Every job's answer, as JSON lines",
    gives=_LINE,
    media_type="application/x-ndjson",
)
async def get_group_results(request: Request) -> Response:
    """In the order of submission. Jobs that are not over are listed with their state; a result
    that was erased is null with the error `result_gone`."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    counts = await _find(service, request, tenant)
    lines = _lines(service, tenant, counts.group_id)
    first = await anext(lines, b"")  # trouble at the start is a problem, not a broken answer

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for part in lines:
            yield part

    return StreamingResponse(whole(), media_type="application/x-ndjson")


@route(router, "POST", "/{id}/cancel", "Cancel a group's jobs", gives=named("Group"))
async def cancel_group(request: Request) -> Response:
    """Queued jobs are cancelled at once, running ones asked to stop; the rest stays as it is."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    group_id = _id_of(request)
    counts = await service.write(lambda tx: tx.jobs.cancel_group(tenant, group_id))
    if counts is None:
        raise _no_group(group_id)
    service.watcher.tell([group_id])
    return answer(group_document(counts))


async def _lines(service: Service, tenant: str, group_id: str) -> AsyncIterator[bytes]:
    """A page of members at a time; each page's results are read together."""
    done = 0
    while True:

        def page(after: int = done - 1) -> tuple[int, bytes]:
            with service.parts.database.read() as tx:
                jobs = tx.groups.members(tenant, group_id, after_index=after, limit=JOBS_PER_READ)
            results = results_of(service.parts.database, service.parts.objects, jobs)
            return len(jobs), b"".join(_line(job, results.get(job.id)) for job in jobs)

        count, text = await service.reads.run(page)
        done += count
        if text:
            yield text
        if count < JOBS_PER_READ:
            return


def _line(job: Job, result: bytes | None) -> bytes:
    error = error_document(job.error)
    if job.result is not None and result is None:
        error = {"code": "result_gone", "message": "the result was erased", "attempt": job.attempts}
    document = {
        "id": job.id,
        "custom_id": job.custom_id,
        "state": job.state.value,
        "result": None if result is None else orjson.Fragment(result),
        "error": error,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


async def _find(service: Service, request: Request, tenant: str) -> GroupCounts:
    group_id = _id_of(request)
    counts = await service.read(lambda tx: tx.groups.counts(tenant, group_id))
    if counts is None:
        raise _no_group(group_id)
    return counts


def _id_of(request: Request) -> str:
    group_id = str(request.path_params["id"])
    if not is_id(group_id):
        raise _no_group(group_id)
    return group_id


def _no_group(group_id: str) -> NotFound:
    return NotFound(f"you have no group {group_id[:80]!r}", code="group_not_found")
