"""What Celery is shown of a message: a wake-up's name, id and body, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu import Message as KombuMessage

from storage.queue.envelope import EnvelopeError, WakeUp
from storage.queue.messages import Message
from storage.queue.task_message import body_of, headers_of
from tests.support.household import new_id
from workers.messages import require_wake_up

EMBED: dict[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
SOUND = [[{"v": 1}], {}, EMBED]


def received(
    body: bytes = json.dumps(SOUND).encode(),
    content_type: str = "application/json",
    content_encoding: str = "utf-8",
    **headers: Any,
) -> KombuMessage:
    """As a consumer gets it."""
    return KombuMessage(
        body,
        content_type=content_type,
        content_encoding=content_encoding,
        headers={"task": "forebay.infer", "id": "one", **headers},
        accept={"application/json"},
    )


def test_what_the_relay_sends_gets_through() -> None:
    sent = Message("m1", "infer.default", WakeUp(new_id(), (new_id(),)))
    message = received(body_of(sent), **headers_of(sent))
    require_wake_up(message)
    assert message.headers["id"] == "m1"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b"null", b"[]", b"{}", b"7", b'"abc"', b"[[],{}]", b"[{},{},{}]"),
        *(b"[[],[],{}]", b"[[],{},{},{}]", b'["args",{},{}]', b"[" * 100_000),
    ],
)
def test_a_body_that_is_no_tasks_is_refused(body: bytes) -> None:
    with pytest.raises(EnvelopeError):
        require_wake_up(received(body))


@pytest.mark.parametrize(
    "headers",
    [{"task": "celery.chord"}, {"task": None}, {"id": None}, {"id": 7}, {"id": "x" * 300}],
)
def test_a_message_without_our_name_or_an_id_is_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        require_wake_up(received(**headers))


@pytest.mark.parametrize(
    ("content_type", "content_encoding"),
    [
        ("application/x-python-serialize", "binary"),
        ("text/plain", "utf-8"),
        ("application/json", "x"),
    ],
)
def test_no_other_encoding_is_read(content_type: str, content_encoding: str) -> None:
    with pytest.raises(EnvelopeError):
        require_wake_up(received(b"abc", content_type, content_encoding))


def test_no_header_makes_celery_hold_or_drop_a_wake_up() -> None:
    message = received(
        eta="2999-01-01T00:00:00", expires=1, timelimit=[1, 1], shadow="x", retries="many"
    )
    require_wake_up(message)
    assert not {"eta", "expires", "timelimit", "shadow"} & message.headers.keys()
    assert message.headers["retries"] == 0
