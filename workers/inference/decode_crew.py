"""Decodes works one after another, or side by side when each takes long.

Pictures are decoded outside the interpreter's lock, so several threads bring several cores to it;
a row of numbers is decoded faster than it is handed to another thread. What it takes is measured
for each version, as its inputs are of one kind; a thread that was kept waiting once, for the lock
or for a core, must not make a quick input a slow one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workers.inference.batch import Work

T = TypeVar("T")
R = TypeVar("R")

SLICE_S = 0.03
MOST_THREADS = 4
_SLOW_S = 0.001  # from here on it is worth a thread
_WEIGHT = 0.2
_MOST_FACTOR = 2  # by which one measurement may exceed what is known, or a quarter of _SLOW_S
_LEGS = 2  # so many for each thread go together: the slowest of them is waited for


def fitting_threads(cores: int) -> int:
    """How many may decode beside a pass: on few cores decoding in bursts slows a pass on the CPU
    more than it gains, and a device that computes by itself leaves all cores but its own."""
    return max(1, min(MOST_THREADS, cores - 1))


class DecodeCrew:
    """Shared by the decode threads; ``threads`` is how many may decode at once for each."""

    def __init__(self, threads: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._threads, self._now_s = threads, now_s
        self._pool = ThreadPoolExecutor(threads, "forebay-decode-crew") if threads > 1 else None
        self._each_s: dict[str, float] = {}  # by version, lately

    def run(self, works: Sequence[Work], decode: Callable[[Work], None]) -> int:
        """Decode the first few, until it has taken long enough; how many. Raises what ``decode``
        raises."""
        began_s = self._now_s()
        done = 0
        while done < len(works) and (not done or self._now_s() - began_s < SLICE_S):
            done += self._step(works[done:], decode)
        return done

    def _step(self, works: Sequence[Work], decode: Callable[[Work], None]) -> int:
        version_id = works[0].job.version_id

        def timed(work: Work) -> float:
            began_s = self._now_s()
            decode(work)
            return self._now_s() - began_s

        if self._pool is None or self._each_s.get(version_id, 0.0) < _SLOW_S:
            self._learn(version_id, timed(works[0]))
            return 1
        some = works[: _LEGS * self._threads]
        self._learn(version_id, statistics.median(self._pool.map(timed, some)))
        return len(some)

    def in_order(self, decode: Callable[[T], R], given: Sequence[T]) -> Iterator[R]:
        """``decode`` of each, in the order given. A few at a time, so that others who share the
        crew never wait long."""
        if self._pool is None:
            yield from map(decode, given)
            return
        step = _LEGS * self._threads
        for start in range(0, len(given), step):
            yield from self._pool.map(decode, given[start : start + step])

    def _learn(self, version_id: str, seconds: float) -> None:
        before_s = self._each_s.get(version_id, 0.0)
        seconds = min(seconds, _MOST_FACTOR * max(before_s, _SLOW_S / 4))
        self._each_s[version_id] = before_s + _WEIGHT * (seconds - before_s)

    def close(self) -> None:
        """When nothing is decoded any more."""
        if self._pool is not None:
            self._pool.shutdown()
