"""Which jobs enter the ready window next, and in which lane. Pure: the relay feeds and obeys it.

Two counts are kept per tenant. ``turns`` are places in the window it was given; a free place goes
to whoever had the fewest turns (start-time fair queueing with jobs of unit cost; a deficit is a
count that lags). ``service`` are jobs seen leaving the window: what workers did for it.

Two lanes leave the window, and workers empty the high one first. A tenant with less service than
those who fill the window travels high, until it leads them by ``EXPRESS_LEAD`` jobs; it may even
enter a window that others have filled (which costs a turn like any other). Because the lead is
counted in service, the high lane evens service out and cannot starve the low one: a tenant that
got ahead travels low again. And because a window is finite, jobs of high priority cannot either:
places are shared by turns, so the low lane's jobs pile up in the window until the high lane is dry.

A tenant away for a while comes back at the level of those present: idleness earns no credit, and
a brief absence sheds no lead. One that wants little falls behind by at most ``lag`` jobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.queue.lanes import Lane, class_of
from storage.records.jobs import BacklogHead

EXPRESS_LEAD = 64  # jobs a tenant may be served ahead of others by the high lane
RESERVE = 64  # jobs a light tenant may have in a window that others have filled
MIN_LAG = 64

Tags = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the relay remembers of one pool between two looks."""

    turns: Tags  # tenant → places in the window it was given
    service: Tags  # tenant → jobs seen leaving the window
    window: Tags  # tenant → jobs in the window when last seen, own picks included


EMPTY = Ledger(turns={}, service={}, window={})


@dataclass(frozen=True, slots=True)
class Pick:
    """A job that enters the window now."""

    head: BacklogHead
    lane: Lane


@dataclass(frozen=True, slots=True)
class Choice:
    """The picks of one look, and what to remember."""

    picks: Sequence[Pick]
    ledger: Ledger


def observe(ledger: Ledger, window: Tags, wanting: Sequence[str], *, lag: int) -> Ledger:
    """Count what entered and left the window since the last look.

    ``wanting`` have a backlog. Other relays fill the same window: what of a tenant came and what
    left between two looks is only seen net, so it is a little less than the truth, never more.
    """
    active = {tenant for tenant, count in window.items() if count} | set(wanting)
    turns, service = dict(ledger.turns), dict(ledger.service)
    for tenant in active | set(ledger.window):
        grown = window.get(tenant, 0) - ledger.window.get(tenant, 0)
        counts = turns if grown > 0 else service
        counts[tenant] = counts.get(tenant, 0) + abs(grown)
    lag = max(lag, MIN_LAG)
    return Ledger(
        turns=_levelled(turns, active, set(ledger.turns), lag),
        service=_levelled(service, active, set(ledger.service), lag),
        window=dict(window),
    )


def _levelled(counts: Mapping[str, int], active: set[str], known: set[str], lag: int) -> Tags:
    """Newcomers begin at the lowest count of those ``known``, nobody present lags too far, and
    who is away is kept only while ahead."""
    present = [counts.get(tenant, 0) for tenant in active & known]
    lowest = min(present, default=0)
    floor = max(lowest, max(present, default=0) - lag)
    level = {t: lowest if t not in known else max(counts.get(t, 0), floor) for t in active}
    bottom = min(level.values(), default=0)
    away = {t: count for t, count in counts.items() if t not in active and count > bottom}
    return level | away if active else {}


def choose(
    ledger: Ledger, heads: Mapping[str, Sequence[BacklogHead]], *, target: int, overfill: int
) -> Choice:
    """Fill the window up to ``target``; up to ``overfill`` more for tenants left outside.

    ``ledger`` comes fresh from ``observe``; ``heads`` holds each tenant's first jobs in its own
    order (rank), which is kept.
    """
    standing, turns = dict(ledger.window), dict(ledger.turns)
    active = {t for t, count in standing.items() if count} | {
        t for t, jobs in heads.items() if jobs
    }
    fair = max(1, target // max(1, len(active)))
    crowding = {t for t, count in standing.items() if count > fair}
    served_least = _two_least({t: ledger.service.get(t, 0) for t in crowding})

    def is_light(tenant: str) -> bool:
        least = next((value for owner, value in served_least if owner != tenant), None)
        if least is None or standing.get(tenant, 0) >= fair:
            return False
        lead = ledger.service.get(tenant, 0) + standing.get(tenant, 0) - least
        return lead < EXPRESS_LEAD

    free = max(0, target - sum(standing.values()))
    picks: list[Pick] = []
    queue: list[tuple[int, int, str, int]] = []

    def line_up(tenant: str, index: int) -> None:
        jobs = heads[tenant]
        if index < len(jobs):
            heapq.heappush(queue, (turns.get(tenant, 0), jobs[index].rank, tenant, index))

    for tenant in heads:
        line_up(tenant, 0)
    while queue and free + overfill > 0:
        _, _, tenant, index = heapq.heappop(queue)
        light = is_light(tenant)
        if free > 0:
            free -= 1
        elif light and standing.get(tenant, 0) < min(RESERVE, fair):
            overfill -= 1
        else:
            continue  # the window is full for this tenant; others may still be light
        head = heads[tenant][index]
        picks.append(Pick(head, lane_for(head.priority, light)))
        standing[tenant] = standing.get(tenant, 0) + 1
        turns[tenant] = turns.get(tenant, 0) + 1
        line_up(tenant, index + 1)
    return Choice(picks, Ledger(turns, ledger.service, standing))


def lane_for(priority: int, light: bool) -> Lane:
    """The lane of a job's priority; a light tenant's online jobs travel high."""
    own = class_of(priority)
    return Lane.HIGH if light and own is not Lane.BULK else own


def _two_least(values: Tags) -> list[tuple[str, int]]:
    """The two tenants with the least, so that one of them is somebody else."""
    return heapq.nsmallest(2, values.items(), key=lambda item: (item[1], item[0]))


def window_target(jobs_per_s: float, *, window_s: float, least: int, most: int) -> int:
    """How many jobs the window should hold for what the pool finishes lately."""
    return int(min(most, max(least, jobs_per_s * window_s)))
