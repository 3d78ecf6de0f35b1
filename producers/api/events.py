"""A job's changes as server-sent events, from the same watcher as the long-polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from producers.api import bodies
from producers.api.jobs import find_job, job_id_of
from producers.api.routes import route
from producers.api.service import Service, service_of
from producers.api.watch import Seen
from producers.shapes import Schema
from storage.records.errors import Overloaded, Unavailable
from storage.records.jobs import TERMINAL, Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

HEARTBEAT_S = 15.0
REFUSED_PAUSE_S = 2.0
_STREAM: Schema = {
    "type": "string",
    "description": "`event: state`, `id: <seq>`, `data: <Job>` on every change, until it is over.",
}


@route(
    router,
    "GET",
    "/{id}/events",
    "A job's changes as they come",
    gives=_STREAM,
    media_type="text/event-stream",
)
async def job_events(request: Request) -> Response:
    """Begins with the job as it is, unless `Last-Event-ID` says that the caller knows it; ends
    when the job is over. Changes in quick succession may come as one. A bulk job also tells about
    once a second how far it is."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    job = await find_job(request, tenant, job_id_of(request))
    document = await service.job_document(job)
    known = request.headers.get("last-event-id", "")
    seen = int(known) if known.isascii() and known.isdigit() and len(known) < 10 else -1
    return StreamingResponse(
        _events(request, service, tenant, (job, document), seen),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(
    request: Request,
    service: Service,
    tenant: str,
    now: tuple[Job, dict[str, object]],
    seen: int,
) -> AsyncIterator[bytes]:
    job, document = now
    with service.watcher.watch("job", job.id) as watch:
        while True:
            if job.seq != seen:
                seen = job.seq
                yield b"event: state\nid: %d\ndata: %s\n\n" % (seen, orjson.dumps(document))
            else:
                yield b": still here\n\n"
            if job.state in TERMINAL or service.watcher.closed:
                return
            at = seen

            def changed(now: Seen | None, at: int = at) -> bool:
                return now is None or now[0] != at

            if not await watch.change(changed, HEARTBEAT_S):
                await asyncio.sleep(REFUSED_PAUSE_S)  # too many wait already: look now and then
            try:
                found = await find_job(request, tenant, job.id)
                if found.seq != seen:
                    document = await service.job_document(found)
                job = found
            except (Unavailable, Overloaded):
                continue  # it passes; the heartbeat keeps the caller
