"""The publisher for ``memory://``: the queue lies in this process, as in ``forebay up``.

Held to the same promises as the real one: what has no queue is unroutable, what finds it full
is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import kombu
from kombu.exceptions import OperationalError

from storage.queue.lanes import Lane, lane_of
from storage.queue.messages import Message, PublishReport, check_ids
from storage.queue.task_message import body_of, headers_of, properties_of
from storage.queue.topology import MAX_LENGTH, MAX_TRAININGS


class MemoryPublisher:
    """Puts messages where a Celery worker on a thread of this process takes them."""

    def __init__(self, broker_url: str = "memory://", *, max_length: int = MAX_LENGTH) -> None:
        self._max_length = max_length
        self._connection = kombu.Connection(broker_url)
        self._channel = self._connection.channel()
        self._producer = kombu.Producer(self._channel)
        self._lock = threading.Lock()

    def publish(self, messages: Sequence[Message]) -> PublishReport:
        check_ids(messages)
        confirmed, unroutable, refused = set(), set(), set()
        with self._lock:
            for message in messages:
                waiting = self._waiting(message.queue)
                if waiting is None:
                    unroutable.add(message.id)
                elif lane_of(message.queue) is Lane.TRAIN and waiting >= MAX_TRAININGS:
                    confirmed.add(message.id)  # and dropped, as the broker drops an older one
                elif waiting >= self._max_length:
                    refused.add(message.id)
                else:
                    self._put(message)
                    confirmed.add(message.id)
        return PublishReport(frozenset(confirmed), frozenset(unroutable), frozenset(refused))

    def close(self) -> None:
        with self._lock:
            self._connection.release()

    def _waiting(self, queue: str) -> int | None:
        """How many wait in the queue, or None when there is none: putting would make one."""
        try:
            return int(self._channel.queue_declare(queue, passive=True).message_count)
        except (*self._connection.channel_errors, OperationalError):
            return None

    def _put(self, message: Message) -> None:
        self._producer.publish(
            body_of(message),
            exchange="",
            routing_key=message.queue,
            headers=headers_of(message),
            retry=False,
            **properties_of(message),
        )
