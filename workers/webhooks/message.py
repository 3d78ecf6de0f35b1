"""What is sent: ids, state and links, never an answer itself; signed with every good secret."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from storage.records.jobs import Millis
from storage.records.webhook_guard import Target
from storage.records.webhooks import (
    BATCH_TYPES,
    GROUP_COMPLETED,
    TEST,
    Event,
    batch_id,
    message_id,
    signature,
)


def body_of(event: Event, public_url: str = "") -> bytes:
    """The payload. Links begin with ``public_url``: where callers reach the service, or empty."""
    if event.type in BATCH_TYPES:
        return _of_batch(event)
    data: dict[str, object] = {"id": event.id, "seq": event.seq}
    if event.type == TEST:
        data["object"] = "test"
    elif event.type == GROUP_COMPLETED:
        here = f"{public_url}/v1/groups/{event.id}"
        links = {"self": here, "results": f"{here}/results"}
        data |= {"object": "group", "state": "completed", "group": event.id, "links": links}
    else:
        state = event.type.removeprefix("job.")
        here = f"{public_url}/v1/jobs/{event.id}"
        links = {"self": here}
        if state == "succeeded":
            links["result"] = f"{here}/result"
        data |= {"object": "job", "state": state, "group": event.group_id, "links": links}
    message = {"type": event.type, "timestamp": rfc3339(event.created_at), "data": data}
    return orjson.dumps(message)


def _of_batch(event: Event) -> bytes:
    """Who submits by another's words is told in them."""
    return orjson.dumps(
        {
            "id": message_id(event),
            "object": "event",
            "type": event.type,
            "created_at": event.created_at // 1000,
            "data": {"id": batch_id(event.id)},
        }
    )


def headers_of(
    event: Event, body: bytes, secrets: Sequence[str], timestamp_s: int
) -> Mapping[str, str]:
    """What a receiver verifies; ``timestamp_s`` is the attempt's, seconds since 1970."""
    identity = message_id(event)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(secrets, identity, timestamp_s, body),
    }


def request_of(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole request as it goes over the wire. Every part of it was checked or is ours."""
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"host: {target.authority}",
        f"user-agent: {user_agent()}",
        "accept: */*",
        "accept-encoding: identity",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "\r\n",
    ]
    return "\r\n".join(lines).encode("ascii") + body


def rfc3339(moment: Millis) -> str:
    """A moment in UTC, with its milliseconds."""
    when = datetime.fromtimestamp(moment / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@functools.cache
def user_agent() -> str:
    """Who we say we are."""
    try:
        return f"Forebay/{importlib.metadata.version('forebay')}"
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "Forebay"
