"""Files: uploaded once, pointed to by ``{"ref": "forebay://files/<id>"}``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies, uploads
from producers.api.routes import answer, named, route
from producers.api.schemas import file_document
from producers.api.service import Service, service_of
from producers.api.streams import stored
from producers.shapes import Schema
from storage.objects import object_key
from storage.records.errors import Gone, NotFound
from storage.records.ids import is_id, uuid7
from storage.records.tenants import StoredFile

router = APIRouter(prefix="/v1/files", tags=["files"])

_FORM: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
    "additionalProperties": False,
}


@route(
    router,
    "POST",
    "",
    "Upload a file",
    status=201,
    gives=named("File"),
    body=_FORM,
    body_type="multipart/form-data",
    also={413: "Larger than the service takes."},
)
async def upload_file(request: Request) -> Response:
    """One part named `file`. Its `uri` is what an input's `ref` names."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    limit = service.settings.max_file_bytes
    async with uploads.receive(request, service.uploads, max_file_bytes=limit) as upload:
        file = await keep(service, tenant, upload)
    return answer(file_document(file), 201, {"location": f"/v1/files/{file.id}"})


async def keep(service: Service, tenant: str, upload: uploads.Upload) -> StoredFile:
    """Put what was uploaded, then write its row."""
    parts = service.parts

    def store() -> StoredFile:
        with parts.database.read() as tx:
            file_id = uuid7(tx.now(), parts.chance(80))
        key = object_key("files", tenant, file_id)
        parts.objects.put_file(key, upload.path)
        with parts.database.begin() as tx:
            return tx.files.add(
                tenant,
                id=file_id,
                filename=upload.filename,
                content_type=upload.content_type,
                object_key=key,
                size_bytes=upload.size_bytes,
                digest=upload.digest,
            )

    return await service.uploads.run(store)


@route(router, "GET", "/{id}", "What is known of a file", gives=named("File"))
async def get_file(request: Request) -> Response:
    """Its name, size and SHA-256."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    return answer(file_document(await _find(service, request, tenant)))


@route(
    router,
    "GET",
    "/{id}/content",
    "Download a file",
    gives={"type": "string", "format": "binary"},
    media_type="application/octet-stream",
)
async def get_file_content(request: Request) -> Response:
    """Always as an attachment: nothing uploaded is ever shown by a browser."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    file = await _find(service, request, tenant)
    return await stored(
        service,
        service.parts.objects,
        [(file.object_key, file.size_bytes)],
        filename=file.filename,
        media_type=file.content_type,
        gone=Gone("the file's content was erased", code="file_gone"),
    )


async def _find(service: Service, request: Request, tenant: str) -> StoredFile:
    file_id = str(request.path_params["id"])
    found = None
    if is_id(file_id):
        found = await service.read(lambda tx: tx.files.get(tenant, file_id))
    if found is None:
        raise NotFound(f"you have no file {file_id[:80]!r}", code="file_not_found")
    return found
