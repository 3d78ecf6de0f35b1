"""Jobs: submit, look, wait, result, list, cancel, retry."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from producers.api import bodies
from producers.api.results import result_bytes
from producers.api.routes import answer, named, page_of, route
from producers.api.schemas import error_document, job_document, rfc3339
from producers.api.service import service_of
from producers.bulk_requests import RETRY
from producers.names import ID, NAME
from producers.requests import METADATA_KEY, METADATA_VALUE, many_schema, one_schema
from producers.settings import ApiSettings
from producers.shapes import Number, Shape, Text, whole
from producers.submission import Accepted
from storage.records.errors import Conflict, InvalidInput, NotFound, NotReady
from storage.records.ids import is_id
from storage.records.jobs import TERMINAL, Job, JobFilter, JobKind, JobState
from storage.records.models import parse_model_ref

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

WAIT: dict[str, Shape] = {"wait": Number(0, 60, whole=False, default=0)}
STATES = "|".join(JobState)
PAGE: dict[str, Shape] = {"limit": Number(1, 1000, default=100), "after": ID}
LIST: dict[str, Shape] = {
    "state": Text(1, 100, rf"^({STATES})(,({STATES}))*$", "states, parted by commas"),
    "kind": Text(1, 20, f"^({'|'.join(JobKind)})$", "a kind of job"),
    "model": Text(1, 73, rf"^{NAME}(:[1-9][0-9]{{0,8}})?$", "a model as name or name:version"),
    "group": ID,
    **PAGE,
}
METADATA_PREFIX = "metadata."


@route(
    router,
    "POST",
    "",
    "Submit a job",
    status=202,
    gives=named("Job"),
    body=one_schema(),
    idempotent_by_key=True,
    also={429: "The backlog is full, or too much is going on.", 503: "Nothing was stored."},
)
async def submit_job(request: Request) -> Response:
    """The job is durable when this answers. A repeated `Idempotency-Key` gives the same job, as it
    stands by then, with `Idempotency-Replayed: true`."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    key = bodies.idempotency_key(request)
    body = await bodies.json_body(request, limit_bytes=service.settings.max_body_bytes)
    return await _accepted(request, await service.submit(tenant, body, key))


@route(
    router,
    "POST",
    "/many",
    "Submit many jobs as a group",
    status=202,
    gives=named("JobsAccepted"),
    body=many_schema(ApiSettings().max_jobs_per_request),
    idempotent_by_key=True,
    also={413: "Too many jobs, or too large a body."},
)
async def submit_jobs(request: Request) -> Response:
    """All or nothing; an error's `errors` name each wrong index. A `custom_id` occurs once."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    key = bodies.idempotency_key(request)
    body = await bodies.json_body(request, limit_bytes=service.settings.max_body_bytes)
    accepted = await service.submits.run(lambda: service.submission.many(tenant, body, key))
    if not accepted.replayed:
        service.metrics.submitted.inc(len(accepted.jobs))
    document = {
        "group": accepted.group_id,
        "jobs": [{"id": id_, "custom_id": custom_id} for id_, custom_id in accepted.jobs],
        "estimated_start_at": rfc3339(accepted.estimated_start_at),
    }
    headers = {"location": f"/v1/groups/{accepted.group_id}"}
    return answer(document, 202, headers | _replay_header(accepted.replayed))


@route(
    router,
    "GET",
    "/{id}",
    "A job, now or when it is over",
    gives=named("Job"),
    query=WAIT,
    also={404: "You have no such job."},
)
async def get_job(request: Request) -> Response:
    """With `wait` seconds it answers as soon as the job is over, at the latest after that time."""
    service = service_of(request)
    tenant = await service.tenant(request)
    wait_s = float(str(bodies.query(request, WAIT).get("wait", 0)))
    job_id = job_id_of(request)
    if wait_s <= 0:
        return answer(await service.job_document(await find_job(request, tenant, job_id)))
    job = await service.wait(
        request,
        "job",
        job_id,
        lambda: find_job(request, tenant, job_id),
        lambda job: job.state in TERMINAL,
        min(wait_s, service.settings.max_wait_s),
    )
    return answer(await service.job_document(job))


@route(
    router,
    "GET",
    "/{id}/result",
    "The answer of a succeeded job",
    gives=named("Result"),
    also={409: "`not_ready`, or `job_failed`, `job_cancelled`, `job_expired`.", 410: "Erased."},
)
async def get_result(request: Request) -> Response:
    """The result JSON itself, as the model's signature has it. Of a training it is what was
    measured on the rows held out (`evaluation`), with the `version` that it made; of an evaluation
    what was measured (`Evaluation`)."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    job = await find_job(request, tenant, job_id_of(request))
    if job.state not in TERMINAL:
        raise NotReady(f"the job is {job.state.value}; wait for it with ?wait=30 on the job")
    if job.state is not JobState.SUCCEEDED or job.result is None:
        says = job.error.message if job.error else f"it {_ENDS.get(job.state, 'has no result')}"
        details = [error_document(job.error) or {}] if job.error else None
        raise Conflict(
            f"there is no result: {says}", code=f"job_{job.state.value}", details=details
        )
    pointer = job.result
    data = await service.reads.run(
        lambda: result_bytes(service.parts.database, service.parts.objects, pointer)
    )
    return Response(data, media_type="application/json")


