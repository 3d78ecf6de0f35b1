"""Model cards: what the records say of a version, as JSON and as Markdown."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.models import find_version
from producers.api.routes import answer, named, route
from producers.api.service import service_of
from producers.card_text import to_markdown
from producers.model_card import Records, card_of
from producers.shapes import Choice, Shape
from storage.database import Transaction
from storage.records.models import ModelVersion

router = APIRouter(prefix="/v1/models", tags=["models"])

QUERY: dict[str, Shape] = {"format": Choice(("json", "markdown"), default="json")}
MOST_EVALUATIONS, MOST_TRIALS = 20, 50


@route(
    router,
    "GET",
    "/{name}/versions/{version}/card",
    "A version's model card",
    gives=named("ModelCard"),
    or_text="text/markdown",
    query=QUERY,
)
async def get_model_card(request: Request) -> Response:
    """What it takes and gives, where it comes from, how good it is on which data, how it is served,
    which aliases stood for it and what depends on it: made from the records, each time anew. The
    newest 20 evaluations and 50 trials are told. `format=markdown` gives it as text."""
    service = service_of(request)
    tenant = await service.tenant(request)
    asked = bodies.query(request, QUERY)
    version = await find_version(service, request, tenant)
    card = card_of(await service.read(lambda tx: _records(tx, version)))
    if asked.get("format") == "markdown":
        return Response(to_markdown(card), media_type="text/markdown")
    return answer(card)


def _records(tx: Transaction, version: ModelVersion) -> Records:
    return Records(
        version=version,
        latency=tx.latency.of_version(version.id),
        costs=tx.latency.costs([version.id]),
        evaluations=tx.evaluations.of_version(version.id, MOST_EVALUATIONS),
        stays=tx.lifecycle.stays(version),
        parts=tx.lifecycle.parts(version, MOST_TRIALS),
        dependents=tx.lifecycle.dependents(version),
    )
