"""How long this worker takes for a job when it always has work: the time between two commits."""

from __future__ import annotations

import threading


class Pace:
    """Told of every commit, by whichever thread made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_s: float | None = None

    def finished(self, now_s: float, *, more: bool) -> float | None:
        """Seconds that the batch just committed took of this worker's time; None if it may have
        been idle in between. ``more``: jobs wait that the worker can go on with at once."""
        with self._lock:
            last_s, self._last_s = self._last_s, now_s if more else None
            return None if last_s is None else now_s - last_s