@route(
    router,
    "GET",
    "",
    "List jobs, newest first",
    gives=page_of("Job"),
    query=LIST,
)
async def list_jobs(request: Request) -> Response:
    """Filters narrow; `metadata.<key>=<value>` filters by a label. Pass `next` as `after`."""
    service = service_of(request)
    tenant = await service.tenant(request)
    metadata = _metadata(request.query_params)
    values = bodies.query(request, LIST, besides=METADATA_PREFIX)
    where = _filter(values, metadata)
    limit = whole(values.get("limit", 100))
    after = values.get("after")
    jobs = await service.read(
        lambda tx: tx.jobs.list(
            tenant, where, limit=limit + 1, after=None if after is None else str(after)
        )
    )
    page = jobs[:limit]
    more = len(jobs) > limit
    return answer(
        {
            "data": [job_document(job) for job in page],
            "has_more": more,
            "next": page[-1].id if more else None,
        }
    )


@route(router, "POST", "/{id}/cancel", "Cancel a job", gives=named("Job"))
async def cancel_job(request: Request) -> Response:
    """A queued job is cancelled at once; a running one when its worker looks, unless it is done
    first. A job that is over stays as it is."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    job_id = job_id_of(request)
    job = await service.write(lambda tx: tx.jobs.request_cancel(tenant, job_id))
    if job is None:
        raise no_job(job_id)
    service.watcher.tell([job_id])
    return answer(await service.job_document(job))


@route(
    router,
    "POST",
    "/{id}/retry",
    "Do a job again, as a new one",
    status=202,
    gives=named("Job"),
    body=RETRY.schema(),
    body_required=False,
    idempotent_by_key=True,
    also={409: "`not_retryable`: it is not over, or it succeeded, or no row of it failed."},
)
async def retry_job(request: Request) -> Response:
    """The same input and version under a new id, with `retry_of`; it belongs to no group. A bulk
    job or an evaluation goes on from what it committed; with `failed_rows` the rows of a bulk job's
    errors alone are done again, also of one that succeeded, into a place of their own. A training
    begins anew, for a version of its own."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    body = await bodies.parsed_body(request, RETRY, may_be_empty=True)
    job_id, key = job_id_of(request), bodies.idempotency_key(request)
    accepted = await service.submits.run(
        lambda: service.submission.again(tenant, job_id, key, body)
    )
    return await _accepted(request, accepted)


_ENDS = {JobState.CANCELLED: "was cancelled", JobState.EXPIRED: "expired before it was started"}


async def _accepted(request: Request, accepted: Accepted) -> Response:
    service = service_of(request)
    if not accepted.replayed:
        service.metrics.submitted.inc()
    headers = {"location": f"/v1/jobs/{accepted.job.id}"} | _replay_header(accepted.replayed)
    document = await service.job_document(
        accepted.job, estimated_start_at=accepted.estimated_start_at
    )
    return answer(document, 202, headers)


def _replay_header(replayed: bool) -> dict[str, str]:
    return {"idempotency-replayed": "true"} if replayed else {}


async def find_job(request: Request, tenant: str, job_id: str) -> Job:
    """The tenant's job, or 404."""
    job = await service_of(request).find_job(tenant, job_id)
    if job is None:
        raise no_job(job_id)
    return job


def job_id_of(request: Request) -> str:
    """The id in the path; what is not spelled as one is nobody's job."""
    job_id = str(request.path_params["id"])
    if not is_id(job_id):
        raise no_job(job_id)
    return job_id


def no_job(job_id: str) -> NotFound:
    """The error of an id that is nobody's job, or another tenant's."""
    return NotFound(f"you have no job {job_id[:80]!r}", code="job_not_found")


def _metadata(params: QueryParams) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in params.multi_items():
        if name.startswith(METADATA_PREFIX):
            key = name.removeprefix(METADATA_PREFIX)
            if key in found:
                raise InvalidInput(f"{name[:80]} is given twice", code="repeated_parameter")
            bodies.check(METADATA_KEY, key, name[:80])
            bodies.check(METADATA_VALUE, value, name[:80])
            found[key] = value
    return found


def _filter(values: dict[str, object], metadata: dict[str, str]) -> JobFilter:
    model = values.get("model")
    ref = parse_model_ref(str(model)) if model is not None else None
    states = values.get("state")
    kind, group = values.get("kind"), values.get("group")
    return JobFilter(
        states=frozenset(JobState(s) for s in str(states).split(",")) if states else frozenset(),
        kind=None if kind is None else JobKind(str(kind)),
        model_name=ref.name if ref else None,
        version=ref.version if ref else None,
        group_id=None if group is None else str(group),
        metadata=metadata,
    )
