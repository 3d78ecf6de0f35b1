"""Webhooks: the words for events, endpoints and deliveries, and how a delivery is signed.

An *event* says that a job or a group is over; its id is the job's or group's own, so there can be
one only. A job that came as a batch of the OpenAI shape is told of as one. A *delivery* is one
event on its way to one endpoint. Signatures, headers and schedule are those of the Standard
Webhooks specification (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from storage.records.errors import InvalidInput
from storage.records.ids import is_id, uuid7
from storage.records.jobs import Millis

ANY = "*"
TEST = "webhook.test"
GROUP_COMPLETED = "group.completed"
JOB_TYPES = ("job.succeeded", "job.failed", "job.cancelled", "job.expired")
BATCH_TYPES = ("batch.completed", "batch.failed", "batch.cancelled", "batch.expired")
EVENT_TYPES = (*JOB_TYPES, GROUP_COMPLETED, *BATCH_TYPES)
"""What an endpoint may ask for by name; ``*`` is all of them."""

BATCH_LABEL = ("openai/batch", "true")
"""The label of a job that came as a batch of the OpenAI shape, and is told of as one. Nobody can
give it to a job by ``metadata``, where a key holds no slash."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32  # the specification asks for 24 to 64

RETRY_AFTER_MS = tuple(
    1000 * seconds for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""Pauses between ten attempts: the specification's schedule, 75 hours and a half in all."""
MAX_ATTEMPTS = len(RETRY_AFTER_MS) + 1
MAX_AGE_MS = 80 * 3_600_000  # what waited that long behind a failing endpoint is given up as well
MAX_RETRY_AFTER_MS = 86_400_000  # a receiver may ask for a longer pause, but not for ever
JITTER = 0.2  # up to so much of a pause is added to it, so that what failed together parts ways

BREAKS_AFTER = 5  # failures in a row: then an endpoint is left alone, and tried with one delivery
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 15_000, 600_000


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # waits for its next attempt, or is being attempted
    DELIVERED = "delivered"  # the receiver answered 2xx
    GIVEN_UP = "given_up"  # every attempt failed, or the endpoint was switched off


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. One that is not ``listed`` came with a job's own ``webhook``."""

    id: str
    tenant: str
    url: str
    types: tuple[str, ...]
    description: str | None
    listed: bool
    enabled: bool
    disabled_reason: str | None  # gone: it answered 410; by_hand: somebody switched it off
    failures: int  # in a row, over all its deliveries
    paused_until: Millis
    created_at: Millis  # of one that is not listed: when a job last brought it, give or take a day


@dataclass(frozen=True, slots=True)
class Secret:
    """What deliveries are signed with. ``endpoint_id`` is none where it is the tenant's."""

    id: str
    tenant: str
    endpoint_id: str | None
    secret: str
    created_at: Millis
    expires_at: Millis | None  # set when a newer one took its place

    def __repr__(self) -> str:
        return f"Secret({self.id!r}, {self.tenant!r})"


@dataclass(frozen=True, slots=True)
class Event:
    """Something is over. ``id`` is the job's or the group's; of a test, its own."""

    id: str
    tenant: str
    type: str
    group_id: str | None
    seq: int  # the job's, with the transition that ended it
    created_at: Millis


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint, claimed for an attempt."""

    event: Event
    endpoint_id: str
    attempts: int  # so far
    created_at: Millis  # when it was first due


class AttemptResult(StrEnum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVEN_UP = "given_up"
    GONE = "gone"  # the receiver answered 410: the endpoint is switched off


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as it is recorded. Times by the database's clock, as far as it is known."""

    id: str
    event_id: str
    endpoint_id: str
    tenant: str
    number: int  # 1 is the first
    duration_ms: int
    result: AttemptResult
    status: int | None = None  # of the answer, if there was one
    error: str | None = None  # why there was none, or why it does not count
    retry_in_ms: int = 0
    ago_ms: int = 0  # how long before it is recorded it ended
    started_at: Millis = 0  # filled in when it is read back


@dataclass(frozen=True, slots=True)
class DeliveryLoad:
    """How deliveries stand in the whole installation."""

    due: int  # could be attempted now
    pending: int
    oldest_due_at: Millis | None


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """Event filters in order, without doubles; ``InvalidInput`` names what is no event."""
    for one in types:
        if one != ANY and one not in EVENT_TYPES:
            raise InvalidInput(
                f"{one[:60]!r} is no event; there are {', '.join(EVENT_TYPES)} and {ANY}",
                code="unknown_event",
                field="events",
            )
    if not types:
        raise InvalidInput("events is empty", code="unknown_event", field="events")
    return (ANY,) if ANY in types else tuple(sorted(set(types)))


def own_endpoint_id(tenant: str, url: str) -> str:
    """The id of the endpoint that jobs of a tenant bring along: the same for the same URL."""
    digest = hashlib.sha256(f"{tenant}\0{url}".encode()).digest()
    return uuid7(0, int.from_bytes(digest[:10]))


def new_secret(random_bits: Callable[[int], int]) -> str:
    """A secret as the specification spells it."""
    raw = random_bits(8 * SECRET_BYTES).to_bytes(SECRET_BYTES)
    return SECRET_PREFIX + base64.b64encode(raw).decode()


def check_secret(text: str, *, field: str = "secret") -> str:
    """A secret that somebody brings along: ``whsec_`` and base64 of 24 to 64 bytes."""
    try:
        raw = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(SECRET_PREFIX) or not 24 <= len(raw) <= 64:
        raise InvalidInput(
            f"a webhook secret is {SECRET_PREFIX} followed by base64 of 24 to 64 bytes",
            code="bad_webhook_secret",
            field=field,
        )
    return text


def message_id(event: Event) -> str:
    """The header ``webhook-id``: the same for every attempt and every endpoint."""
    return message_id_of(event.id)


def message_id_of(event_id: str) -> str:
    """The same, of an event that is known by its id."""
    return "evt_" + event_id.replace("-", "")


def batch_id(job_id: str) -> str:
    """What a batch is called by those who submitted it as one."""
    return "batch_" + job_id.replace("-", "")


def event_id_of(text: str) -> str | None:
    """The id of the event that a ``webhook-id``, or its own id, names; ``None``: it is neither."""
    raw = text.removeprefix("evt_")
    if raw != text and len(raw) == 32:
        text = "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))
    return text if is_id(text) else None


def signature(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header ``webhook-signature``: one HMAC-SHA256 for each secret that is still good."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    found = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
        found.append("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode())
    return " ".join(found)


def next_pause_ms(attempts: int, age_ms: int, asked_ms: int, jitter: float) -> int | None:
    """How long until the attempt after ``attempts`` failed ones; ``None``: there is none.

    ``asked_ms`` is what the receiver's ``Retry-After`` said, ``jitter`` is from 0 to 1.
    """
    if attempts >= MAX_ATTEMPTS or age_ms > MAX_AGE_MS:
        return None
    pause_ms = RETRY_AFTER_MS[attempts - 1] * (1 + JITTER * jitter)
    return int(max(pause_ms, min(asked_ms, MAX_RETRY_AFTER_MS)))


def pause_of(failures: int) -> int:
    """How long an endpoint is left alone after so many failures in a row, in ms; 0 is not."""
    if failures < BREAKS_AFTER:
        return 0
    return min(FIRST_PAUSE_MS << min(failures - BREAKS_AFTER, 10), LONGEST_PAUSE_MS)
