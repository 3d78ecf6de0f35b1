"""One connection with confirms on, used by one call at a time: the wire side of publishing.

When it raises TROUBLE (see ``connecting``) it is of no use any more and is to be abandoned. Not so
``Blocked``: a broker in alarm reads nothing, but would read all that ever was sent once the alarm
is over. New connections would only pile up more of that; and answers that come late do no harm
here, because tags count on over the life of the channel and each call has a ledger of its own.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Sequence
from typing import Any

from amqp import Message as AmqpMessage
from amqp import spec

from storage.clock import Clock
from storage.queue.connecting import connect
from storage.queue.ledger import Ledger
from storage.queue.messages import Message
from storage.queue.task_message import body_of, headers_of, properties_of

MAX_OPEN = 256  # sent and unanswered: enough to hide the round trip, little to be unsure about
BLOCKED_GRACE_S = 0.25  # for answers that were on their way when the broker shut its door
_PUBLISH_ARGS = "Bssbb"  # reserved, exchange, routing key, mandatory, immediate


class Silence(TimeoutError):
    """The broker did not answer in time."""


class Blocked(Exception):
    """The broker said that it takes nothing now. The connection is good and says when it does."""


class Channel:
    """``publish`` fills a ledger; what is open there when it raises is unknown."""

    def __init__(self, broker_url: str, clock: Clock, timeout_s: float) -> None:
        self._clock, self._timeout_s = clock, timeout_s
        self._blocked: str | None = None
        self._tag = 0
        self._ledger = Ledger(())
        self._connection = connect(broker_url, timeout_s)
        try:
            self._connection.on_blocked = self._on_blocked
            self._connection.on_unblocked = self._on_unblocked
            self._channel = self._open()
        except BaseException:
            self.abandon()
            raise

    def publish(self, messages: Sequence[Message], ledger: Ledger) -> None:
        """Send all and wait for the last answer.

        Two limits: no silence longer than the timeout, and a whole call that grows by it only
        every thousand messages, so that a trickle of answers cannot hold the caller for long.
        """
        self._ledger = ledger
        to_send = deque(messages)
        heard, heard_s = ledger.answered, self._clock.monotonic_s()
        until_s = heard_s + self._timeout_s * (1 + len(messages) / 1000)
        while to_send or ledger.open:
            may_send = to_send and ledger.open < MAX_OPEN and not self._blocked
            if may_send and not self._readable():
                self._send(to_send.popleft())
                continue
            now_s = self._clock.monotonic_s()
            if ledger.answered != heard:
                heard, heard_s = ledger.answered, now_s
            silence_s = min(self._timeout_s, BLOCKED_GRACE_S) if self._blocked else self._timeout_s
            try:
                self._read(min(heard_s + silence_s, until_s) - now_s)
            except Silence:
                if self._blocked:
                    raise Blocked(self._blocked) from None
                raise

    def look(self) -> None:
        """Take in what came while nobody published: a goodbye, an alarm, its end."""
        while self._readable():
            self._read(self._timeout_s)

    @property
    def blocked(self) -> str | None:
        """Why the broker takes nothing at the moment, if it said so."""
        return self._blocked

    def close(self) -> None:
        """Say goodbye; the broker has a second to answer."""
        try:
            self._connection.transport.sock.settimeout(1.0)
            self._connection.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drop the connection without a word."""
        self._connection.collect()

    def _open(self) -> Any:
        channel = self._connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(lambda tag, multiple: self._ledger.acked(tag, multiple))
        channel.events["basic_nack"].add(lambda tag, multiple: self._ledger.nacked(tag, multiple))
        channel.events["basic_return"].add(self._on_return)
        return channel

    def _send(self, message: Message) -> None:
        self._tag += 1
        self._ledger.sent(self._tag, message.id)
        content = AmqpMessage(
            body_of(message), application_headers=headers_of(message), **properties_of(message)
        )
        # Not basic_publish: it reads first, without a limit inside a frame that came in half.
        self._channel.send_method(
            spec.Basic.Publish, _PUBLISH_ARGS, (0, "", message.queue, True, False), content
        )

    def _readable(self) -> bool:
        sock = self._connection.transport.sock
        decrypted = getattr(sock, "pending", None)
        if decrypted is not None and decrypted():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def _read(self, timeout_s: float) -> None:
        """Take in one frame."""
        if timeout_s <= 0:
            raise Silence("the broker did not confirm in time")
        try:
            self._connection.blocking_read(timeout_s)
        except TimeoutError as error:
            raise Silence("the broker did not confirm in time") from error

    def _on_return(self, _error: Exception, _exchange: str, _key: str, message: Any) -> None:
        self._ledger.returned(message.properties.get("message_id", ""))

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = "the broker takes nothing: it is short of memory or disk"

    def _on_unblocked(self) -> None:
        self._blocked = None
