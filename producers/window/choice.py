"""Which jobs enter the ready window next, and in which lane. Pure: the relay feeds and obeys it.

*Online first, bulk in what is left.* Bulk work gets no more than ``BULK_SHARE`` of the window, so
that an online job always finds room; once its rank says that it waited longer (``aged``) it is
owed every ``AGED_EVERY``-th device-second of the places, and travels in the ordinary lane. So an
aged bulk job of cost c at the front enters after at most (AGED_EVERY - 1) * c seconds of online
work, and nothing starves.

*Among tenants* goes who has had least (see ``fairness``). *Within one* the rank decides, which is
priority with ageing, but for jobs that expire within the ``horizon`` and can still make it: the
earliest goes first of all, in the high lane, as the window would hold it too long.

Workers take the high lane apart, so nothing in it waits behind the ordinary one. An online tenant
with less service than those who fill the window travels high, until it leads them by ``lead_s``;
it may even enter a window that others have filled (which costs a turn like any other). Because the
lead is counted in service, the high lane evens service out and cannot starve the others: a tenant
that got ahead travels low again.
And because a window is finite, jobs of high priority cannot either: places are shared by turns,
so the ordinary lane's jobs pile up in the window until the high lane is dry.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from producers.window.fairness import EMPTY, Cost, Ledger, Scale, Tags, entered, work_of
from storage.queue.lanes import Lane, class_of
from storage.records.jobs import BacklogHead, Millis

BULK_SHARE = 3 / 4  # of the window's places that bulk work may take
AGED_EVERY = 8  # every how manieth device-second is aged bulk work's

Heads: TypeAlias = Mapping[str, Sequence[BacklogHead]]  # tenant → its next jobs, lowest rank first


@dataclass(frozen=True, slots=True)
class Books:
    """What is remembered of one pool between two looks."""

    online: Ledger = EMPTY
    bulk: Ledger = EMPTY
    owed_s: float = 0.0  # device-seconds of places that aged bulk work has saved up

    def entered(self, jobs: Mapping[tuple[str, str, bool], int], cost: Cost) -> Books:
        """So many jobs, by (tenant, version id, whether bulk), had their turn."""
        online = {(tenant, version): n for (tenant, version, bulk), n in jobs.items() if not bulk}
        bulk = {(tenant, version): n for (tenant, version, bulk), n in jobs.items() if bulk}
        return Books(
            entered(self.online, online, cost), entered(self.bulk, bulk, cost), self.owed_s
        )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What is near. ``now_ms`` is on the database's clock."""

    now_ms: Millis = 0
    horizon_ms: int = 0


class Pick(NamedTuple):
    """A job that enters the window now."""

    head: BacklogHead
    lane: Lane


@dataclass(frozen=True, slots=True)
class Choice:
    """The picks of one look, and what they leave."""

    picks: Sequence[Pick]
    owed_s: float
    online_left: int  # of the jobs that were offered
    bulk_left: int


class _Line:
    """Jobs of one class in the order of their tenants' turns."""

    def __init__(self, heads: Heads, turns: Tags, cost: Cost, soon: Deadlines) -> None:
        self._cost = cost
        self._turns = dict(turns)
        near_ms = soon.now_ms + soon.horizon_ms
        self._urgent = {
            job.id: job.expires_at
            for jobs in heads.values()
            for job in jobs
            if job.expires_at <= near_ms
            and job.expires_at > soon.now_ms + 1000 * cost(job.version_id)
        }
        self._jobs = {tenant: self._in_order(jobs) for tenant, jobs in heads.items()}
        self.left = sum(map(len, heads.values()))
        self._queue = [self._place(tenant, 0) for tenant, jobs in self._jobs.items() if jobs]
        heapq.heapify(self._queue)
        self._tenant, self._index = "", 0
        self.first: BacklogHead | None = None  # whose turn it is
        self.turn_away()

    def take(self) -> None:
        """The first one goes, and its tenant pays for it."""
        tenant, jobs = self._tenant, self._jobs[self._tenant]
        seconds = self._cost(jobs[self._index].version_id)
        self._turns[tenant] = self._turns.get(tenant, 0.0) + seconds
        self.left -= 1
        index = self._index + 1
        if index == len(jobs):
            self.turn_away()
        elif not self._queue or (place := self._place(tenant, index)) <= self._queue[0]:
            self._index, self.first = index, jobs[index]
        else:
            self._come_forward(heapq.heapreplace(self._queue, place))

    def turn_away(self) -> None:
        """The first one's tenant gets nothing more in this look."""
        if self._queue:
            self._come_forward(heapq.heappop(self._queue))
        else:
            self.first = None

    def _come_forward(self, place: tuple[float, float, int, str, int]) -> None:
        _, _, _, self._tenant, self._index = place
        self.first = self._jobs[self._tenant][self._index]

    def is_urgent(self, job: BacklogHead) -> bool:
        return job.id in self._urgent

    def _in_order(self, jobs: Sequence[BacklogHead]) -> Sequence[BacklogHead]:
        if not self._urgent:
            return jobs
        return sorted(jobs, key=lambda job: (self._urgent.get(job.id, math.inf), job.rank))

    def _place(self, tenant: str, index: int) -> tuple[float, float, int, str, int]:
        job = self._jobs[tenant][index]
        latest = self._urgent.get(job.id, math.inf) if self._urgent else math.inf
        return self._turns.get(tenant, 0.0), latest, job.rank, tenant, index


