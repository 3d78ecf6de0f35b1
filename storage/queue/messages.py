"""The words of publishing: what is sent, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.queue.envelope import WakeUp


@dataclass(frozen=True, slots=True)
class Message:
    """One wake-up on its way to one queue. ``id`` is unique, and is Celery's task id."""

    id: str
    queue: str
    wake_up: WakeUp


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What became of each message: every id is in exactly one of the four sets."""

    confirmed: frozenset[str] = frozenset()  # the broker has it, on disk where queues are durable
    unroutable: frozenset[str] = frozenset()  # there is no such queue
    refused: frozenset[str] = frozenset()  # the broker said no: the queue is full
    unknown: frozenset[str] = frozenset()  # no word came: it may be there, or never was sent
    trouble: str | None = None  # why some are unknown, for people; without secrets
    retry_after_s: float = 0.0  # until then further messages would be unknown at once


class Publisher(Protocol):
    """Sends wake-ups. Raises nothing for broker trouble, and returns in bounded time."""

    def publish(self, messages: Sequence[Message]) -> PublishReport:
        """Send all of them; ``ValueError`` if two have the same id."""
        ...

    def close(self) -> None:
        """Let go of the connection. Closing twice is fine."""
        ...


def check_ids(messages: Sequence[Message]) -> frozenset[str]:
    """The ids, all different: they are how the broker's answers are told apart."""
    ids = frozenset(message.id for message in messages)
    if len(ids) != len(messages):
        raise ValueError("two messages have the same id")
    return ids
