"""HTTP as uvicorn speaks it, but with an end to the patience for bodies nobody wants.

A caller who sends too much is answered before its body is through; uvicorn then reads and drops
the rest, so that the caller finds its answer instead of a reset connection. That kindness needs a
limit, or one endless body keeps the event loop busy for ever.
"""

from __future__ import annotations

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_DROPPED_BYTES = 64 << 20


class BoundedH11(H11Protocol):
    """Closes the connection after dropping ``MAX_DROPPED_BYTES`` of an answered request."""

    _dropped_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count what comes for a request that is answered already."""
        if self.cycle is not None and self.cycle.response_complete and self.cycle.more_body:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > MAX_DROPPED_BYTES:
                self.transport.close()
                return
        else:
            self._dropped_bytes = 0
        super().data_received(data)
