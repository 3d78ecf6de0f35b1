"""The OpenAI Batch API under ``/openai/v1``, as its own client speaks it: files, batches, models.

A batch is a bulk job over an uploaded file of requests; whatever we do for a bulk job is done for
it. What is told in their shapes is put together in ``openai_documents``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import orjson
from fastapi import APIRouter, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.api import bodies, uploads
from producers.api import openai_documents as documents
from producers.api.auth import keyless_tenant
from producers.api.files import keep
from producers.api.openai_outputs import Wrote, find_written, lines_of
from producers.api.problems import MEDIA_TYPE
from producers.api.routes import Handler, answer
from producers.api.service import Service, service_of
from producers.api.streams import PIECE_BYTES, stored
from producers.batch_files import (
    ENDPOINT,
    MAX_FILE_BYTES,
    WINDOW,
    BatchError,
    Checked,
    bulk_request,
    check_file,
    job_error,
)
from producers.repeats import repeat_of
from producers.requests import MAX_METADATA_KEYS, METADATA_KEY, METADATA_VALUE
from producers.shapes import Choice, Fields, Labels, Number, Raw, Shape, Text, whole
from producers.submission import Asked
from storage.database import Transaction
from storage.objects import Objects
from storage.records.bulk import spec_of
from storage.records.errors import Gone, InvalidInput, NotFound, TooLarge, Unauthenticated
from storage.records.jobs import TERMINAL, Job, JobFilter, Millis
from storage.records.models import Model, parse_model_ref
from storage.records.tenants import StoredFile
from storage.records.webhooks import BATCH_LABEL

ROOT = "/openai/v1"
router = APIRouter(prefix=ROOT)

MODELS_AT_ONCE = 1000
_ID = Text(1, 64, is_called="an id")
_FORM_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_PURPOSE = Text(1, 40)
FILES: dict[str, Shape] = {
    "limit": Number(1, 10_000, default=10_000),
    "after": _ID,
    "order": Choice(("asc", "desc"), default="desc"),
    "purpose": _PURPOSE,
}
BATCHES: dict[str, Shape] = {"limit": Number(1, 100, default=20), "after": _ID}
BATCH = Fields(
    "a batch",
    required={
        "input_file_id": _ID,
        "endpoint": Choice((ENDPOINT,)),
        "completion_window": Choice((WINDOW,)),
    },
    optional={
        "metadata": Labels(MAX_METADATA_KEYS, METADATA_KEY, METADATA_VALUE),
        "output_expires_after": Raw({}),  # what we keep is kept for the retention of everything
    },
)


def _route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Their documentation is theirs: what is served here is not in our OpenAPI."""

    def register(handler: Handler) -> Handler:
        router.add_api_route(
            path, handler, methods=[method], response_model=None, include_in_schema=False
        )
        return handler

    return register


@_route("POST", "/files")
async def upload_openai_file(request: Request) -> Response:
    """An ordinary file of ours."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    limit = service.settings.max_file_bytes
    async with uploads.receive(
        request, service.uploads, max_file_bytes=limit, fields=_FORM_FIELDS
    ) as upload:
        purpose = upload.fields.get("purpose")
        if purpose is None:
            raise InvalidInput("purpose is missing", code="missing_field", field="purpose")
        if purpose != b"batch":
            says = "purpose must be batch: files are taken here to make batches of"
            raise InvalidInput(says, code="invalid_value", field="purpose")
        file = await keep(service, tenant, upload)
    return answer(documents.file_document(file, _kept_ms(service)))


@_route("GET", "/files")
async def list_openai_files(request: Request) -> Response:
    """Files that were uploaded, here or to ``/v1/files``. What a batch wrote is named by it."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    values = bodies.query(request, FILES)
    limit = whole(values.get("limit", 10_000))
    after = _after(values, documents.FILE)
    oldest_first = values.get("order") == "asc"
    purpose = values.get("purpose", "batch")
    if purpose == "batch_output":
        says = "purpose: only uploads are listed; what a batch wrote is named by the batch"
        raise InvalidInput(says, code="invalid_value", field="purpose")
    found: Sequence[StoredFile] = ()
    if purpose == "batch":
        found = await service.read(
            lambda tx: tx.files.list(tenant, limit + 1, after, oldest_first=oldest_first)
        )
    data = [documents.file_document(file, _kept_ms(service)) for file in found[:limit]]
    return answer(documents.list_document(data, has_more=len(found) > limit))


