"""Webhooks: register endpoints, test and replay them, rotate secrets, look at what was tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from producers.api import bodies
from producers.api.jobs import PAGE
from producers.api.routes import answer, named, page_of, route
from producers.api.schemas import (
    attempt_document,
    endpoint_document,
    rfc3339,
    secret_document,
)
from producers.api.service import service_of
from producers.requests import URL
from producers.shapes import Choice, Fields, Flag, ListOf, Number, Schema, Shape, Text, Wrong, whole
from producers.webhooks import OWN, endpoint_of, replay_one, replay_range
from storage.database import Transaction
from storage.records.errors import Conflict, InvalidInput, NotFound
from storage.records.ids import is_id
from storage.records.jobs import Millis
from storage.records.webhooks import (
    ANY,
    EVENT_TYPES,
    SECRET_PREFIX,
    Attempt,
    Endpoint,
    check_secret,
    check_types,
    message_id_of,
    own_endpoint_id,
)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

MAX_OVERLAP_S, DEFAULT_OVERLAP_S = 30 * 86_400, 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Millis = 253_402_300_799_999  # the end of 9999
_NO_STORE = {"cache-control": "no-store"}


class SecretText:
    """A secret of one's own. What is wrong is never shown: it may be a secret all the same."""

    def __init__(self, *, may_be_made: bool) -> None:
        self._may_be_made = may_be_made

    def check(self, value: object) -> None:
        if type(value) is not str:
            raise Wrong("must be a string", code="invalid_type")
        if self._may_be_made and value == OWN:
            return
        try:
            check_secret(value)
        except InvalidInput as error:
            raise Wrong(f"is wrong: {error.message}", code=error.stable_code) from None

    def schema(self) -> Schema:
        made = f"{OWN}$|" if self._may_be_made else ""
        return {
            "type": "string",
            "pattern": f"^({made}{SECRET_PREFIX}[A-Za-z0-9+/]{{32,}}={{0,2}}$)",
            "description": f"{SECRET_PREFIX} and base64 of 24 to 64 bytes"
            + (f"; or {OWN}: one is made for this endpoint alone" if self._may_be_made else ""),
        }


_TIME = Text(
    20,
    40,
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$".replace(r"\d", "[0-9]"),
    "a time by RFC 3339, as in 2026-05-01T12:00:00Z",
)
EVENTS = ListOf(Choice((*EVENT_TYPES, ANY), code="unknown_event"), 1, 50)
DESCRIPTION = Text(0, 500)
ADD = Fields(
    "WebhookRequest",
    required={"url": URL},
    optional={
        "events": EVENTS,
        "description": DESCRIPTION,
        "secret": SecretText(may_be_made=True),
    },
)
CHANGE = Fields(
    "WebhookChange",
    required={},
    optional={"events": EVENTS, "description": DESCRIPTION, "enabled": Flag()},
)
ROTATE = Fields(
    "RotateRequest",
    required={},
    optional={
        "overlap_s": Number(0, MAX_OVERLAP_S, default=DEFAULT_OVERLAP_S),
        "secret": SecretText(may_be_made=False),
    },
)
REPLAY = Fields(
    "ReplayRequest",
    required={},
    optional={"event": Text(1, 64), "since": _TIME, "until": _TIME},
)
LIST: dict[str, Shape] = {"url": URL, **PAGE}


@route(
    router,
    "POST",
    "",
    "Register an endpoint",
    status=201,
    gives=named("WebhookWithSecret"),
    body=ADD.schema(),
    also={409: "`too_many_webhooks`."},
)
async def add_webhook(request: Request) -> Response:
    """It is told of what happens from now on: by default of every event. Deliveries are signed
    with the tenant's secret, unless `secret` brings one or asks for one with `own`. Secrets are
    shown here, by a rotation and at `/v1/webhooks/secret`, and nowhere else."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    body = await bodies.parsed_body(request, ADD)
    url, description = str(body["url"]), _text(body.get("description"))
    types, secret = _types(body) or (ANY,), _text(body.get("secret"))
    endpoint, secrets = await service.write(
        lambda tx: service.registrar.add(tx, tenant, url, types, description, secret)
    )
    document = endpoint_document(endpoint, own_secret=secret is not None)
    headers = {"location": f"/v1/webhooks/{endpoint.id}", **_NO_STORE}
    return answer(document | {"secret": secrets[0].secret}, 201, headers)


@route(router, "GET", "", "List endpoints, newest first", gives=page_of("Webhook"), query=LIST)
async def list_webhooks(request: Request) -> Response:
    """Those that are registered. With `url` those with this very URL, and the one that jobs and
    groups brought along with their `webhook`, which is in no other list."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, LIST)
    limit, after, url = whole(values.get("limit", 100)), values.get("after"), values.get("url")

    def look(tx: Transaction) -> tuple[list[Endpoint], set[str | None]]:
        last = None if after is None else str(after)
        if url is None:
            found = tx.webhooks.endpoints(tenant, limit=limit + 1, after=last)
        else:
            brought = tx.webhooks.endpoint(tenant, own_endpoint_id(tenant, str(url)))
            every = tx.webhooks.endpoints(tenant, limit=service.settings.max_webhooks + 1)
            ours = [*(one for one in every if one.url == url), *([brought] if brought else [])]
            found = [one for one in ours if last is None or one.id < last]
        return found, {whose for _, whose in tx.webhooks.secrets([tenant])}

    found, own = await service.read(look)
    page, more = found[:limit], len(found) > limit
    documents = [endpoint_document(one, own_secret=one.id in own) for one in page]
    return answer({"data": documents, "has_more": more, "next": page[-1].id if more else None})


