"""Candidates that may share a pass: one version, one shape, equally suspected."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from workers.inference.batching.candidate import Candidate


class Entry(NamedTuple):
    """A candidate in its tenant's lane. Ordered by rank, then by when it came."""

    rank_ms: int
    number: int
    entered_s: float  # device-seconds the window had seen when it came
    candidate: Candidate


Lane: TypeAlias = list[Entry]
Test: TypeAlias = Callable[[Entry], bool]
GroupKey: TypeAlias = tuple[str, str, int]  # version, shape, companions


class Side:
    """One class of a group: a heap per tenant.

    The earliest deadline and the longest wait are kept as bounds that only a look at everybody
    makes exact; such a look is needed only when a bound says that something may be due.
    """

    __slots__ = ("_earliest_s", "_entered_s", "jobs", "lanes", "rows")

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self.jobs = 0
        self.rows = 0
        self._earliest_s = math.inf
        self._entered_s = math.inf

    def add(self, entry: Entry) -> None:
        candidate = entry.candidate
        lane = self.lanes.get(candidate.tenant)
        if lane is None:
            lane = self.lanes[candidate.tenant] = []
        heapq.heappush(lane, entry)
        self.jobs += 1
        self.rows += candidate.rows
        if candidate.latest_start_s < self._earliest_s:
            self._earliest_s = candidate.latest_start_s
        if entry.entered_s < self._entered_s:
            self._entered_s = entry.entered_s

    def remove(self, test: Test) -> list[Entry]:
        """Take out those that it holds for, in no order."""
        gone: list[Entry] = []
        for lane in self.lanes.values():
            leaving = [entry for entry in lane if test(entry)]
            if not leaving:
                continue
            gone += leaving
            lane[:] = [entry for entry in lane if not test(entry)]
            heapq.heapify(lane)
        self.left(gone)
        return gone

    def left(self, entries: list[Entry]) -> None:
        """These were taken out of their lanes: count them off, drop the lanes that are empty."""
        self.jobs -= len(entries)
        self.rows -= sum(entry.candidate.rows for entry in entries)
        for tenant in {entry.candidate.tenant for entry in entries}:
            if not self.lanes[tenant]:
                del self.lanes[tenant]

    def earliest_s(self, before_s: float) -> float:
        """The earliest latest start, exact when it is at most ``before_s``."""
        if self._earliest_s <= before_s:
            self._look()
        return self._earliest_s

    def entered_s(self, before_s: float) -> float:
        """When the one that waits longest came, exact when at most ``before_s``."""
        if self._entered_s <= before_s:
            self._look()
        return self._entered_s

    def entries(self) -> Iterator[Entry]:
        for lane in self.lanes.values():
            yield from lane

    def _look(self) -> None:
        self._earliest_s = min(
            (e.candidate.latest_start_s for e in self.entries()), default=math.inf
        )
        self._entered_s = min((e.entered_s for e in self.entries()), default=math.inf)


class Group:
    """One version, one shape, one degree of suspicion; online and bulk apart."""

    __slots__ = ("bulk", "companions", "online", "row_cost", "shape", "version_id")

    def __init__(self, key: GroupKey) -> None:
        self.version_id, self.shape, self.companions = key
        self.online = Side()
        self.bulk = Side()
        self.row_cost = 0.0  # of its most expensive row; equal for all where shapes are padded

    def side(self, bulk: bool) -> Side:
        return self.bulk if bulk else self.online

    @property
    def jobs(self) -> int:
        return self.online.jobs + self.bulk.jobs
