"""Two ways to decide what enters the device next: Forebay's batcher, and a fixed window.

Both are asked when the device is free. The fixed window is the good form of it: it counts from
the oldest item that waits, ends early when a largest batch is there, and while the device is busy
the batch goes on growing.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.inference.batching import UNLIMITED, Candidate, LatencyBook, Limits, Pick, Window

VERSION = "bench"


@dataclass(frozen=True)
class Pass:
    """Items to compute together, padded to ``bucket`` rows."""

    items: Sequence[int]
    bucket: int
    pick: Pick | None = None


class Policy(Protocol):
    """Called under one lock."""

    def add(self, item: int, now_s: float) -> None: ...

    def next(self, now_s: float) -> Pass | float:
        """A pass to run now, or when to ask again if nothing comes (infinity: not at all)."""
        ...

    def ran(self, done: Pass, seconds: float) -> None: ...


class FixedWindow:
    """A batch goes when its oldest item has waited for the window, or when it is full."""

    def __init__(self, sizes: Sequence[int], window_s: float) -> None:
        self._sizes, self._window_s = sizes, window_s
        self._waiting: deque[tuple[int, float]] = deque()

    def add(self, item: int, now_s: float) -> None:
        self._waiting.append((item, now_s))

    def next(self, now_s: float) -> Pass | float:
        if not self._waiting:
            return math.inf
        due_s = self._waiting[0][1] + self._window_s
        largest = self._sizes[-1]
        if now_s < due_s and len(self._waiting) < largest:
            return due_s
        items = [self._waiting.popleft()[0] for _ in range(min(len(self._waiting), largest))]
        return Pass(items, self._sizes[bisect.bisect_left(self._sizes, len(items))])

    def ran(self, done: Pass, seconds: float) -> None:
        pass


class Batcher:
    """The worker's own window and latency book; the book outlives a run, as it does there."""

    def __init__(self, sizes: Sequence[int], book: LatencyBook) -> None:
        limits = Limits(tuple(sizes), None, objective_s=0.05)
        self._book = book
        self._window = Window(book, limits=lambda _: limits)

    def add(self, item: int, now_s: float) -> None:
        candidate = Candidate(
            job_id=str(item),
            tenant="default",
            version_id=VERSION,
            shape="",
            rows=1,
            cost=1.0,
            rank_ms=int(now_s * 1_000),
            bulk=False,
            latest_start_s=math.inf,
            companions=UNLIMITED,
            payload=item,
        )
        self._window.add([candidate], now_s)

    def next(self, now_s: float) -> Pass | float:
        pick = self._window.pick(now_s, lambda _: True)
        if pick is None:
            return math.inf
        items = [one.payload for one in pick.candidates if isinstance(one.payload, int)]
        return Pass(items, pick.bucket, pick)

    def ran(self, done: Pass, seconds: float) -> None:
        assert done.pick is not None
        self._book.observe(VERSION, "", done.bucket, seconds)
        self._window.charge(done.pick, seconds)
