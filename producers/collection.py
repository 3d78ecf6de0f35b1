"""Garbage collection kept out of the way of large requests.

Parsed JSON has no cycles, but every list in it counts as an allocation that may start a
collection: five megabytes of nested lists took 1.7 s to parse, 1.5 s of it looking for garbage that
cannot be there. So the collector rests while a large body is parsed, and a serving process sets
aside what it loaded at its start.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage import strict_json

LARGE_BODY_BYTES = 64 << 10
ALLOCATIONS_PER_LOOK = 50_000


class _Rests:
    """How many parses rest the collector now; the last one to end wakes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._was_enabled = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """A rest. Who disabled the collector before finds it disabled after."""
        with self._lock:
            if self._count == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0 and self._was_enabled:
                    gc.enable()


_RESTS = _Rests()


def parse_body(body: bytes) -> object:
    """``strict_json.parse``, without collections in between."""
    if len(body) < LARGE_BODY_BYTES:
        return strict_json.parse(body)
    with _RESTS.one():
        return strict_json.parse(body)


def settle() -> None:
    """Called once by a process that serves: what is loaded by now is never garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_PER_LOOK, 20, 20)
