"""Filling one pass from one class of a group: who goes, job by job."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from workers.inference.batching.candidate import Candidate
from workers.inference.batching.debts import Debts
from workers.inference.batching.group import Entry, Side

_MOST_MISFITS = 32  # jobs too large for what is left of a pass that are looked past


@dataclass(slots=True)
class Room:
    """What a pass still has room for, and who is in it."""

    jobs: int
    rows: int = 0
    filled: int = 0  # rows
    taken: list[Candidate] = field(default_factory=list)

    def widen(self, rows: int) -> None:
        """It may now hold so many rows altogether."""
        self.rows = rows - self.filled

    def take(self, candidate: Candidate) -> bool:
        """Put it in if it fits. The first always does: what is too large runs alone."""
        if candidate.rows > self.rows and self.taken:
            return False
        self.rows -= candidate.rows
        self.jobs -= 1
        self.filled += candidate.rows
        self.taken.append(candidate)
        return True

    @property
    def is_full(self) -> bool:
        return self.rows <= 0 or self.jobs <= 0


def take_first(side: Side, first: list[Entry], room: Room) -> None:
    """Those that must not wait, in the order given."""
    gone = {entry.number for entry in first if not room.is_full and room.take(entry.candidate)}
    if gone:
        side.remove(lambda entry: entry.number in gone)


def take_fairly(side: Side, room: Room, debts: Debts, s_per_cost: float) -> None:
    """The least served tenant's next job, again and again; each is counted as it is taken.

    A job that does not fit what is left stays, in its place; a smaller one behind it may go.
    """
    if room.is_full or not side.jobs:
        return
    queue = [(debts.levels_s[tenant], lane[0], tenant) for tenant, lane in side.lanes.items()]
    heapq.heapify(queue)
    stayed: list[tuple[str, Entry]] = []
    took: list[Entry] = []
    while queue and room.rows > 0 and room.jobs > 0 and len(stayed) < _MOST_MISFITS:
        level_s, _, tenant = queue[0]
        lane = side.lanes[tenant]
        entry = heapq.heappop(lane)
        if room.take(entry.candidate):
            took.append(entry)
            level_s += entry.candidate.cost * s_per_cost
        else:
            stayed.append((tenant, entry))
        if lane:
            heapq.heapreplace(queue, (level_s, lane[0], tenant))
        else:
            heapq.heappop(queue)
    for tenant, entry in stayed:
        heapq.heappush(side.lanes[tenant], entry)
    side.left(took)
