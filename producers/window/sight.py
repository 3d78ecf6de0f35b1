"""What a look sees of a pool before anything is chosen, in as few round trips as it can be.

Rates and costs change slowly and are read once a second.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeAlias

from producers.settings import RelaySettings
from producers.window import fairness
from producers.window.choice import BULK_SHARE, Deadlines, Heads
from producers.window.fairness import Cost, Window
from storage.clock import Clock
from storage.database import Transaction
from storage.queue.lanes import is_training_pool, worker_pool
from storage.records.jobs import BacklogHead, is_bulk
from storage.records.latency import VersionCost

TTL_S = 1.0  # of rates and costs
FLOW_S = 0.5  # over which the relay itself measures what leaves the window
URGENT_LIMIT = 256

Jobs: TypeAlias = Sequence[BacklogHead]


@dataclass(frozen=True, slots=True)
class Sight:
    """One pool at one moment."""

    wanting: Mapping[str, int]  # tenants with a backlog, and the highest priority in it
    online: Heads
    bulk: Heads
    online_window: Window
    bulk_window: Window
    versions: Collection[str]  # of all of these
    target: int
    workers: int
    cost: Cost
    soon: Deadlines
    cut: bool  # whether there may be online jobs in the backlog beyond ``online``
    bulk_cut: bool


@dataclass(slots=True)
class Rates:
    """What is known of a pool's speed. The workers say it every few seconds; until they have,
    or when a flood follows on silence, what leaves the window tells."""

    read_s: float = -math.inf
    reported: float = 0.0  # jobs/s
    workers: int = 0
    cost: Cost = field(default_factory=lambda: fairness.costs_of({}))
    asked: set[str] = field(default_factory=set)  # versions whose cost was looked up
    flow: float = 0.0  # jobs/s
    left_jobs: int = 0  # out of the window, since ``flow_since_s``
    flow_since_s: float = -math.inf

    def left(self, jobs: int, now_s: float) -> None:
        """So many jobs left the window."""
        self.left_jobs += jobs
        if (passed_s := now_s - self.flow_since_s) >= FLOW_S:
            self.flow = 0.0 if math.isinf(passed_s) else self.left_jobs / passed_s
            self.left_jobs, self.flow_since_s = 0, now_s

    def target(self, pool: str, limits: RelaySettings) -> int:
        if is_training_pool(pool):
            return fairness.training_target(self.workers)
        return fairness.window_target(
            max(self.reported, self.flow),
            window_s=limits.window_s,
            least=limits.min_window_jobs,
            most=limits.max_window_jobs,
        )


class Eyes:
    """Reads pools for one relay; owned by its thread."""

    def __init__(self, clock: Clock, settings: RelaySettings) -> None:
        self._clock, self._settings = clock, settings
        self._rates: dict[str, Rates] = {}
        self._cursor: dict[str, str] = {}
        self._ahead_ms = 0.0  # the database's clock, of the monotonic one

    def rates(self, pool: str) -> Rates:
        return self._rates.setdefault(pool, Rates())

    def see(self, tx: Transaction, pool: str, wanting: Mapping[str, int]) -> Sight:
        """``wanting`` are the tenants with a backlog there, and the highest priority in it."""
        window = tx.backlog.window_by_class(pool)
        rates = self.rates(pool)
        stale = self._clock.monotonic_s() - rates.read_s > TTL_S
        if stale:
            rates.asked.clear()
            self._ahead_ms = tx.now() - 1000 * self._clock.monotonic_s()
            sessions = tx.sessions.live(worker_pool(pool))
            rates.reported, rates.workers = sum(s.jobs_per_s for s in sessions), len(sessions)
        target, turn = rates.target(pool, self._settings), self._turn(pool, list(wanting))
        bulk_inside = sum(jobs for (_, _, bulk), jobs in window.items() if bulk)
        room = max(0, target - sum(window.values()))
        bulk_room = min(room, int(target * BULK_SHARE) - bulk_inside)
        depth, bulk_depth = (_depth(places, target, len(turn)) for places in (room, bulk_room))
        heads = {tenant: tx.backlog.heads(pool, tenant, depth, bulk_depth) for tenant in turn}
        online, bulk = _by_class(heads)
        missing = len(turn) < len(wanting)
        cut = missing or any(len(jobs) >= depth for jobs in online.values())
        soon = Deadlines()
        if online and (cut or sum(map(len, online.values())) > room):
            soon = self._urgent(tx, pool, online)
        versions = {version for _, version, _ in window}
        versions.update(job.version_id for jobs in heads.values() for job in jobs)
        if stale or not versions <= rates.asked:
            rates.cost = fairness.costs_of(
                _measured(tx.latency.costs(sorted(versions | rates.asked)))
            )
            rates.asked |= versions
        if stale:
            rates.read_s = self._clock.monotonic_s()
        return Sight(
            wanting=wanting,
            online=online,
            bulk=bulk,
            online_window={(t, v): jobs for (t, v, of_bulk), jobs in window.items() if not of_bulk},
            bulk_window={(t, v): jobs for (t, v, of_bulk), jobs in window.items() if of_bulk},
            versions=versions,
            target=target,
            workers=rates.workers,
            cost=rates.cost,
            soon=soon,
            cut=cut,
            bulk_cut=missing or any(len(jobs) >= bulk_depth for jobs in bulk.values()),
        )

    def _urgent(self, tx: Transaction, pool: str, online: dict[str, Jobs]) -> Deadlines:
        """Put what expires soon into ``online``, however deep in the backlog it lies."""
        horizon_ms = int(2000 * self._settings.window_s)
        for job in tx.backlog.urgent(pool, horizon_ms, URGENT_LIMIT):
            known = online.get(job.tenant, [])
            if job not in known:
                online[job.tenant] = [*known, job]
        now_ms = int(1000 * self._clock.monotonic_s() + self._ahead_ms)
        return Deadlines(now_ms, horizon_ms)

    def _turn(self, pool: str, tenants: Sequence[str]) -> Sequence[str]:
        """With very many tenants a look takes the next few of them, round and round."""
        most = self._settings.tenants_per_look
        if len(tenants) <= most:
            return tenants
        after = self._cursor.get(pool, "")
        ordered = sorted(tenants)
        chosen = ([t for t in ordered if t > after] + ordered)[:most]
        self._cursor[pool] = chosen[-1]
        return chosen


def _depth(places: int, target: int, tenants: int) -> int:
    """How far to look into each backlog: far enough for an uneven share, and for a light tenant's
    places in a window that others have filled."""
    fair = 2 * places // max(1, tenants)
    return max(min(places, fair), min(fairness.RESERVE_JOBS, target))


def _by_class(heads: Mapping[str, Jobs]) -> tuple[dict[str, Jobs], dict[str, Jobs]]:
    online: dict[str, Jobs] = {}
    bulk: dict[str, Jobs] = {}
    for tenant, jobs in heads.items():
        if mine := [job for job in jobs if not is_bulk(job.priority)]:
            online[tenant] = mine
        if len(mine) < len(jobs):
            bulk[tenant] = [job for job in jobs if is_bulk(job.priority)]
    return online, bulk


def _measured(costs: Iterable[VersionCost]) -> dict[str, float]:
    """Device-seconds of a job by version; the mean where it ran on several kinds of device."""
    found: dict[str, list[float]] = {}
    for cost in costs:
        found.setdefault(cost.version_id, []).append(cost.device_s_per_job)
    return {version: fmean(seconds) for version, seconds in found.items()}
