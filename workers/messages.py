"""A broker's message as Celery may see it: reduced to what we send ourselves, or refused.

Anybody who reaches the broker can write there. Celery takes more on trust than it may: a body that
is no task's ends the worker's process, and comes back to the next one; a header may have it hold
the message for days. So nothing gets through but a wake-up's name, id and body.
"""

from __future__ import annotations

from typing import Any

from kombu.exceptions import ContentDisallowed, DecodeError

from storage.queue.envelope import EnvelopeError
from storage.queue.topology import INFER_TASK

_MOST_ID_CHARACTERS = 255
_UNREADABLE = (ContentDisallowed, DecodeError, LookupError, ValueError, RecursionError)


def require_wake_up(message: Any) -> None:
    """Leave of the message's headers what Celery needs; ``EnvelopeError`` if it is none of ours."""
    headers = message.headers
    if not isinstance(headers, dict) or headers.get("task") != INFER_TASK:
        raise EnvelopeError("its headers do not name a task that runs here")
    name = headers.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_ID_CHARACTERS:
        raise EnvelopeError("its headers hold no id")
    try:
        body = message.payload
    except _UNREADABLE as error:
        raise EnvelopeError(f"its body is no JSON in UTF-8 ({type(error).__name__})") from None
    is_task = isinstance(body, list) and [type(part) for part in body[:2]] == [list, dict]
    if not is_task or len(body) != 3:
        raise EnvelopeError("its body is not that of a task")
    message.headers = {
        "lang": "py",
        "task": INFER_TASK,
        "id": name,
        "retries": 0,
        "ignore_result": True,
    }
