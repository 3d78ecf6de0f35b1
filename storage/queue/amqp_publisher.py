"""The publisher for RabbitMQ: pipelined confirms, mandatory, and a connection of its own.

Of its own, because a worker's connection must not have confirms (a black-holed broker would
hang its loop for ever), and because trouble here must end here: it is answered with a report
and a back-off, never with an exception or an endless wait.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Sequence

from storage.clock import Clock, SystemClock
from storage.queue.backoff import Backoff, Door
from storage.queue.channel import Blocked, Channel
from storage.queue.connecting import TROUBLE, describe
from storage.queue.ledger import Ledger
from storage.queue.messages import Message, PublishReport, check_ids


class AmqpPublisher:
    """Connects on first use, and again after trouble when the back-off allows it."""

    def __init__(
        self,
        broker_url: str,
        *,
        confirm_timeout_s: float = 5.0,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = broker_url
        self._timeout_s = confirm_timeout_s
        self._clock = clock or SystemClock()
        self._door = Door(backoff or Backoff(), chance)
        self._channel: Channel | None = None
        self._lock = threading.Lock()  # confirms are counted per channel: one call at a time

    def publish(self, messages: Sequence[Message]) -> PublishReport:
        ledger = Ledger(check_ids(messages))
        if not messages:
            return ledger.report()
        with self._lock:
            shut_s = self._door.shut_for_s(self._clock.monotonic_s())
            if shut_s:
                return ledger.report("waiting before the next attempt to connect", shut_s)
            try:
                channel = self._usable_channel()
                if channel.blocked:
                    raise Blocked(channel.blocked)
                channel.publish(messages, ledger)
            except Blocked as error:
                return self._pause(ledger, str(error))
            except TROUBLE as error:
                self._abandon()
                return self._pause(ledger, describe(error))
            self._door.worked()
            return ledger.report()

    def close(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
            if channel is not None:
                with contextlib.suppress(*TROUBLE):  # gone already; nothing is open on it
                    channel.close()

    def _usable_channel(self) -> Channel:
        """The channel, fresh if the broker went away while nobody published."""
        if self._channel is not None:
            try:
                self._channel.look()
                return self._channel
            except TROUBLE:
                self._abandon()
        self._channel = Channel(self._url, self._clock, self._timeout_s)
        return self._channel

    def _pause(self, ledger: Ledger, trouble: str) -> PublishReport:
        return ledger.report(trouble, self._door.failed(self._clock.monotonic_s()))

    def _abandon(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abandon()
