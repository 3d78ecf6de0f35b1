"""Which jobs enter the ready window next, and in which lane. Pure: the relay feeds and obeys it.

Fair means that tenants who want work done are *served* alike. What is known without asking a
worker is how many of a tenant's jobs stand in the window; what left it was served. So each tenant
carries ``service`` (jobs seen leaving the window) and its *tag* is service plus what stands in the
window now: free places go to the lowest tag, one at a time (start-time fair queueing with jobs of
unit cost; a deficit is a tag that lags).

Two lanes leave one window, and workers empty the high one first. A tenant with less service than
those who fill the window travels high, until it leads them by ``EXPRESS_LEAD`` jobs; it may even
enter a window that others have filled. Because the lead is counted in service, the high lane
evens service out and can never starve the low one: a tenant that got ahead travels low again.

A tenant away for a while comes back at the level of those present: idleness earns no credit, and
a brief absence sheds no lead. One that wants little falls behind at most ``lag`` jobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.records.jobs import HIGH_PRIORITY, BacklogHead

EXPRESS_LEAD = 64  # jobs a tenant may be served ahead of others by the high lane
RESERVE = 64  # jobs a light tenant may have in a window that others have filled
MIN_LAG = 64

Tags = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the relay remembers of one pool between two looks."""

    service: Tags  # tenant → jobs seen leaving the window
    window: Tags  # tenant → jobs in the window when last seen, own picks included


EMPTY = Ledger(service={}, window={})


@dataclass(frozen=True, slots=True)
class Pick:
    """A job that enters the window now."""

    head: BacklogHead
    high: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The picks of one look, and what to remember."""

    picks: Sequence[Pick]
    ledger: Ledger


def observe(ledger: Ledger, window: Tags, wanting: Sequence[str], *, lag: int) -> Ledger:
    """Count what left the window since the last look, for tenants in it or ``wanting`` in.

    Other relays fill the same window; a growth they caused hides service from this one, never
    invents any.
    """
    active = {tenant for tenant, count in window.items() if count} | set(wanting)
    service = dict(ledger.service)
    for tenant, before in ledger.window.items():
        left = before - window.get(tenant, 0)
        if left > 0:
            service[tenant] = service.get(tenant, 0) + left
    present = [service[tenant] for tenant in active if tenant in service]
    level = min(present, default=0)
    floor = max(present, default=0) - max(lag, MIN_LAG)
    for tenant in active:
        service[tenant] = max(service.get(tenant, level), floor)
    level = min((service[tenant] for tenant in active), default=0)
    kept = {t: value for t, value in service.items() if t in active or value > level}
    return Ledger(service=kept if active else {}, window=dict(window))


def choose(
    ledger: Ledger, heads: Mapping[str, Sequence[BacklogHead]], *, target: int, overfill: int
) -> Choice:
    """Fill the window up to ``target``; up to ``overfill`` more for tenants left outside.

    ``ledger`` comes fresh from ``observe``; ``heads`` holds each tenant's first jobs in its own
    order (rank), which is kept.
    """
    standing = dict(ledger.window)
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
            tag = ledger.service.get(tenant, 0) + standing.get(tenant, 0)
            heapq.heappush(queue, (tag, jobs[index].rank, tenant, index))

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
        picks.append(Pick(head, high=light or head.priority >= HIGH_PRIORITY))
        standing[tenant] = standing.get(tenant, 0) + 1
        line_up(tenant, index + 1)
    return Choice(picks, Ledger(service=ledger.service, window=standing))


def _two_least(values: Tags) -> list[tuple[str, int]]:
    """The two tenants with the least, so that one of them is somebody else."""
    return heapq.nsmallest(2, values.items(), key=lambda item: (item[1], item[0]))


def window_target(jobs_per_s: float, *, window_s: float, least: int, most: int) -> int:
    """How many jobs the window should hold for what the pool finishes lately."""
    return int(min(most, max(least, jobs_per_s * window_s)))
