"""Forming the pass of a chosen group: its size, who goes, and what fills the padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.inference.batching.candidate import MIXED, Limits, Pick
from workers.inference.batching.choice import Choice, hurrying
from workers.inference.batching.debts import Debts
from workers.inference.batching.filling import Room, take_fairly, take_first
from workers.inference.batching.group import Entry, Group, Side
from workers.inference.batching.latency import LatencyBook
from workers.inference.batching.patience import PATIENCE_S
from workers.inference.batching.sizes import Estimate, next_size, padded, within, worthwhile

FIRST_ROWS = 64  # most rows of a version's first pass, as nobody knows how long it takes
GROWTH = 4  # and no pass is larger than the largest so far by more than this
_MOST_PASSES_AHEAD = 16  # of a group's own queue, when told how soon its deadlines press
_HASTE = 1.5  # a deadline presses this much earlier than the mean pass would have it


@dataclass(frozen=True, slots=True)
class Plan:
    """What a group's pass may be."""

    sizes: Sequence[int]  # allowed, ascending
    most: int  # rows
    estimate: Estimate  # seconds by size


class Former:
    """Forms passes out of groups; remembers nothing."""

    def __init__(
        self,
        book: LatencyBook,
        debts: Mapping[bool, Debts],
        limits: Callable[[str], Limits],
        bulk_cap: Callable[[str, float], int],
    ) -> None:
        self._book, self._debts, self._limits, self._bulk_cap = book, debts, limits, bulk_cap

    def until_s(
        self, groups: Iterable[Group], now_s: float, *, bulk: bool
    ) -> Callable[[Group], float]:
        """By when a candidate must start to be in a hurry now: if it can still start after the
        longest pass that may go before, and after its own queue, it is in none."""
        own_s: dict[Group, float] = {}
        longest_s = 0.0
        for group in groups:
            plan, rows = self._plan(group), group.side(bulk).rows
            pass_s = plan.estimate(padded(rows, plan.sizes))
            longest_s = max(longest_s, pass_s)
            own_s[group] = pass_s * min(rows // plan.most, _MOST_PASSES_AHEAD)
        return lambda group: now_s + _HASTE * (longest_s + own_s[group])

    def form(self, choice: Choice, until_s: float, now_s: float, served_s: float) -> Pick:
        """Take a pass's candidates out of the group."""
        group, side = choice.group, choice.group.side(choice.bulk)
        whole = self._plan(group)
        plan = self._capped(whole, group, now_s) if choice.bulk else whole
        room = Room(1 if group.shape == MIXED else group.companions)
        self._take_own(choice, plan, room, self._first(choice, until_s, served_s))
        rows = room.filled
        bucket = padded(rows, (plan if rows <= plan.most else whole).sizes)
        s_per_cost = whole.estimate(bucket) / (bucket * (group.row_cost or 1.0))
        room.widen(min(bucket, plan.most))
        take_fairly(side, room, self._debts[choice.bulk], s_per_cost)
        if not choice.bulk:
            room.widen(min(bucket, room.filled + self._bulk_cap(group.version_id, now_s)))
            take_fairly(group.bulk, room, self._debts[True], s_per_cost)
        passes = -(-room.filled // bucket) or 1
        return Pick(
            group.version_id,
            group.shape,
            tuple(room.taken),
            bucket=bucket,
            rows=room.filled,
            fill=room.filled / (passes * bucket),
            bulk=choice.bulk,
            estimate_s=passes * whole.estimate(bucket),
            overdue=choice.overdue,
        )

    def _take_own(self, choice: Choice, plan: Plan, room: Room, first: list[Entry]) -> None:
        """The rows that decide the bucket: all that wait, or as many as fill a smaller one when
        that is cheaper per row and nobody would be late for it."""
        group, side = choice.group, choice.group.side(choice.bulk)
        waiting = max(1, min(side.rows, plan.most))
        goal, bucket = next_size(waiting, plan.sizes, plan.estimate)
        if sum(entry.candidate.rows for entry in first) > goal:
            goal = waiting
        s_per_cost = plan.estimate(bucket) / (bucket * (group.row_cost or 1.0))
        room.widen(goal)
        take_first(side, first, room)
        take_fairly(side, room, self._debts[choice.bulk], s_per_cost)
        if room.filled < goal < waiting:  # jobs of several rows left a gap: does it still pay?
            each_s = plan.estimate(padded(room.filled, plan.sizes)) / max(room.filled, 1)
            if each_s > plan.estimate(padded(waiting, plan.sizes)) / waiting:
                room.widen(waiting)
                take_fairly(side, room, self._debts[choice.bulk], s_per_cost)

    def _first(self, choice: Choice, until_s: float, served_s: float) -> list[Entry]:
        """Those that must be in it before anybody else: the overdue, then those in a hurry."""
        side = choice.group.side(choice.bulk)
        first = _overdue(side, served_s - PATIENCE_S) if choice.overdue else []
        known = {entry.number for entry in first}
        hurry = hurrying(side, until_s, self._debts[choice.bulk])
        return first + [entry for entry in hurry if entry.number not in known]

    def _plan(self, group: Group) -> Plan:
        limits = self._limits(group.version_id)
        sizes: Sequence[int] = limits.sizes
        cap = self._book.cap(group.version_id, group.shape)
        if cap is not None:
            sizes = within(sizes, cap)
        if limits.max_cost is not None and group.row_cost > 0:
            sizes = within(sizes, limits.max_cost / group.row_cost)

        tried = self._book.tried_rows(group.version_id, group.shape)
        sizes = within(sizes, max(FIRST_ROWS, GROWTH * tried))

        def estimate(size: int) -> float:
            return self._book.estimate_s(group.version_id, group.shape, size, size * group.row_cost)

        sizes = worthwhile(sizes, estimate, limits.objective_s)
        return Plan(sizes, sizes[-1], estimate)

    def _capped(self, plan: Plan, group: Group, now_s: float) -> Plan:
        most = min(plan.most, self._bulk_cap(group.version_id, now_s))
        return Plan(within(plan.sizes, most), most, plan.estimate)


def _overdue(side: Side, before_s: float) -> list[Entry]:
    entries = (entry for entry in side.entries() if entry.entered_s <= before_s)
    return sorted(entries, key=lambda entry: entry.number)
