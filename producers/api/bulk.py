"""Bulk jobs, and evaluations, which are bulk jobs with one step more, beyond what every job has:
pause and resume, the manifest, and the parts themselves.

Parts can be read while the job runs: a committed one never changes. Their names are looked up in
the database, never used as a path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.bulk_documents import manifest_so_far, name_in, part_document
from producers.api.jobs import find_job, job_id_of
from producers.api.outputs import key_below
from producers.api.results import result_bytes
from producers.api.routes import answer, named, route
from producers.api.service import Service, service_of
from producers.api.streams import stored
from producers.shapes import Schema
from storage.database import Transaction
from storage.records.bulk import (
    ERRORS,
    MANIFEST,
    OUTPUT,
    PARTIAL_MANIFEST,
    NewPart,
    Part,
    Plan,
    own_name,
)
from storage.records.errors import Conflict, Gone, NotFound
from storage.records.jobs import BULK_KINDS, TERMINAL, Job, JobKind, JobState

router = APIRouter(prefix="/v1/jobs", tags=["bulk jobs"])

OCTETS, LINES = "application/octet-stream", "application/x-ndjson"
_BYTES: Schema = {"type": "string", "format": "binary"}
_LINES: Schema = {"type": "string", "description": '`{"row_id","code","message"}`, one a line.'}
_PARTS: Schema = {
    "type": "object",
    "properties": {"data": {"type": "array", "items": named("BulkPart")}},
    "required": ["data"],
}


@route(
    router,
    "POST",
    "/{id}/pause",
    "Hold a bulk job, an evaluation or a training",
    gives=named("Job"),
    also={409: "`not_pausable`: it is of another kind, or it is over."},
)
async def pause_job(request: Request) -> Response:
    """Workers commit what they have scored of it and let the rest be, until it is resumed; a
    training makes a checkpoint and stands still. Its `run_timeout_s` goes on."""
    return await _hold(
        request,
        {
            **dict.fromkeys(BULK_KINDS, lambda tx, job: tx.bulk.pause(job.tenant, job.id)),
            JobKind.TRAINING: lambda tx, job: tx.training.pause(job.tenant, job.id),
        },
    )


@route(
    router,
    "POST",
    "/{id}/resume",
    "Let a paused bulk job, evaluation or training go on",
    gives=named("Job"),
    also={409: "`not_pausable`: it is of another kind, or it is over."},
)
async def resume_job(request: Request) -> Response:
    """One that is not paused stays as it is."""
    return await _hold(
        request,
        {
            **dict.fromkeys(BULK_KINDS, lambda tx, job: tx.bulk.resume(job.tenant, job.id)),
            JobKind.TRAINING: lambda tx, job: tx.training.resume(job.tenant, job.id),
        },
    )


@route(
    router,
    "GET",
    "/{id}/manifest",
    "What a bulk job wrote",
    gives=named("BulkManifest"),
    also={409: "`not_bulk`: the job has none."},
)
async def get_manifest(request: Request) -> Response:
    """Files, parts, digests and timings, as the job's end has them; while it runs, or when it
    ended before it came to writing one, what is known so far with `complete` false."""
    service, job = await _asked(request)
    run, parts, now = await service.read(
        lambda tx: (tx.bulk.run(job.id, tenant=job.tenant), tx.bulk.parts(job.id), tx.now())
    )
    if run is None:
        raise _gone("manifest")
    if job.state in TERMINAL and run.plan is not None:
        text = await service.reads.run(partial(_written, service, run.plan, job))
        if text is not None:
            return Response(text, media_type="application/json")
    return answer(manifest_so_far(job, run, parts, now))


@route(
    router,
    "GET",
    "/{id}/parts",
    "The parts that a bulk job has committed",
    gives=_PARTS,
    also={409: "`not_bulk`: the job has none."},
)
async def list_parts(request: Request) -> Response:
    """In the order of the input, all of them; also while it runs. Each row of the input is in
    exactly one part, or in its errors."""
    service, job = await _asked(request)
    plan, parts = await _parts_of(service, job)
    return answer({"data": [part_document(job.id, part, plan) for part in parts]})


@route(
    router,
    "GET",
    "/{id}/parts/{part}",
    "A part's bytes",
    gives=_BYTES,
    media_type=OCTETS,
    also={404: "`part_not_found`: no committed part has this name.", 409: "`not_bulk`."},
)
async def get_part(request: Request) -> Response:
    """Of a committed part, as `sha256` has them."""
    service, job = await _asked(request)
    plan, part = await _part_of(service, request, job)
    if part.key is None:
        raise _no_part(request)
    return await _bytes_of(service, plan, [(part.key, part.size_bytes)], name_in(part.key), OCTETS)


@route(
    router,
    "GET",
    "/{id}/parts/{part}/errors",
    "The errors of a part",
    gives=_LINES,
    media_type=LINES,
    also={404: "`part_not_found`: none has this name, or no row of it failed.", 409: "`not_bulk`."},
)
async def get_part_errors(request: Request) -> Response:
    """One JSON object a line, for each of its rows that has no prediction."""
    service, job = await _asked(request)
    _, part = await _part_of(service, request, job)
    key = part.errors_key
    if key is None:
        raise _no_part(request)
    return await _errors_of(service, [(key, part.errors_bytes)], name_in(key))


@route(
    router,
    "GET",
    "/{id}/errors",
    "The errors of a bulk job",
    gives=_LINES,
    media_type=LINES,
    also={409: "`not_bulk`: the job has none."},
)
async def get_errors(request: Request) -> Response:
    """Those of all its committed parts, in the order of the input, as JSON lines; empty if no row
    failed so far."""
    service, job = await _asked(request)
    _, parts = await _parts_of(service, job)
    wanted = [(p.part.errors_key, p.part.errors_bytes) for p in parts if p.part.errors_key]
    return await _errors_of(service, wanted, ERRORS)


Verb = Callable[[Transaction, Job], bool]


async def _hold(request: Request, verbs: Mapping[JobKind, Verb]) -> Response:
    """Pause or resume, by the kind of the job."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    job = await find_job(request, tenant, job_id_of(request))
    verb = verbs.get(job.kind)
    if verb is None or not await service.write(lambda tx: verb(tx, job)):
        why = f"is one of {job.kind.value}" if verb is None else "is over"
        says = f"the job {why}; only bulk jobs, evaluations and trainings that go on are held"
        raise Conflict(says, code="not_pausable")
    service.watcher.tell([job.id])
    return answer(await service.job_document(await find_job(request, tenant, job.id)))


