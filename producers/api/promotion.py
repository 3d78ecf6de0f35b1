"""Promotion: aliases that move when a gate holds, their history, and the way back."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.auth import asker_of
from producers.api.routes import MAX_VERSION, answer, named, page_of, route
from producers.api.schemas import rfc3339
from producers.api.service import service_of
from producers.promotion import Moved, Promotion, comparisons, promote, requeue_by_number, roll_back
from producers.shapes import Fields, Flag, Number, Shape, Text, whole
from storage.database.aliases import LAST
from storage.records.aliases import AliasMove
from storage.records.errors import NotFound
from storage.records.gates import MAX_GATE
from storage.records.models import check_name

router = APIRouter(prefix="/v1/models", tags=["promotion"])

_VERSION = Number(1, MAX_VERSION)
_NOTE = Text(0, 1_000, r"^[^\u0000]*$", "text without NUL")
PROMOTE = Fields(
    "PromoteRequest",
    required={"version": _VERSION},
    optional={
        "if": Text(1, MAX_GATE, is_called="a gate, as in accuracy >= 0.97"),
        "expected": _VERSION,
        "note": _NOTE,
        "requeue": Flag(),
        "allow_other_signature": Flag(),
        "dry_run": Flag(),
    },
)
ROLL_BACK = Fields(
    "RollbackRequest",
    required={},
    optional={"expected": _VERSION, "note": _NOTE, "requeue": Flag()},
)
REQUEUE = Fields("RequeueRequest", required={"from": _VERSION, "to": _VERSION})
HISTORY: dict[str, Shape] = {"limit": Number(1, 1000, default=100), "after": Number(1, LAST)}
_CONFLICTS = (
    "`alias_moved`, `version_not_ready`, `signature_differs`, or `gate_failed` with each comparison"
    " in `errors`: nothing was changed."
)


@route(
    router,
    "POST",
    "/{name}/aliases/{alias}/promote",
    "Point an alias to a version if a gate holds",
    gives=named("Promotion"),
    body=PROMOTE.schema(),
    also={409: _CONFLICTS, 422: "`metric_not_measured`: of a version that the gate names."},
)
async def promote_alias(request: Request) -> Response:
    """`if` compares metrics of evaluations: `accuracy >= 0.97 and recall >= @prod.recall - 0.005`.
    The alias moves by compare-and-swap from where it stood when the gate was decided. `requeue`
    takes along what is queued for the version that it leaves; `dry_run` only decides."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name, alias = _names(request)
    body = await bodies.parsed_body(request, PROMOTE)
    asked = Promotion(
        version=whole(body["version"]),
        gate=_text(body.get("if")),
        expected=None if body.get("expected") is None else whole(body["expected"]),
        note=_text(body.get("note")),
        requeue=bool(body.get("requeue")),
        allow_other_signature=bool(body.get("allow_other_signature")),
        dry_run=bool(body.get("dry_run")),
    )
    moved = await service.submits.run(
        lambda: promote(
            service.parts.database, tenant, name, alias, asked, moved_by=asker_of(request)
        )
    )
    return answer(_promotion(name, alias, asked.version, moved))


@route(
    router,
    "POST",
    "/{name}/aliases/{alias}/rollback",
    "Take an alias's last move back",
    gives=named("Promotion"),
    body=ROLL_BACK.schema(),
    body_required=False,
    also={409: "`nothing_to_roll_back`, `alias_moved`, or the version before cannot be served."},
)
async def roll_alias_back(request: Request) -> Response:
    """Once more, and the move before it is taken back. With `requeue` the jobs that are queued for
    the version it leaves go to the one it comes to."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name, alias = _names(request)
    body = await bodies.parsed_body(request, ROLL_BACK, may_be_empty=True)
    moved = await service.submits.run(
        lambda: roll_back(
            service.parts.database,
            tenant,
            name,
            alias,
            expected=None if body.get("expected") is None else whole(body["expected"]),
            note=_text(body.get("note")),
            with_queued=bool(body.get("requeue")),
            moved_by=asker_of(request),
        )
    )
    assert moved.move is not None
    return answer(_promotion(name, alias, moved.move.to_version, moved))


@route(
    router,
    "GET",
    "/{name}/aliases/{alias}/history",
    "An alias's moves",
    gives=page_of("AliasMove"),
    query=HISTORY,
)
async def get_alias_history(request: Request) -> Response:
    """The last first; `after` is a generation."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, HISTORY)
    name, alias = _names(request)
    limit, before = whole(values.get("limit", 100)), whole(values.get("after", LAST))
    moves = await service.read(
        lambda tx: tx.aliases.history(tenant, name, alias, limit=limit + 1, before=before)
    )
    if not moves and "after" not in values:
        says = f"model {name!r} has no alias {alias!r}"
        raise NotFound(says, code="alias_not_found", field="alias")
    page, more = moves[:limit], len(moves) > limit
    after = str(page[-1].generation) if more else None
    return answer({"data": [move_document(move) for move in page], "has_more": more, "next": after})


@route(
    router,
    "POST",
    "/{name}/requeue",
    "Have queued jobs answered by another version",
    gives=named("Requeued"),
    body=REQUEUE.schema(),
    also={409: "`signature_differs`: the other version cannot stand in."},
)
async def requeue_jobs(request: Request) -> Response:
    """The inference jobs that are queued for `from` go to `to`, however they named it, and record
    it. What runs stays with its version. May be repeated."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name = check_name(str(request.path_params["name"]), field="name")
    body = await bodies.parsed_body(request, REQUEUE)
    old, new = whole(body["from"]), whole(body["to"])
    moved = await service.submits.run(
        lambda: requeue_by_number(service.parts.database, tenant, name, old, new)
    )
    return answer({"name": name, "from": old, "to": new, "requeued": moved})


def move_document(move: AliasMove) -> dict[str, object]:
    """One move of an alias."""
    return {
        "name": move.name,
        "alias": move.alias,
        "generation": move.generation,
        "from_version": move.from_version,
        "version": move.to_version,
        "why": move.why.reason.value,
        "undoes": move.why.undoes,
        "if": move.why.gate,
        "seen": None if move.why.seen is None else dict(move.why.seen),
        "note": move.why.note,
        "moved_by": move.why.moved_by,
        "moved_at": rfc3339(move.moved_at),
    }


def _promotion(name: str, alias: str, version: int, moved: Moved) -> dict[str, object]:
    decision = moved.decision
    return {
        "name": name,
        "alias": alias,
        "version": version,
        "holds": None if decision is None else decision.holds,
        "comparisons": [] if decision is None else comparisons(decision),
        "measured": None if moved.measured is None else moved.measured.told(),
        "move": None if moved.move is None else move_document(moved.move),
        "requeued": moved.requeued,
    }


def _names(request: Request) -> tuple[str, str]:
    name = check_name(str(request.path_params["name"]), field="name")
    return name, check_name(str(request.path_params["alias"]), field="alias")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
