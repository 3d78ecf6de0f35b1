"""A bounded hand-over between threads, whose givers wait for room *before* they make a thing.

``queue.Queue`` lets a producer build one more than the bound and hold it in its hand; a claimed
batch in a hand is a lease that nobody works on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handoff(Generic[T]):
    """At most about ``bound`` things on the way: each of several givers may add one more."""

    def __init__(self, bound: int, on_room: Callable[[], None] = lambda: None) -> None:
        self._bound, self._on_room = bound, on_room
        self._things: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def room(self) -> int:
        """How many more things may be made now; below 0 when there are more than there should."""
        return self._bound - len(self._things)

    @property
    def has_room(self) -> bool:
        """Whether a thing that is made now need not wait."""
        return self.room > 0

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether there is room now. With one giver it stays until that one puts."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self.has_room, timeout_s)

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
        self._on_room()
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