def choose(
    books: Books,
    online: Heads,
    bulk: Heads,
    *,
    scale: Scale,
    cost: Cost,
    overfill: int,
    soon: Deadlines,
) -> Choice:
    """Fill the window; up to ``overfill`` jobs more for online tenants left outside.

    ``books`` come fresh from ``fairness.observe``.
    """
    in_window = sum(books.online.window.values())
    bulk_in_window = sum(books.bulk.window.values())
    free = max(0, scale.target - in_window - bulk_in_window)
    bulk_free = max(0, math.ceil(scale.target * BULK_SHARE) - bulk_in_window)
    first, second = (
        _Line(online, books.online.turns, cost, soon),
        _Line(bulk, books.bulk.turns, cost, soon),
    )
    oldest = min((jobs[0].rank for jobs in online.values() if jobs), default=None)
    standing = work_of(books.online.window, cost)
    is_light, has_reserve = _lightness(books.online, online, standing, scale)
    picks: list[Pick] = []
    owed_s, aged = books.owed_s, False
    while True:
        head, filler = first.first, second.first
        aged = oldest is not None and filler is not None and free > 0 and filler.rank < oldest
        if filler is not None and aged and owed_s >= (seconds := cost(filler.version_id)):
            owed_s -= seconds
            picks.append(Pick(filler, Lane.NORMAL))
            second.take()
            free, bulk_free = free - 1, bulk_free - 1
        elif head is not None:
            tenant, seconds = head.tenant, cost(head.version_id)
            light = is_light(tenant)
            if free > 0:
                free -= 1
            elif light and overfill > 0 and has_reserve(tenant):
                overfill -= 1
            else:
                first.turn_away()  # the window is full for it; others may still be light
                continue
            high = light or first.is_urgent(head)
            picks.append(Pick(head, Lane.HIGH if high else class_of(head.priority)))
            first.take()
            standing[tenant] = standing.get(tenant, 0.0) + seconds
            owed_s += seconds / (AGED_EVERY - 1) if aged else 0.0
        elif filler is not None and free > 0 and bulk_free > 0:
            picks.append(Pick(filler, Lane.BULK))
            second.take()
            free, bulk_free = free - 1, bulk_free - 1
        else:
            break
    return Choice(picks, owed_s if second.left else 0.0, first.left, second.left)


def _lightness(
    ledger: Ledger, heads: Heads, standing: Tags, scale: Scale
) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """Who is ahead of nobody though others fill the window, and who has little in it.

    Both look at ``standing`` as it grows with the picks.
    """
    active = standing.keys() | {tenant for tenant, jobs in heads.items() if jobs}
    fair_s = scale.window_s / max(1, len(active))
    crowding = {tenant for tenant, seconds in standing.items() if seconds > fair_s}
    served_least = heapq.nsmallest(2, ((ledger.service.get(t, 0.0), t) for t in crowding))

    def is_light(tenant: str) -> bool:
        if not crowding:
            return False
        least = next((value for value, owner in served_least if owner != tenant), None)
        if least is None or standing.get(tenant, 0.0) >= fair_s:
            return False
        lead_s = ledger.service.get(tenant, 0.0) + standing.get(tenant, 0.0) - least
        return lead_s < scale.lead_s

    def has_reserve(tenant: str) -> bool:
        return standing.get(tenant, 0.0) < min(scale.reserve_s, fair_s)

    return is_light, has_reserve
