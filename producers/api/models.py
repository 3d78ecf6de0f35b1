"""The model registry: push versions, look at them, move aliases."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies, uploads
from producers.api.auth import asker_of
from producers.api.jobs import WAIT
from producers.api.routes import MAX_VERSION, MODEL_NAME, answer, named, page_of, route
from producers.api.schemas import (
    alias_document,
    measured_document,
    model_document,
    version_document,
)
from producers.api.service import UNSETTLED, Service, service_of
from producers.promotion import point
from producers.registry import LICENCE, NOTES, push_version
from producers.shapes import Fields, Number, Schema, Shape, whole
from storage import strict_json
from storage.records.errors import InvalidInput, NotFound
from storage.records.models import ModelVersion, check_name

router = APIRouter(prefix="/v1/models", tags=["models"])

LIST: dict[str, Shape] = {"limit": Number(1, 1000, default=100), "after": MODEL_NAME}
ALIAS = Fields(
    "AliasRequest",
    required={"version": Number(1, MAX_VERSION)},
    optional={"expected": Number(1, MAX_VERSION)},
)
_FORM: Schema = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A .keras archive."},
        "options": {
            "type": "string",
            "description": (
                "JSON: input (tensor, image, text, record), labels, top_k, scores, label_output,"
                " image, columns, serving (max_batch, latency_objective_ms, batch_sizes, pad, cost,"
                " max_cost, instances, xla, precision). All optional."
            ),
        },
        "licence": {**LICENCE.schema(), "description": "Under which it may be used."},
        "notes": {**NOTES.schema(), "description": "What else there is to say of it."},
    },
    "required": ["file"],
    "additionalProperties": False,
}


@route(
    router,
    "POST",
    "/{name}/versions",
    "Push a version",
    status=201,
    gives=named("Version"),
    body=_FORM,
    body_type="multipart/form-data",
    also={
        200: "The newest version has these bytes and options already; it is the answer.",
        413: "Larger than the service takes.",
    },
)
async def push_model_version(request: Request) -> Response:
    """Immutable, pinned by its SHA-256. It is `pending` until a worker has loaded it; jobs may be
    submitted to it at once."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name = check_name(str(request.path_params["name"]), field="name")
    parts, limit = service.parts, service.settings.max_model_bytes
    async with uploads.receive(
        request, service.uploads, max_file_bytes=limit, fields=("options", "licence", "notes")
    ) as upload:
        options = _options(upload.fields.get("options"))
        licence, notes = (_text(upload, field) for field in ("licence", "notes"))
        pushed = await service.uploads.run(
            lambda: push_version(
                parts.database,
                parts.objects,
                tenant,
                name,
                upload.path,
                options,
                digest=upload.digest,
                uploader=asker_of(request),
                licence=licence,
                notes=notes,
                chance=parts.chance,
            )
        )
    version = pushed.version
    location = f"/v1/models/{version.name}/versions/{version.version}"
    return answer(version_document(version), 201 if pushed.is_new else 200, {"location": location})


@route(router, "GET", "", "List models by name", gives=page_of("Model"), query=LIST)
async def list_models(request: Request) -> Response:
    """Each with its newest version and its aliases."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, LIST)
    limit = whole(values.get("limit", 100))
    after = values.get("after")
    models = await service.read(
        lambda tx: tx.models.list(tenant, limit + 1, None if after is None else str(after))
    )
    page, more = models[:limit], len(models) > limit
    documents = [model_document(model) | {"versions": model.versions} for model in page]
    return answer({"data": documents, "has_more": more, "next": page[-1].name if more else None})


@route(router, "GET", "/{name}", "A model with its versions", gives=named("ModelWithVersions"))
async def get_model(request: Request) -> Response:
    """Newest version first."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name = check_name(str(request.path_params["name"]), field="name")
    model = await service.read(lambda tx: tx.models.model(tenant, name))
    if model is None:
        raise _no_model(name)
    versions = await service.read(lambda tx: tx.models.versions(tenant, name))
    newest_first = sorted(versions, key=lambda version: -version.version)
    return answer(
        model_document(model)
        | {"versions": [version_document(v, brief=True) for v in newest_first]}
    )


@route(
    router,
    "GET",
    "/{name}/versions/{version}",
    "A version, now or when a worker has loaded it",
    gives=named("VersionMeasured"),
    query=WAIT,
)
async def get_model_version(request: Request) -> Response:
    """With `wait` seconds it answers as soon as the version is `ready` or `broken`, also one that
    is in `training`. Beside the version it shows its serving knobs and what workers measured: the
    time of a pass by bucket, and what a job costs."""
    service = service_of(request)
    tenant = await service.tenant(request)
    wait_s = float(str(bodies.query(request, WAIT).get("wait", 0)))
    version = await find_version(service, request, tenant)
    if wait_s > 0 and version.state in UNSETTLED:
        version = await service.wait(
            request,
            "version",
            version.id,
            lambda: find_version(service, request, tenant),
            lambda version: version.state not in UNSETTLED,
            min(wait_s, service.settings.max_wait_s),
        )
    latency, costs = await service.read(
        lambda tx: (tx.latency.of_version(version.id), tx.latency.costs([version.id]))
    )
    return answer(measured_document(version, latency, costs))


@route(
    router,
    "PUT",
    "/{name}/aliases/{alias}",
    "Point an alias to a version",
    gives=named("Alias"),
    body=ALIAS.schema(),
    also={409: "`expected` is not what the alias points to."},
)
async def put_alias(request: Request) -> Response:
    """Atomic. With `expected` it moves only from that version."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name = check_name(str(request.path_params["name"]), field="name")
    alias = check_name(str(request.path_params["alias"]), field="alias")
    body = await bodies.parsed_body(request, ALIAS)
    version = whole(body["version"])
    expected = None if body.get("expected") is None else whole(body["expected"])
    moved = await service.write(
        lambda tx: point(
            tx, tenant, name, alias, version, expected=expected, moved_by=asker_of(request)
        )
    )
    return answer(alias_document(moved))


def _options(text: bytes | None) -> object:
    if text is None or not text.strip():
        return None
    try:
        return strict_json.parse(text)
    except InvalidInput as error:
        raise InvalidInput(
            f"options: {error.message}", code=error.stable_code, field="options"
        ) from None


def _text(upload: uploads.Upload, field: str) -> str | None:
    """What a part beside the file says; a line of a form ends in CR LF."""
    content = upload.fields.get(field)
    if content is None:
        return None
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InvalidInput(f"{field} is not UTF-8", code="invalid_value", field=field) from None


async def find_version(service: Service, request: Request, tenant: str) -> ModelVersion:
    """The version that the path names, whatever its state, or 404."""
    name, number = named_version(request)
    versions = await service.read(lambda tx: tx.models.versions(tenant, name))
    if not versions:
        raise _no_model(name)
    for version in versions:
        if version.version == number:
            return version
    text = str(request.path_params["version"])
    raise NotFound(f"{name} has no version {text[:20]!r}", code="version_not_found")


def named_version(request: Request) -> tuple[str, int]:
    """The name and the number in the path; 0 for what is no number."""
    name = check_name(str(request.path_params["name"]), field="name")
    text = str(request.path_params["version"])
    return name, int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _no_model(name: str) -> NotFound:
    return NotFound(f"you have no model {name!r}", code="model_not_found")
