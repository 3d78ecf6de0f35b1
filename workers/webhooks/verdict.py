"""What an answer, or none, means for a delivery."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from storage.records.jobs import Millis
from storage.records.webhooks import MAX_RETRY_AFTER_MS, AttemptResult, next_pause_ms

_SECONDS = re.compile(r"[0-9]{1,12}")
ASKS_FOR_TIME = (429, 503)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said."""

    status: int
    retry_after: str | None = None


class Undelivered(Exception):
    """There was no answer. The text says why, to whoever owns the endpoint."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the delivery."""

    result: AttemptResult
    status: int | None = None
    error: str | None = None
    retry_in_ms: int = 0


def judge(
    outcome: Answer | Undelivered, *, attempts: int, age_ms: int, now: Millis, jitter: float
) -> Verdict:
    """``attempts`` counts this one, ``age_ms`` is the delivery's, ``jitter`` from 0 to 1."""
    asked_ms = 0
    if isinstance(outcome, Undelivered):
        status, error = None, str(outcome)
    else:
        status = outcome.status
        if 200 <= status < 300:
            return Verdict(AttemptResult.DELIVERED, status)
        error = _why(status)
        if status == 410:
            return Verdict(AttemptResult.GONE, status, error)
        if status in ASKS_FOR_TIME:
            asked_ms = retry_after_ms(outcome.retry_after, now)
    pause_ms = next_pause_ms(attempts, age_ms, asked_ms, jitter)
    if pause_ms is None:
        return Verdict(AttemptResult.GIVEN_UP, status, error)
    return Verdict(AttemptResult.RETRY, status, error, pause_ms)


def retry_after_ms(text: str | None, now: Millis) -> int:
    """How long a receiver asks to be left alone: seconds, or a date of HTTP; 0 if it does not."""
    if text is None:
        return 0
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(1000 * int(text), MAX_RETRY_AFTER_MS)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0
    return min(max(0, int(moment * 1000) - now), MAX_RETRY_AFTER_MS)


def _why(status: int) -> str:
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed; register where it leads"
    if status == 410:
        return "answered 410: it is gone, and the endpoint was switched off"
    return f"answered {status}"
