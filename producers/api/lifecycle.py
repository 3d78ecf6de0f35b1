"""What becomes of a version: what is said of it, deprecated or ready, deleted."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.models import named_version
from producers.api.routes import answer, named, route
from producers.api.schemas import version_document
from producers.api.service import service_of
from producers.registry import LICENCE, NOTES
from producers.shapes import Choice, Fields
from storage.database import Transaction
from storage.database.lifecycle import Edit

router = APIRouter(prefix="/v1/models", tags=["models"])

EDIT = Fields(
    "VersionEdit",
    required={},
    optional={"licence": LICENCE, "notes": NOTES, "state": Choice(("deprecated", "ready"))},
)


@route(
    router,
    "PATCH",
    "/{name}/versions/{version}",
    "Change what is said of a version, deprecate or restore it",
    gives=named("Version"),
    body=EDIT.schema(),
    also={
        409: "`version_not_ready`: only a ready version is deprecated, a deprecated one restored.",
        410: "`version_deleted`.",
    },
)
async def edit_model_version(request: Request) -> Response:
    """An empty text clears `licence` or `notes`. A `deprecated` version serves who names it by
    number and whatever alias stands for it; a bare name never means it, and no alias can be pointed
    at it."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name, number = named_version(request)
    body = await bodies.parsed_body(request, EDIT)
    state = body.get("state")
    edit = Edit(
        licence=_text(body.get("licence")),
        notes=_text(body.get("notes")),
        deprecated=None if state is None else state == "deprecated",
    )
    version = await service.write(lambda tx: tx.lifecycle.edit(tenant, name, number, edit))
    return answer(version_document(version))


@route(
    router,
    "DELETE",
    "/{name}/versions/{version}",
    "Delete a version that nothing depends on",
    gives=named("VersionDeleted"),
    also={
        409: (
            "`version_in_use`: `errors` names what depends on it: aliases, queued and running jobs,"
            " running trials, trainings that begin with it. `version_in_training`: cancel its job."
        ),
    },
)
async def delete_model_version(request: Request) -> Response:
    """For good: nothing brings it back, and its number is not used again. It stays as a record,
    with its metrics and where it came from. A job that was being submitted is still answered: the
    artifact stays for an hour, and for as long as the version has jobs."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    name, number = named_version(request)

    def delete(tx: Transaction) -> dict[str, object]:
        gone = tx.lifecycle.delete(tenant, name, number)
        children = tx.lifecycle.dependents(gone).children
        return version_document(gone) | {"made_from_it": list(children)}

    return answer(await service.write(delete))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
