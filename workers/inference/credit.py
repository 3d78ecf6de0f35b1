"""How much more this process may claim: about one largest batch beyond what runs.

Counted for each version and lane, so that bulk work that waits never keeps online work unclaimed,
and bounded over all versions of a class, so that many of them cannot fill the memory. A job counts
as one row from its claim on, as what it really has once it is decoded, and as nothing once it
leaves for the device or is given back.
"""

from __future__ import annotations

import threading

from storage.queue.lanes import Lane
from workers.inference.waiting import Line

TOTAL_BATCHES = 4  # of the largest size, over all versions of a class


class Credit:
    """Shared by whoever claims and whoever takes away what was claimed."""

    def __init__(self, max_batch: int) -> None:
        self._total = TOTAL_BATCHES * max_batch
        self._lock = threading.Lock()
        self._rows: dict[Line, int] = {}
        self._sums = {True: 0, False: 0}  # by whether it is bulk

    def room(self, line: Line, most: int) -> int:
        """How many more rows of this line may be claimed, when it may hold ``most``."""
        with self._lock:
            left = self._total - self._sums[line.lane is Lane.BULK]
            return max(0, min(most - self._rows.get(line, 0), left))

    def spend(self, line: Line, rows: int) -> None:
        """So many more are here; a negative number gives credit back."""
        if not rows:
            return
        with self._lock:
            held = self._rows.get(line, 0) + rows
            if held:
                self._rows[line] = held
            else:
                self._rows.pop(line, None)
            self._sums[line.lane is Lane.BULK] += rows

    def held(self) -> int:
        """Rows claimed and not yet on their way to the device."""
        with self._lock:
            return sum(self._sums.values())
