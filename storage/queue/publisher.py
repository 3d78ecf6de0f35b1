"""Sending wake-ups so that the fate of each is known. See ``messages`` for the words."""

from __future__ import annotations

from storage.queue.connecting import alternatives, is_in_process
from storage.queue.messages import Message, Publisher, PublishReport
from storage.records.errors import InvalidInput

__all__ = ["Message", "PublishReport", "Publisher", "open_publisher"]

_AMQP = ("amqp://", "amqps://", "pyamqp://")


def open_publisher(broker_url: str, confirm_timeout_s: float = 5.0) -> Publisher:
    """The publisher for ``amqp://…`` or ``memory://``. Nothing is contacted before the first use.

    A call returns after about ``confirm_timeout_s`` without an answer, whatever happened to the
    broker: dead, silent, or out of memory.
    """
    if is_in_process(broker_url):
        from storage.queue.memory_publisher import MemoryPublisher

        return MemoryPublisher(broker_url)
    if broker_url and all(url.startswith(_AMQP) for url in alternatives(broker_url)):
        from storage.queue.amqp_publisher import AmqpPublisher

        return AmqpPublisher(broker_url, confirm_timeout_s=confirm_timeout_s)
    raise InvalidInput(
        "the broker's URL starts with amqp://, amqps:// or memory://",
        code="invalid_broker_url",
        field="FOREBAY_BROKER_URL",
    )
