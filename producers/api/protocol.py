"""HTTP as uvicorn speaks it, but with an end to the patience for callers who send without end.

A caller who sends too much is answered before its body is through; uvicorn then reads and drops
the rest, so that the caller finds its answer instead of a reset connection. That kindness needs a
limit, or one endless body keeps the event loop busy for ever. So do headers and trailers, which the
fast parser (httptools) would collect as long as they come. Without httptools the slow one (h11) is
taken, which has that limit itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING

MAX_DROPPED_BYTES = 64 << 20
MAX_HEAD_BYTES = 64 << 10
READ_BYTES = 256 << 10  # what one read of a socket may bring, a piece of the body included

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Dropped:
    """Counts what comes for a request that is answered already."""

    def __init__(self) -> None:
        self._bytes = 0

    def is_too_much(self, protocol: H11Protocol | HttpToolsProtocol, data: bytes) -> bool:
        cycle = protocol.cycle
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._bytes += len(data)
            return self._bytes > MAX_DROPPED_BYTES
        self._bytes = 0
        return False


def http_protocol() -> type[asyncio.Protocol]:
    """The fastest protocol that is installed."""
    return _on_httptools() if importlib.util.find_spec("httptools") else _on_h11()


def _on_httptools() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Bounded(HttpToolsProtocol):
        """Closes the connection on a request without end."""

        _dropped: _Dropped | None = None
        _unread_bytes = 0  # came since the last end of headers or piece of a body

        def data_received(self, data: bytes) -> None:
            if self._dropped is None:
                self._dropped = _Dropped()
            if self._dropped.is_too_much(self, data):
                self.transport.close()
                return
            self._unread_bytes += len(data)
            super().data_received(data)
            if self._unread_bytes > MAX_HEAD_BYTES + READ_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

        def on_headers_complete(self) -> None:
            self._unread_bytes = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread_bytes = 0
            super().on_body(body)

    return Bounded


def _on_h11() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """Closes the connection on a body without end."""

        _dropped: _Dropped | None = None

        def data_received(self, data: bytes) -> None:
            if self._dropped is None:
                self._dropped = _Dropped()
            if self._dropped.is_too_much(self, data):
                self.transport.close()
                return
            super().data_received(data)

    return Bounded
