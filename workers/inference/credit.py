"""How much more this process may claim: about one largest batch beyond what runs.

Counted for each version and lane, so that bulk work that waits never keeps online work unclaimed,
and bounded over all versions of a class, so that many of them cannot fill the memory. A job counts
as one row from its claim on, as what it really has once it is decoded, and as nothing once it
leaves for the device or is given back.

Bulk jobs are counted further, until they are settled: while somebody waits for an answer, one
claim of them is under way at a time, so that of all stages at most one is busy with bulk work.
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
        self._bulk_out = 0  # jobs claimed and not yet settled

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

    def claimed(self, line: Line, jobs: int) -> None:
        """So many of this line are this process's now; a negative number when they are settled."""
        if line.lane is Lane.BULK:
            with self._lock:
                self._bulk_out += jobs

    @property
    def bulk_out(self) -> int:
        """Bulk jobs that are this process's."""
        return self._bulk_out

    def held(self) -> int:
        """Rows claimed and not yet on their way to the device."""
        with self._lock:
            return sum(self._sums.values())
