"""Trials: a candidate beside the version that an alias stands for, with limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.auth import asker_of
from producers.api.routes import MAX_VERSION, answer, named, route
from producers.api.schemas import rfc3339
from producers.api.service import Service, service_of
from producers.shapes import Choice, Fields, Number, Schema, Shape, present, whole
from producers.trials import NewTrial, start
from storage.database import Transaction
from storage.records.errors import NotFound
from storage.records.models import check_name
from storage.records.trials import (
    ArmSeen,
    Disagreement,
    Limits,
    Trial,
    TrialKind,
    TrialState,
)

router = APIRouter(prefix="/v1/models", tags=["promotion"])

_SHARE = Number(0, 1, whole=False)
_DEFAULT = Limits()
LIMITS = Fields(
    "TrialLimits",
    required={},
    optional={
        "error_share": Number(0, 1, whole=False, default=_DEFAULT.error_share),
        "latency_ratio": Number(0.01, 1_000, whole=False),
        "latency_ms": Number(0.001, 86_400_000, whole=False),
        "disagreement": _SHARE,
        "min_jobs": Number(1, 1_000, default=_DEFAULT.min_jobs),
        "tolerance": Number(0, 1, whole=False, default=_DEFAULT.tolerance),
    },
)
TRIAL = Fields(
    "TrialRequest",
    required={
        "version": Number(1, MAX_VERSION),
        "kind": Choice(tuple(kind.value for kind in TrialKind)),
    },
    optional={"share": Number(0.0001, 1, whole=False, default=0.05), "limits": LIMITS},
)
LIST: dict[str, Shape] = {"limit": Number(1, 1000, default=100)}
_HERE = "/{name}/aliases/{alias}/trials"
_LIST: Schema = {
    "type": "object",
    "properties": {"data": {"type": "array", "items": named("Trial")}},
    "required": ["data"],
}


@route(
    router,
    "POST",
    _HERE,
    "Try a version beside the one that an alias stands for",
    status=201,
    gives=named("Trial"),
    body=TRIAL.schema(),
    also={
        409: "`trial_running`, `same_version`, `version_not_ready`, or `signature_differs`.",
    },
)
async def start_trial(request: Request) -> Response:
    """A `canary` answers a share of what is submitted to the alias; which jobs is decided by a hash
    of the job's id. A `shadow` scores a share of the inputs once more, in jobs that nobody sees.
    Over a limit the candidate is returned, and what is queued for it goes to the other version."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    name, alias = _names(request)
    body = present(await bodies.parsed_body(request, TRIAL))
    asked = NewTrial(
        version=whole(body["version"]),
        kind=TrialKind(str(body["kind"])),
        share=float(body.get("share", 0.05)),
        limits=_limits(body.get("limits")),
    )
    chance, started_by = service.parts.chance, asker_of(request)
    trial = await service.write(
        lambda tx: start(tx, tenant, name, alias, asked, started_by=started_by, chance=chance)
    )
    here = f"/v1/models/{name}/aliases/{alias}/trials/{trial.id}"
    return answer(trial_document(trial), 201, {"location": here})


@route(router, "GET", _HERE, "An alias's trials", gives=_LIST, query=LIST)
async def list_trials(request: Request) -> Response:
    """The newest first."""
    service = service_of(request)
    tenant = await service.tenant(request)
    limit = whole(bodies.query(request, LIST).get("limit", 100))
    name, alias = _names(request)

    def look(tx: Transaction) -> list[Trial]:
        if tx.models.model(tenant, name) is None:
            raise NotFound(f"you have no model {name!r}", code="model_not_found")
        return tx.trials.of_alias(tenant, name, alias, limit)

    return answer({"data": [trial_document(one) for one in await service.read(look)]})


@route(router, "GET", _HERE + "/{id}", "A trial", gives=named("Trial"))
async def get_trial(request: Request) -> Response:
    """What was counted of it, about a second ago while it runs."""
    service = service_of(request)
    bodies.query(request, {})
    return answer(trial_document(await _find(service, request)))


@route(
    router,
    "POST",
    _HERE + "/{id}/stop",
    "End a trial",
    gives=named("Trial"),
)
async def stop_trial(request: Request) -> Response:
    """Jobs that are queued for the candidate go to the version that the alias stands for. One that
    has ended stays as it ended."""
    service = service_of(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    trial = await _find(service, request)
    reason = f"stopped by {asker_of(request)}"
    await service.write(lambda tx: tx.trials.end(trial, TrialState.STOPPED, reason))
    return answer(trial_document(await _find(service, request)))


def trial_document(trial: Trial) -> dict[str, object]:
    """A trial as callers see it."""
    return {
        "id": trial.id,
        "name": trial.name,
        "alias": trial.alias,
        "kind": trial.kind.value,
        "state": trial.state.value,
        "reason": trial.reason,
        "base": trial.base_version,
        "candidate": trial.candidate_version,
        "share": trial.share,
        "limits": asdict(trial.limits),
        "seen": {arm: _arm(one) for arm, one in trial.seen.items()},
        "compared": trial.compared,
        "disagreed": trial.disagreed,
        "disagreement": trial.disagreed / trial.compared if trial.compared else None,
        "examples": [_example(one) for one in trial.progress.examples],
        "repointed": trial.repointed,
        "started_by": trial.started_by,
        "created_at": rfc3339(trial.created_at),
        "ended_at": rfc3339(trial.ended_at),
    }


def _arm(seen: ArmSeen) -> dict[str, object]:
    return {**asdict(seen), "error_share": seen.error_share}


def _example(one: Disagreement) -> dict[str, object]:
    return {"job": one.job_id, "base": one.base, "candidate": one.candidate}


def _limits(told: Any) -> Limits:
    given = present(told)
    if "min_jobs" in given:
        given["min_jobs"] = whole(given["min_jobs"])
    if told is not None and "error_share" in told and told["error_share"] is None:
        given["error_share"] = None
    return Limits(**given)


async def _find(service: Service, request: Request) -> Trial:
    tenant = await service.tenant(request)
    name, alias = _names(request)
    trial_id = str(request.path_params["id"])
    found = await service.read(lambda tx: tx.trials.get(trial_id, tenant=tenant))
    if found is None or (found.name, found.alias) != (name, alias):
        raise NotFound(f"{name}@{alias} has no trial {trial_id[:40]!r}", code="trial_not_found")
    return found


def _names(request: Request) -> tuple[str, str]:
    name = check_name(str(request.path_params["name"]), field="name")
    return name, check_name(str(request.path_params["alias"]), field="alias")
