"""Liveness, readiness and figures. Open to whoever reaches the port: no tenant's data is in them,
but for the figures' labels that ``scraping`` keeps for the operator.

Ready means that a submit would be durable now: database and object store answer. A broker that is
down or workers that are absent only delay the work, so they are named and do not make it unready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api.problems import public_words
from producers.api.routes import answer, route
from producers.api.scraping import may_see_names
from producers.api.service import Service, service_of
from producers.shapes import Schema
from storage.records.errors import Conflict, ForebayError

_LOG = logging.getLogger("forebay.api.health")
router = APIRouter(tags=["health"])

PROBE_TIMEOUT_S = 3.0
QUICK_TTL_S, OBJECTS_TTL_S = 1.0, 10.0

_ALIVE: Schema = {
    "type": "object",
    "properties": {"status": {"type": "string"}},
    "required": ["status"],
}
_READY: Schema = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean"},
        "parts": {"type": "object", "additionalProperties": {"type": "object"}},
    },
    "required": ["ready", "parts"],
}


@route(
    router,
    "GET",
    "/healthz",
    "Whether the process is alive",
    gives=_ALIVE,
    open_to_all=True,
)
async def healthz(request: Request) -> Response:
    """Looks at nothing else."""
    return answer({"status": "ok"})


@route(
    router,
    "GET",
    "/readyz",
    "Whether work can be taken",
    gives=_READY,
    open_to_all=True,
    also={503: "Database or object store does not answer; `parts` names which."},
)
async def readyz(request: Request) -> Response:
    """Each part is `ok`, `degraded` (work is taken and waits) or `down`."""
    service = service_of(request)
    database, objects = await asyncio.gather(
        _verdict(service, "database", QUICK_TTL_S, lambda: _database(service)),
        _verdict(service, "objects", OBJECTS_TTL_S, service.parts.objects.probe),
    )
    parts: dict[str, dict[str, object]] = {"database": database, "objects": objects}
    trouble = service.parts.broker_trouble()
    parts["broker"] = _degraded(trouble) if trouble else {"status": "ok"}
    if database["status"] == "ok":
        sessions = await _count_sessions(service)
        none = "no worker is alive; jobs wait"
        parts["workers"] = {"status": "ok"} if sessions else _degraded(none)
        parts["workers"]["live"] = sessions
    else:
        parts["workers"] = {"status": "unknown"}
    ready = all(part["status"] == "ok" for part in (database, objects))
    return answer(
        {"ready": ready, "parts": parts}, 200 if ready else 503, {"cache-control": "no-store"}
    )


@route(
    router,
    "GET",
    "/metrics",
    "Figures for Prometheus",
    gives={"type": "string"},
    media_type="text/plain",
    open_to_all=True,
)
async def metrics(request: Request) -> Response:
    """This process' figures and the installation's; the latter are left out while the database
    does not answer. Names of tenants, models and hosts are only shown on this very machine or to
    `Authorization: Bearer` with the operator's `FOREBAY_METRICS_TOKEN`."""
    service = service_of(request)
    named = may_see_names(
        request,
        listens_on_loopback=service.keyless,
        token=service.settings.metrics_token,
    )
    system = await service.scraper.page(named=named)
    service.metrics.waiting.set(service.watcher.waiting)
    return Response(
        service.metrics.page() + system,
        media_type="text/plain; version=0.0.4",
        headers={"cache-control": "no-store"},
    )


async def _verdict(
    service: Service, name: str, ttl_s: float, probe: Callable[[], None]
) -> dict[str, object]:
    now_s = service.parts.clock.monotonic_s
    until_s, known = service.verdicts.get(name, (0.0, None))
    if known is not None and now_s() < until_s:
        return known
    verdict: dict[str, object] = {"status": "ok"}
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await service.health.run(probe)
    except TimeoutError:
        verdict = {"status": "down", "detail": f"no answer within {PROBE_TIMEOUT_S:.0f} s"}
    except ForebayError as error:
        if service.is_news(f"readyz {name}"):
            _LOG.warning("%s is down: %s", name, error.message)
        verdict = {"status": "down", "detail": public_words(error)}
    except Exception:
        _LOG.exception("probing %s failed", name)
        verdict = {"status": "down", "detail": "an unexpected error, see the log"}
    ttl_s = ttl_s if verdict["status"] == "ok" else QUICK_TTL_S
    service.verdicts[name] = (now_s() + ttl_s, verdict)
    return verdict


def _database(service: Service) -> None:
    service.parts.database.ping()
    if not service.schema_checked:
        if not service.parts.database.schema_is_current():
            raise Conflict("the schema is not current; run 'forebay migrate'")
        service.schema_checked = True


async def _count_sessions(service: Service) -> int:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return len(await service.read(lambda tx: tx.sessions.live()))
    except (ForebayError, TimeoutError):
        return 0


def _degraded(why: str) -> dict[str, object]:
    return {"status": "degraded", "detail": why}