@route(
    router,
    "GET",
    "/secret",
    "The secret of the tenant",
    gives=named("WebhookSecret"),
)
async def get_webhook_secret(request: Request) -> Response:
    """What signs the deliveries of endpoints that have none of their own, and of jobs and groups
    that bring a `webhook`. It is made when it is first asked for or needed."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    secrets = await service.read(lambda tx: tx.webhooks.secrets([tenant]).get((tenant, None)))
    if not secrets:
        secrets = await service.write(lambda tx: service.registrar.secrets(tx, tenant))
    return answer(secret_document(secrets), headers=_NO_STORE)


@route(
    router,
    "POST",
    "/secret/rotate",
    "A new secret for the tenant",
    gives=named("WebhookSecret"),
    body=ROTATE.schema(),
    body_required=False,
)
async def rotate_webhook_secret(request: Request) -> Response:
    """For `overlap_s` deliveries are signed with the new one and with the one before."""
    return await _rotate(request, None)


@route(
    router,
    "GET",
    "/{id}",
    "An endpoint",
    gives=named("Webhook"),
    also={404: "You have no such endpoint."},
)
async def get_webhook(request: Request) -> Response:
    """With how it answers: failures in a row, and until when it is left alone."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    endpoint_id = _id_of(request)
    return answer(await service.read(lambda tx: _document(tx, tenant, endpoint_id)))


@route(
    router,
    "PATCH",
    "/{id}",
    "Change an endpoint, switch it on or off",
    gives=named("Webhook"),
    body=CHANGE.schema(),
)
async def change_webhook(request: Request) -> Response:
    """Switched off, what waits for it is given up; its events are kept, and can be replayed once
    it is on again. Any change makes its failures forgotten."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    endpoint_id = _id_of(request)
    body = await bodies.parsed_body(request, CHANGE)
    types, description, enabled = _types(body), _text(body.get("description")), body.get("enabled")

    def change(tx: Transaction) -> dict[str, object]:
        before = endpoint_of(tx, tenant, endpoint_id)
        if types is not None and not before.listed:
            raise Conflict("this webhook came with jobs and is told of those alone", field="events")
        if (types, description, enabled) != (None, None, None):
            tx.webhooks.change(
                tenant,
                endpoint_id,
                types=types,
                description=description,
                enabled=None if enabled is None else bool(enabled),
            )
        return _document(tx, tenant, endpoint_id)

    return answer(await service.write(change))


@route(router, "DELETE", "/{id}", "Remove an endpoint", status=204)
async def remove_webhook(request: Request) -> Response:
    """What waits for it is given up, and its own secret forgotten."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    endpoint_id = _id_of(request)
    if not await service.write(lambda tx: tx.webhooks.remove(tenant, endpoint_id)):
        raise _no_webhook(endpoint_id)
    return Response(status_code=204)


