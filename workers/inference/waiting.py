"""Ids in their lanes, in the order in which they are to be claimed. Pure but for the caller's lock.

A lane is what the broker's queue said of an id; the jobs' own priorities are known only after the
claim. Each lane is claimed apart, by a thread of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from storage.queue.lanes import Lane


class Line(NamedTuple):
    """Where an id stands: one version's queue in one lane."""

    version_id: str
    lane: Lane


class Waiting:
    """First come, first served in each line."""

    def __init__(self) -> None:
        self._lines: dict[Line, deque[tuple[float, int, str]]] = {}
        self._arrivals = 0

    def push(self, line: Line, since_s: float, job_id: str) -> None:
        self._arrivals += 1
        self._lines.setdefault(line, deque()).append((since_s, self._arrivals, job_id))

    def push_front(self, line: Line, since_s: float, ids: Sequence[str]) -> None:
        """They were taken and could not be claimed."""
        queue = self._lines.setdefault(line, deque())
        queue.extendleft((since_s, 0, job_id) for job_id in reversed(ids))

    def lines(self) -> list[Line]:
        return list(self._lines)

    def in_order(self, lane: Lane, is_open: Callable[[Line], bool]) -> Iterator[Line]:
        """The open lines in this lane, the one whose head came first before the others."""
        due = [
            (*queue[0][:2], line)
            for line, queue in self._lines.items()
            if line.lane is lane and is_open(line)
        ]
        due.sort()
        return (line for _, _, line in due)

    def pop(self, line: Line, limit: int) -> list[str]:
        queue = self._lines.get(line)
        if queue is None:
            return []
        if limit >= len(queue):
            del self._lines[line]
            return [job_id for _, _, job_id in queue]
        return [queue.popleft()[2] for _ in range(limit)]

    def pop_older(self, before_s: float) -> list[str]:
        """Everything that came before then."""
        gone: list[str] = []
        for line, queue in list(self._lines.items()):
            while queue and queue[0][0] <= before_s:
                gone.append(queue.popleft()[2])
            if not queue:
                del self._lines[line]
        return gone

    def clear(self) -> list[str]:
        ids = [job_id for queue in self._lines.values() for _, _, job_id in queue]
        self._lines.clear()
        return ids