@_route("GET", "/files/{id}")
async def get_openai_file(request: Request) -> Response:
    """Of an upload, or of what a batch wrote."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    found, kept_ms = await _find_file(service, tenant, _path_id(request)), _kept_ms(service)
    if isinstance(found, StoredFile):
        return answer(documents.file_document(found, kept_ms))
    return answer(documents.output_document(found.prefix, found.job, found.size_bytes, kept_ms))


@_route("GET", "/files/{id}/content")
async def get_openai_file_content(request: Request) -> Response:
    """The bytes of an upload as they came; what a batch wrote, a line for each request, in the
    order in which they were asked."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    found = await _find_file(service, tenant, _path_id(request))
    gone = Gone("the file's content was erased", code="file_gone")
    if isinstance(found, StoredFile):
        return await stored(
            service,
            service.parts.objects,
            [(found.object_key, found.size_bytes)],
            filename=found.filename,
            media_type=found.content_type,
            gone=gone,
        )
    pieces = lines_of(service, found)
    try:
        first = await anext(pieces, b"")
    except NotFound:
        raise gone from None

    async def whole_file() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(
        whole_file(),
        media_type="application/jsonl",
        headers={
            "content-disposition": f"attachment; filename={found.filename}",
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox",
        },
    )


@_route("POST", "/batches")
async def create_openai_batch(request: Request) -> Response:
    """The file is read once. If something is wrong with it the batch has failed when this answers,
    and says what; if it names no model of the caller's, there is no batch."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    key = bodies.idempotency_key(request)
    body = await bodies.parsed_body(request, BATCH)
    repeat = repeat_of("openai/batches", key, body)
    text = str(body["input_file_id"])
    file = await service.read(lambda tx: _upload(tx, tenant, text))
    if file is None:
        raise _no_file(text, "input_file_id")
    metadata = body.get("metadata")
    labels = {str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {}
    checked = await service.uploads.run(partial(_check, service.parts.objects, file))
    request_of_ours = bulk_request(file.id, checked, labels)
    job = await _submit(service, Asked(tenant, request_of_ours, repeat), checked.errors)
    return answer(await service.read(partial(_batch, job=job)))


@_route("GET", "/batches")
async def list_openai_batches(request: Request) -> Response:
    """Newest first."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    values = bodies.query(request, BATCHES)
    limit = whole(values.get("limit", 20))
    after = _after(values, documents.BATCH)
    where = JobFilter(metadata=dict([BATCH_LABEL]))

    def look(tx: Transaction) -> tuple[list[dict[str, object]], bool]:
        found = tx.jobs.list(tenant, where, limit=limit + 1, after=after)
        return [_batch(tx, job) for job in found[:limit]], len(found) > limit

    data, has_more = await service.read(look)
    return answer(documents.list_document(data, has_more=has_more))


@_route("GET", "/batches/{id}")
async def get_openai_batch(request: Request) -> Response:
    """As it stands."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    text = _path_id(request)
    return answer(await service.read(lambda tx: _batch(tx, _find_batch(tx, tenant, text))))


@_route("POST", "/batches/{id}/cancel")
async def cancel_openai_batch(request: Request) -> Response:
    """One that is over stays as it is. What is scored by then can be read."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    await bodies.no_body(request)
    text = _path_id(request)

    def cancel(tx: Transaction) -> Job:
        job = _find_batch(tx, tenant, text)
        return tx.jobs.request_cancel(tenant, job.id) or job

    job = await service.write(cancel)
    service.watcher.tell([job.id])
    return answer(await service.read(partial(_batch, job=job)))


