"""The places for trainings in this process, and the ids that wait for one.

An id that a message brought and nobody has claimed waits for a place; a training whose process is
started again has kept its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from storage.clock import Clock


class Places:
    """Thread-safe. Whoever has a place gives it back by ``leave``, once."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._free = count
        self._since_s: dict[str, float] = {}  # by waiting id, the oldest first

    @property
    def free(self) -> int:
        return self._free

    def offer(self, ids: Iterable[str]) -> None:
        """These wait for a place from now on, unless they do already."""
        now_s = self._clock.monotonic_s()
        with self._changed:
            for job_id in ids:
                self._since_s.setdefault(job_id, now_s)
            self._changed.notify_all()

    def admit(self, timeout_s: float) -> str | None:
        """The id that has waited longest, and a place for it; None when there is not both."""
        with self._changed:
            self._changed.wait_for(self._may_admit, timeout_s)
            if not self._may_admit():
                return None
            job_id = next(iter(self._since_s))
            del self._since_s[job_id]
            self._free -= 1
            return job_id

    def leave(self) -> None:
        """A place is free again."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def pop_older(self, patience_s: float) -> list[str]:
        """Those that have waited for so long, and do no longer."""
        before_s = self._clock.monotonic_s() - patience_s
        with self._changed:
            late = [job_id for job_id, since_s in self._since_s.items() if since_s <= before_s]
            for job_id in late:
                del self._since_s[job_id]
        return late

    def _may_admit(self) -> bool:
        return bool(self._since_s) and self._free > 0
