"""A bounded hand-over between two threads, whose giver waits for room *before* it makes a thing.

``queue.Queue`` lets a producer build one more than the bound and hold it in its hand; a claimed
batch in a hand is a lease that nobody works on.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handoff(Generic[T]):
    """At most ``bound`` things on the way."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._things: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether there is room now. With one giver it stays until that one puts."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or len(self._things) < self._bound, timeout_s
            )

    def put(self, thing: T) -> None:
        """Hand over; never blocks and never refuses, so that nothing made is ever lost."""
        with self._changed:
            self._things.append(thing)
            self._changed.notify_all()

    def get(self, timeout_s: float) -> T | None:
        """The next one, or None when none came in time or none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._things, timeout_s)
            if not self._things:
                return None
            thing = self._things.popleft()
            self._changed.notify_all()
            return thing

    def close(self) -> None:
        """No more will be put; what is there can still be got."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def finished(self) -> bool:
        """Closed and empty."""
        with self._changed:
            return self._closed and not self._things

    def drain(self) -> list[T]:
        """Take everything back."""
        with self._changed:
            things = list(self._things)
            self._things.clear()
            self._changed.notify_all()
            return things