async def _asked(request: Request) -> tuple[Service, Job]:
    """The bulk job or evaluation of a request that says nothing else."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    job = await find_job(request, tenant, job_id_of(request))
    if job.kind not in BULK_KINDS:
        says = f"the job is one of {job.kind.value}; bulk jobs and evaluations have parts"
        raise Conflict(says, code="not_bulk")
    return service, job


async def _parts_of(service: Service, job: Job) -> tuple[Plan | None, list[Part]]:
    run, parts = await service.read(
        lambda tx: (tx.bulk.run(job.id, tenant=job.tenant), tx.bulk.parts(job.id))
    )
    return (None if run is None else run.plan), parts


async def _part_of(service: Service, request: Request, job: Job) -> tuple[Plan | None, NewPart]:
    """The committed part that the path names, by its own name or, if it has none, its errors'."""
    plan, parts = await _parts_of(service, job)
    wanted = str(request.path_params["part"])
    for one in parts:
        key = one.part.key or one.part.errors_key
        if key is not None and name_in(key) == wanted:
            return plan, one.part
    raise _no_part(request)


async def _bytes_of(
    service: Service,
    plan: Plan | None,
    wanted: Sequence[tuple[str, int]],
    name: str,
    media_type: str,
) -> Response:
    """These objects below the plan's base, one behind the other."""
    if plan is None:
        return Response(b"", media_type=media_type)
    return await stored(
        service,
        await service.reads.run(partial(service.outputs.of, plan)),
        [(key_below(plan, key), size_bytes) for key, size_bytes in wanted],
        filename=name,
        media_type=media_type,
        gone=_gone("part"),
    )


async def _errors_of(service: Service, wanted: Sequence[tuple[str, int]], name: str) -> Response:
    """Error lines, which lie in our own store wherever the parts do, one part's behind the
    other's."""
    return await stored(
        service,
        service.parts.objects,
        wanted,
        filename=name,
        media_type=LINES,
        gone=_gone("error file"),
    )


def _written(service: Service, plan: Plan, job: Job) -> bytes | None:
    """The manifest that a worker wrote of this job; None where it wrote none, or where another job
    has written over its output since."""
    try:
        text = service.outputs.of(plan).get(key_below(plan, _manifest_name(service, plan, job)))
    except NotFound:
        return None
    return text if orjson.loads(text).get("job") == job.id else None


def _manifest_name(service: Service, plan: Plan, job: Job) -> str:
    """In our own store every owner writes under a name of its own, which the result tells."""
    if job.state is not JobState.SUCCEEDED:
        name = PARTIAL_MANIFEST
        return name if OUTPUT in plan.extra else own_name(name, job.epoch)
    if OUTPUT in plan.extra or job.result is None:
        return MANIFEST
    told = orjson.loads(result_bytes(service.parts.database, service.parts.objects, job.result))
    return str((told.get("names") or {}).get("manifest", MANIFEST))


def _no_part(request: Request) -> NotFound:
    name = str(request.path_params["part"])
    return NotFound(f"the job has committed no part {name[:80]!r}", code="part_not_found")


def _gone(what: str) -> Gone:
    return Gone(f"the {what} was erased, or its retention has passed", code="part_gone")
