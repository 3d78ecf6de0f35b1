"""Which group's pass is next.

Overdue candidates come first while they are due their share. Then online work before bulk, and
within either: whoever would be late if one more pass went before, the earliest latest start first;
else the lowest effective rank, which is in milliseconds

    rank of the head + 1000 · device-seconds of its tenant + 1000 · cost of the switch.

Ranks count for ``RANK_SPAN_MS`` at most, so an hour-old backlog is not an hour ahead: a tenant's
debt may grow beyond ``RANK_SPAN_MS`` and ``MOST_SWITCH_S`` together and tells in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from workers.inference.batching.debts import MOST_LAG_S, Debts
from workers.inference.batching.group import Entry, Group, Side
from workers.inference.batching.patience import PATIENCE_S, Turns

RANK_SPAN_MS = 5_000.0
MOST_SWITCH_S = 2.0
HURRY_WITHIN_S = MOST_LAG_S / 2  # so far ahead of others a tenant's deadlines still give it way


@dataclass(frozen=True, slots=True)
class Choice:
    """The group that goes, and as which class."""

    group: Group
    bulk: bool
    overdue: bool = False


def overdue(groups: Iterable[Group], served_s: float, turns: Turns, *, bulk: bool) -> Choice | None:
    """The group of the candidate that came first of those whose patience has ended."""
    before_s = served_s - PATIENCE_S
    first: Group | None = None
    first_s = math.inf
    for group in groups:
        side = group.side(bulk)
        if side.jobs and (entered_s := side.entered_s(before_s)) < min(first_s, before_s):
            first, first_s = group, entered_s
    if first is None:
        turns.rest()
        return None
    return Choice(first, bulk, overdue=True) if turns.is_due else None


def hurried(
    groups: Iterable[Group], until_s: Callable[[Group], float], debts: Debts, *, bulk: bool
) -> Choice | None:
    """The group with the earliest latest start, of those that cannot wait for another's pass."""
    first: Group | None = None
    first_s = math.inf
    for group in groups:
        for entry in hurrying(group.side(bulk), until_s(group), debts):
            if entry.candidate.latest_start_s < first_s:
                first, first_s = group, entry.candidate.latest_start_s
    return None if first is None else Choice(first, bulk)


def hurrying(side: Side, until_s: float, debts: Debts) -> list[Entry]:
    """Those that must start by ``until_s``, the earliest first.

    A tenant far ahead of others cannot stay there by short deadlines: its own then count as little
    as anybody's without one.
    """
    if side.earliest_s(until_s) > until_s:
        return []
    due = [
        entry
        for entry in side.entries()
        if entry.candidate.latest_start_s <= until_s
        and debts.ahead_s(entry.candidate.tenant) <= HURRY_WITHIN_S
    ]
    return sorted(due, key=lambda entry: (entry.candidate.latest_start_s, entry.number))


def ranked(
    groups: Sequence[Group],
    debts: Debts,
    switch_s: Callable[[str], float],
    last_version: str | None,
    *,
    bulk: bool,
) -> Choice:
    """The group with the lowest effective rank; there is at least one."""
    if len(groups) == 1:
        return Choice(groups[0], bulk)
    newest_ms = max(lane[0][0] for group in groups for lane in group.side(bulk).lanes.values())
    floor_ms = newest_ms - RANK_SPAN_MS
    chosen, least_ms = groups[0], math.inf
    chosen_head = next(iter(chosen.side(bulk).lanes.values()))[0]
    for group in groups:
        version_id = group.version_id
        extra_s = min(switch_s(version_id), MOST_SWITCH_S) if version_id != last_version else 0.0
        for tenant, lane in group.side(bulk).lanes.items():
            head = lane[0]
            rank_ms = head[0] if head[0] > floor_ms else floor_ms
            rank_ms += 1000 * (debts.levels_s[tenant] + extra_s)
            if rank_ms < least_ms or (rank_ms == least_ms and head < chosen_head):
                chosen, chosen_head, least_ms = group, head, rank_ms
    return Choice(chosen, bulk)