@_route("GET", "/models")
async def list_openai_models(request: Request) -> Response:
    """All of them, by name."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    data: list[dict[str, object]] = []
    after: str | None = None
    while True:
        page = await service.read(partial(_models, tenant=tenant, after=after))
        data += [documents.model_document(model) for model in page]
        if len(page) < MODELS_AT_ONCE:
            return answer(documents.list_document(data, has_more=False))
        after = page[-1].name


@_route("GET", "/models/{id}")
async def get_openai_model(request: Request) -> Response:
    """By any name that a request may give it."""
    service = service_of(request)
    tenant = await _tenant(service, request)
    bodies.query(request, {})
    called = _path_id(request)
    ref = parse_model_ref(called)
    version = await service.read(lambda tx: tx.models.resolve(tenant, ref))
    return answer(documents.version_document(version, called))


async def _tenant(service: Service, request: Request) -> str:
    """Whose request this is. Their client must be given some key: where none is needed, one that
    nobody knows is none."""
    try:
        return await service.tenant(request)
    except Unauthenticated:
        if not service.keyless:
            raise
        return keyless_tenant(request, listens_on_loopback=True)


def _kept_ms(service: Service) -> Millis:
    return service.settings.retention_days * 86_400_000


def _path_id(request: Request) -> str:
    return str(request.path_params["id"])


def _after(values: Mapping[str, object], prefix: str) -> str | None:
    """The id of ours after which a page begins."""
    if "after" not in values:
        return None
    found = documents.id_in(str(values["after"]), prefix)
    if found is None:
        says = f"after must be an id of this list, as in {prefix}0197…"
        raise InvalidInput(says, code="invalid_value", field="after")
    return found


def _models(tx: Transaction, *, tenant: str, after: str | None) -> list[Model]:
    return tx.models.list(tenant, MODELS_AT_ONCE, after)


def _upload(tx: Transaction, tenant: str, text: str) -> StoredFile | None:
    file_id = documents.id_in(text, documents.FILE)
    return None if file_id is None else tx.files.get(tenant, file_id)


async def _find_file(service: Service, tenant: str, text: str) -> StoredFile | Wrote:
    found = await service.read(
        lambda tx: _upload(tx, tenant, text) or find_written(tx, tenant, text)
    )
    if found is None:
        raise _no_file(text)
    return found


def _no_file(text: str, field: str | None = None) -> NotFound:
    return NotFound(f"you have no file {text[:80]!r}", code="file_not_found", field=field)


def _find_batch(tx: Transaction, tenant: str, text: str) -> Job:
    job_id = documents.id_in(text, documents.BATCH)
    job = tx.jobs.get(tenant, job_id) if job_id else None
    if job is None or not documents.is_batch(job):
        raise NotFound(f"you have no batch {text[:80]!r}", code="batch_not_found")
    return job


def _batch(tx: Transaction, job: Job) -> dict[str, object]:
    """The document of a batch. Once it is over, what is in its parts is all there is of it."""
    run, payload = tx.bulk.run(job.id, tenant=job.tenant), tx.jobs.payload(job.tenant, job.id)
    if run is not None and job.state in TERMINAL:
        parts = [one.part for one in tx.bulk.parts(job.id)]
        done, failed = sum(part.rows for part in parts), sum(part.failed for part in parts)
        run = replace(run, progress=replace(run.progress, rows_done=done, rows_failed=failed))
    spec = spec_of(payload) if isinstance(payload, bytes) else None
    return documents.batch_document(job, run, spec)


def _check(objects: Objects, file: StoredFile) -> Checked:
    """Read a file to its end."""
    if file.size_bytes > MAX_FILE_BYTES:
        raise TooLarge(
            f"the file has {file.size_bytes} bytes, and that of a batch may have {MAX_FILE_BYTES}",
            field="input_file_id",
        )

    def pieces() -> Iterator[bytes]:
        for start in range(0, file.size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, file.size_bytes - start)
            yield objects.get_range(file.object_key, start, length)

    try:
        return check_file(pieces())
    except NotFound:
        raise Gone("the file's content was erased", code="file_gone") from None


async def _submit(service: Service, asked: Asked, errors: Sequence[BatchError]) -> Job:
    """The job, which has failed already if there are errors."""
    submission = service.submission
    if errors:
        error = job_error(errors)
        return await service.submits.run(lambda: submission.failed(asked, error))
    (accepted,) = await service.submits.run(lambda: submission.together([asked]))
    if isinstance(accepted, Exception):
        raise accepted
    if not accepted.replayed:
        service.metrics.submitted.inc()
    return accepted.job


class Envelope:
    """ASGI, around everything: below ``/openai/`` a problem is told in their envelope, whoever of
    us raised it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/openai/"):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def told(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    data = orjson.dumps(documents.error_document(orjson.loads(body)))
                    headers = MutableHeaders(raw=start["headers"])
                    headers["content-type"] = "application/json"
                    headers["content-length"] = str(len(data))
                    await send(start)
                    await send({**message, "body": data})

        await self._app(scope, receive, told)


def _is_problem(start: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in start.get("headers", ())
