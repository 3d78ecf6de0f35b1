"""One connection to a receiver: a request, and a reply that may be neither long nor slow.

Only the status and ``Retry-After`` of a reply count. Its body is read to its end, so that the
connection can be used again, unless that is far or takes long: then the connection is closed,
and the status counts all the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools

from workers.webhooks.verdict import Answer, Undelivered

LONG_HEAD = "the head of its answer is too long"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a receiver may take of our time and memory."""

    total_s: float = 15.0  # from the look-up of its address to the head of its reply
    connect_s: float = 5.0  # for one of its addresses, TLS included
    rest_s: float = 1.0  # for the body behind a head
    max_head_bytes: int = 16 * 1024
    max_body_bytes: int = 64 * 1024
    idle_s: float = 4.0  # below what servers grant an idle connection
    max_idle: int = 128  # connections kept for the next delivery, of all receivers


class Broken(Undelivered):
    """The connection ended before an answer. ``silent``: before a single byte of one."""

    def __init__(self, text: str, *, silent: bool) -> None:
        super().__init__(text)
        self.silent = silent


class Connection(asyncio.Protocol):
    """One request at a time; the parser's callbacks are its methods."""

    def __init__(self, limits: Limits, open_ones: set[Connection]) -> None:
        """While it is open it stands among the ``open_ones``."""
        self._limits, self._open_ones = limits, open_ones
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reply: asyncio.Future[Answer] | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._answer: Answer | None = None
        self._retry_after: str | None = None
        self._read_bytes = self._head_bytes = self._body_bytes = 0
        self.closed = False
        self.idle_since_s = 0.0

    async def ask(self, request: bytes) -> Answer:
        """Send a request; the answer, or ``Undelivered``. Cancelled, it closes itself."""
        assert self._transport is not None and self._reply is None
        self._reply = self._loop.create_future()
        self._answer = self._retry_after = None
        self._read_bytes = self._head_bytes = self._body_bytes = 0
        self._transport.write(request)
        try:
            return await self._reply
        except asyncio.CancelledError:
            self.close()
            if self._answer is None:
                raise
            return self._answer  # time was up, but the head of the reply was there
        finally:
            self._reply = None
            if self._rest is not None:
                self._rest.cancel()
                self._rest = None

    def close(self) -> None:
        """At once: nothing of it is waited for."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no common base
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():  # nobody asked: what would it belong to?
            self.close()
            return
        self._read_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._cut()
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Undelivered):
                self._fail(cause)
            else:
                self._fail(Undelivered("its answer is not HTTP"))
        else:
            head_is_open = self._answer is None and not self._reply.done()
            if head_is_open and self._read_bytes > self._limits.max_head_bytes:
                self._fail(Undelivered(LONG_HEAD))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._open_ones.discard(self)
        if self._answer is not None:  # a body that ends with its connection
            self._end()
        else:
            how = "was reset" if isinstance(error, OSError) else "ended"
            silent = not self._read_bytes
            self._fail(Broken(f"the connection {how} before an answer", silent=silent))

    # The parser's callbacks.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_bytes > self._limits.max_head_bytes:
            raise Undelivered(LONG_HEAD)
        if name.lower() == b"retry-after":
            self._retry_after = value[:100].decode("latin-1")

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply.done():  # a second answer to one question
            self.close()

    def on_headers_complete(self) -> None:
        if self.closed:
            return
        status = self._parser.get_status_code()
        if status >= 200 or status == 101:
            self._answer = Answer(status, self._retry_after)
            self._rest = self._loop.call_later(self._limits.rest_s, self._cut)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._cut()

    def on_message_complete(self) -> None:
        if self.closed:
            return
        if self._answer is None:  # 100 or 103: the reply is still to come
            self._retry_after = None
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._end()

    def _cut(self) -> None:
        """What was read is enough."""
        self.close()
        self._end()

    def _end(self) -> None:
        if self._reply is not None and not self._reply.done() and self._answer is not None:
            self._reply.set_result(self._answer)

    def _fail(self, error: Undelivered) -> None:
        self.close()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