@route(
    router,
    "POST",
    "/{id}/test",
    "Send a test event",
    status=202,
    gives=named("WebhookTest"),
    also={409: "`webhook_disabled`."},
)
async def test_webhook(request: Request) -> Response:
    """An event `webhook.test` to this endpoint alone, whatever it wants; see its attempts."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    await bodies.no_body(request)
    endpoint_id = _id_of(request)
    event_id = await service.write(lambda tx: service.registrar.test(tx, tenant, endpoint_id))
    return answer({"event": message_id_of(event_id)}, 202)


@route(
    router,
    "POST",
    "/{id}/replay",
    "Deliver events again",
    status=202,
    gives=named("WebhookReplay"),
    body=REPLAY.schema(),
    also={409: "`webhook_disabled`."},
)
async def replay_webhook(request: Request) -> Response:
    """One `event` (the `webhook-id`, or the id of its job or group), or what the endpoint wants of
    a time range, by default up to now. A long range is replayed in parts of about 10,000 events:
    while there is a `next_since`, go on with it and with the same `until`. Each event has the
    `webhook-id` that it had, and all of its attempts anew."""
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    endpoint_id = _id_of(request)
    body = await bodies.parsed_body(request, REPLAY)
    event, since, until = _what_to_replay(body)

    def replay(tx: Transaction) -> dict[str, object]:
        if event is not None:
            replay_one(tx, tenant, endpoint_id, event)
            return {"deliveries": 1, "until": None, "next_since": None}
        # What happens from now on is delivered anyhow.
        end = tx.now() + 1 if until is None else until
        count, on = replay_range(tx, tenant, endpoint_id, since, end)
        return {"deliveries": count, "until": rfc3339(end), "next_since": rfc3339(on)}

    return answer(await service.write(replay), 202)


@route(
    router,
    "POST",
    "/{id}/rotate",
    "A new secret of its own for an endpoint",
    gives=named("WebhookSecret"),
    body=ROTATE.schema(),
    body_required=False,
)
async def rotate_webhook(request: Request) -> Response:
    """For `overlap_s` deliveries are signed with the new one and with the one before, which may
    have been the tenant's."""
    return await _rotate(request, _id_of(request))


@route(
    router,
    "GET",
    "/{id}/attempts",
    "What was tried, newest first",
    gives=page_of("WebhookAttempt"),
    query=PAGE,
)
async def list_webhook_attempts(request: Request) -> Response:
    """Every attempt to deliver, with what came of it."""
    service = service_of(request)
    tenant = await service.tenant(request)
    values = bodies.query(request, PAGE)
    limit, after = whole(values.get("limit", 100)), values.get("after")
    endpoint_id = _id_of(request)

    def look(tx: Transaction) -> list[Attempt]:
        endpoint_of(tx, tenant, endpoint_id)
        last = None if after is None else str(after)
        return tx.webhooks.attempts(tenant, endpoint_id, limit=limit + 1, after=last)

    found = await service.read(look)
    page, more = found[:limit], len(found) > limit
    documents = [attempt_document(one) for one in page]
    return answer({"data": documents, "has_more": more, "next": page[-1].id if more else None})


async def _rotate(request: Request, endpoint_id: str | None) -> Response:
    service = service_of(request)
    tenant = await service.tenant(request)
    bodies.query(request, {})
    body = await bodies.parsed_body(request, ROTATE, may_be_empty=True)
    given, secret = body.get("overlap_s"), _text(body.get("secret"))
    overlap_ms = 1000 * (DEFAULT_OVERLAP_S if given is None else whole(given))
    secrets = await service.write(
        lambda tx: service.registrar.rotate(tx, tenant, endpoint_id, secret, overlap_ms)
    )
    return answer(secret_document(secrets), headers=_NO_STORE)


def _document(tx: Transaction, tenant: str, endpoint_id: str) -> dict[str, object]:
    endpoint = endpoint_of(tx, tenant, endpoint_id)
    own = (tenant, endpoint_id) in tx.webhooks.secrets([tenant])
    return endpoint_document(endpoint, own_secret=own)


def _what_to_replay(body: dict[str, object]) -> tuple[str | None, Millis, Millis | None]:
    given = {name: str(value) for name, value in body.items() if value is not None}
    if "event" in given:
        if len(given) > 1:
            raise InvalidInput(
                "give an event or a time range, not both", code="invalid_value", field="event"
            )
        return given["event"], 0, None
    if "since" not in given:
        raise InvalidInput(
            "say what to replay: an event, or since when", code="missing_field", field="since"
        )
    since = _millis(given["since"], "since")
    until = _millis(given["until"], "until") if "until" in given else None
    if until is not None and until <= since:
        raise InvalidInput("until must be after since", code="out_of_range", field="until")
    return None, _within(since), None if until is None else _within(until)


def _within(at: Millis) -> Millis:
    return min(max(at, 0), _LAST)


def _millis(text: str, field: str) -> Millis:
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{field} is no time that there is: {text!r}", code="invalid_value", field=field
        ) from None


def _types(body: dict[str, object]) -> tuple[str, ...] | None:
    given = body.get("events")
    return check_types(given) if isinstance(given, list) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _id_of(request: Request) -> str:
    endpoint_id = str(request.path_params["id"])
    if not is_id(endpoint_id):
        raise _no_webhook(endpoint_id)
    return endpoint_id


def _no_webhook(endpoint_id: str) -> NotFound:
    return NotFound(f"you have no webhook {endpoint_id[:80]!r}", code="webhook_not_found")
