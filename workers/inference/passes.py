"""What is known and noted of single passes: their sizes, their times, and which run right now.

Sizes come from the version's limits, cut down to what is known to fit into memory. The watchdog
asks here whether a pass has run for too long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from storage.clock import Clock
from workers.inference import shapes
from workers.inference.batch import Work
from workers.inference.batching import Limits, next_size
from workers.inference.batching.sizes import padded, within
from workers.inference.ports import LoadedModel
from workers.inference.ready import Ready


@dataclass(frozen=True, slots=True)
class _Running:
    since_s: float
    deadline_s: float  # when the last of its jobs passes its run deadline, or did before it began


class Passes:
    """Shared by the device threads."""

    def __init__(self, ready: Ready, limits: Callable[[str], Limits], clock: Clock) -> None:
        self._ready, self._limits, self._clock = ready, limits, clock
        self._running: dict[int, _Running] = {}  # by slot
        self._turns = threading.Condition()
        self._held_up = False  # nobody enters the device now

    def sizes(self, model: LoadedModel, shape: str) -> Sequence[int]:
        """What a pass of this shape may be large, ascending."""
        limits = self._limits(model.version_id)
        most = float(limits.sizes[-1])
        if limits.max_cost is not None:
            most = limits.max_cost / shapes.cost_per_row(model.signature, shape)
        with self._ready.changed:
            cap = self._ready.book.cap(model.version_id, shape)
        return within(limits.sizes, most if cap is None else min(most, cap))

    def next_size(self, model: LoadedModel, shape: str, rows: int) -> tuple[int, int]:
        """(rows to run now, size to run them in)."""
        sizes, version_id = self.sizes(model, shape), model.version_id
        with self._ready.changed:
            book = self._ready.book
            return next_size(rows, sizes, lambda size: book.estimate_s(version_id, shape, size))

    def holding(self, model: LoadedModel, shape: str, rows: int) -> int:
        """The smallest size for so many rows."""
        return padded(rows, self.sizes(model, shape))

    def is_smallest(self, model: LoadedModel, bucket: int) -> bool:
        """Whether there is no smaller pass."""
        return bucket <= self._limits(model.version_id).sizes[0]

    def shrink(self, model: LoadedModel, shape: str, bucket: int) -> int | None:
        """A pass of this size did not fit: remember it. Gives the bound there was before."""
        with self._ready.changed:
            return self._ready.book.shrink(model.version_id, shape, bucket)

    def unshrink(self, model: LoadedModel, shape: str, before: int | None) -> None:
        """It was a row, and not the size: the bound is what it was."""
        with self._ready.changed:
            self._ready.book.unshrink(model.version_id, shape, before)

    def observe(
        self, model: LoadedModel, shape: str, bucket: int, seconds: float, *, switched: bool
    ) -> None:
        """A pass took this long. The first one after another version's shows what a switch costs,
        and counts as a pass without it."""
        cost = bucket * shapes.cost_per_row(model.signature, shape)
        kind = (model.version_id, shape, bucket)
        with self._ready.changed:
            book = self._ready.book
            if switched and book.ran(*kind):
                usual_s = book.estimate_s(*kind)
                book.observe_switch(model.version_id, seconds - usual_s)
                seconds = min(seconds, usual_s)
            book.observe(*kind, seconds, cost)

    def enter(self, slot: int, works: Sequence[Work]) -> float:
        """A pass begins; when. Waits while somebody has the device ``alone``."""
        deadline_s = max(work.here_s(work.job.run_deadline_at) for work in works)
        with self._turns:
            self._turns.wait_for(lambda: not self._held_up)
            now_s = self._clock.monotonic_s()
            # One of many passes of a late list may be quick all the same.
            self._running[slot] = _Running(now_s, max(now_s, deadline_s))
        return now_s

    def leave(self, slot: int) -> None:
        """It is over."""
        with self._turns:
            self._running.pop(slot, None)
            if self._held_up:
                self._turns.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing runs on the device inside: whatever happens there is not a pass's doing."""
        with self._turns:
            self._held_up = True
            self._turns.wait_for(lambda: not self._running)
        try:
            yield
        finally:
            with self._turns:
                self._held_up = False
                self._turns.notify_all()

    def busy(self) -> bool:
        """Whether any pass runs."""
        return bool(self._running)

    def longest_s(self) -> float:
        """How long the longest running pass has taken; 0 when none runs."""
        return self._most(lambda one: one.since_s)

    def late_s(self) -> float:
        """How long a running pass is past the run deadline of every one of its jobs."""
        return self._most(lambda one: one.deadline_s)

    def _most(self, since: Callable[[_Running], float]) -> float:
        now_s = self._clock.monotonic_s()
        return max((now_s - since(one) for one in list(self._running.values())), default=0.0)
