"""``verify``: whether a webhook comes from Forebay, by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from producers.client.errors import BadArgument, WebhookVerificationError

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
VERSION = "v1"


class HasItems(Protocol):
    """Headers as every framework has them: a mapping, or ``http.client``'s message."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Names and values."""
        ...


def verify(
    headers: HasItems | Iterable[tuple[Any, Any]],
    body: bytes | str,
    secret: str | Sequence[str],
    *,
    tolerance_s: float = 300,
    now: float | None = None,
) -> dict[str, Any]:
    """The event that ``body`` is, if it was signed with ``secret`` (or one of several) and is not
    older or newer than ``tolerance_s``; else ``WebhookVerificationError``, whose code says why.

    ``body`` is what came over the wire, byte by byte: not parsed and written anew. ``headers`` is
    those of any framework, or pairs; names in any case. ``now`` is in seconds since 1970. A secret
    that is not spelled as one is a ``BadArgument``: that is the receiver's own mistake.
    """
    keys = _keys(secret)
    message_id, timestamp, signatures = _three(headers)
    _check_time(timestamp, tolerance_s, time.time() if now is None else now)
    raw = _raw(body)
    signed = b".".join((message_id.encode("latin-1"), timestamp.encode(), raw))
    expected = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    found = False
    for given in signatures:
        for one in expected:  # all of them, whatever the first ones say
            found |= hmac.compare_digest(given, one)
    if not found:
        raise WebhookVerificationError(
            "no signature fits this body and secret: it is somebody else's, or the body was changed"
            " on the way (verify the bytes as they came, not JSON written anew)",
            code="signature_mismatch",
        )
    return _event(raw)


def _raw(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise BadArgument("give the body as the bytes that came, not parsed")


def _keys(secret: str | Sequence[str]) -> list[bytes]:
    several = [secret] if isinstance(secret, str) else secret
    if not isinstance(several, Sequence) or not several:
        raise BadArgument("there is no secret to verify with")
    return [_key(one) for one in several]


def _key(secret: str) -> bytes:
    """The bytes that a secret spells. What it says is in no message."""
    try:
        if not isinstance(secret, str):
            raise ValueError
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise BadArgument(f"a webhook secret is {PREFIX} followed by base64")
    return key


def _three(
    headers: HasItems | Iterable[tuple[Any, Any]],
) -> tuple[str, str, list[bytes]]:
    """Id, time and the signatures that are of our kind."""
    items = getattr(headers, "items", None)
    found: dict[str, str] = {}
    for name, value in _pairs(items() if callable(items) else headers):
        if name in (ID, TIMESTAMP, SIGNATURE):
            if name in found:
                raise WebhookVerificationError(f"{name} is there twice", code="bad_headers")
            found[name] = value.strip()
    for name in (ID, TIMESTAMP, SIGNATURE):
        if not found.get(name):
            raise WebhookVerificationError(f"the header {name} is missing", code="missing_headers")
    if not all(value.isascii() for value in found.values()):
        raise WebhookVerificationError("a header is not ASCII", code="bad_headers")
    entries = [entry.partition(",") for entry in found[SIGNATURE].split()]
    return (
        found[ID],
        found[TIMESTAMP],
        [value.encode() for version, _, value in entries if version == VERSION],
    )


def _pairs(headers: Any) -> Iterable[tuple[str, str]]:
    try:
        return [(_text(name).lower(), _text(value)) for name, value in headers]
    except (TypeError, ValueError):
        raise WebhookVerificationError("headers are no pairs", code="bad_headers") from None


def _text(value: object) -> str:
    """Some servers give headers as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _check_time(timestamp: str, tolerance_s: float, now: float) -> None:
    if not timestamp.isdigit() or len(timestamp) > 12:
        raise WebhookVerificationError(f"{TIMESTAMP} is no number of seconds", code="bad_headers")
    age_s = now - int(timestamp)
    if abs(age_s) > tolerance_s:
        side = "old" if age_s > 0 else "new"
        raise WebhookVerificationError(
            f"it was signed {abs(age_s):.0f} s {'ago' if age_s > 0 else 'from now'}: more than the"
            f" {tolerance_s:g} s that are allowed; is a clock wrong?",
            code=f"too_{side}",
        )


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise WebhookVerificationError("it is signed, but no JSON object", code="bad_body")
    return event
