"""A bounded hand-over between threads, whose givers wait for room *before* they make a thing.

``queue.Queue`` lets a producer build one more than the bound and hold it in its hand; a claimed
batch in a hand is a lease that nobody works on. Bulk things let the others pass, but each only a
few times.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

OVERTAKEN_AT_MOST = 4


class Passable(Protocol):
    """A thing that says whether it lets others pass."""

    @property
    def bulk(self) -> bool: ...


T = TypeVar("T", bound=Passable)


class Handoff(Generic[T]):
    """At most about ``bound`` things on the way: each giver may add the one it has made."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._online: deque[T] = deque()
        self._bulk: deque[T] = deque()
        self._passed = 0  # how many have overtaken the first bulk thing
        self._changed = threading.Condition()
        self._closed = False

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether there is room now."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._len() < self._bound, timeout_s
            )

    def put(self, thing: T) -> None:
        """Hand over; never blocks and never refuses, so that nothing made is ever lost."""
        with self._changed:
            (self._bulk if thing.bulk else self._online).append(thing)
            self._changed.notify_all()

    def get(self, timeout_s: float) -> T | None:
        """The next one, or None when none came in time or none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._len(), timeout_s)
            if not self._len():
                return None
            thing = self._next()
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
            return self._closed and not self._len()

    def drain(self) -> list[T]:
        """Take everything back."""
        with self._changed:
            things = [*self._online, *self._bulk]
            self._online.clear()
            self._bulk.clear()
            self._changed.notify_all()
            return things

    def _next(self) -> T:
        if self._online and not (self._bulk and self._passed >= OVERTAKEN_AT_MOST):
            self._passed += bool(self._bulk)
            return self._online.popleft()
        self._passed = 0
        return self._bulk.popleft()

    def _len(self) -> int:
        return len(self._online) + len(self._bulk)
