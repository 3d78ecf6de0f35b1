"""Whose turn it is. Pure: the relay feeds it and ``choice`` asks it.

Everything is counted in *device-seconds*, the time that a job of its version takes of a device, so
that a tenant of cheap jobs and one of dear ones share the device's time and not the number of
jobs. Two counts are kept per tenant. ``turns`` is the work of the places it was given in the
window; a free place goes to whoever had least (start-time fair queueing; a deficit is a count
that lags). ``service`` is the work seen leaving the window: what workers did for it.

A tenant away for a while comes back at the level of those present: idleness earns no credit, and
a brief absence sheds no lead. One that wants little falls behind by at most ``Scale.lag_s``.

Online and bulk work have a ledger each: what bulk work took was left over, so nobody owes for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

UNKNOWN_S = 0.001  # a job's device time where nothing was ever measured
LEAST_S = 1e-6  # no job is free
LEAD_JOBS = 64  # usual jobs' time that a tenant may be served ahead of others by the high lane
RESERVE_JOBS = 64  # usual jobs' time that a light tenant may have in a window others have filled
LAG_SHARE = 1 / 4  # of the window's time: how far behind a tenant can fall by wanting little
MIN_LAG_JOBS = 64
LEAST_TRAININGS = 8  # in the window of a pool of trainings
TRAININGS_PER_WORKER = 2

Tags: TypeAlias = Mapping[str, float]  # tenant → device-seconds
Window: TypeAlias = Mapping[tuple[str, str], int]  # (tenant, version id) → jobs
Cost: TypeAlias = Callable[[str], float]  # version id → device-seconds of one job


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the relay remembers of one pool and class between two looks."""

    turns: Tags  # of the places in the window that it was given
    service: Tags  # of the jobs seen leaving the window
    window: Window  # when last seen, own picks included


EMPTY = Ledger(turns={}, service={}, window={})


@dataclass(frozen=True, slots=True)
class Scale:
    """What few and many means in a pool now: bounds in jobs become bounds in device-seconds."""

    usual_s: float  # the mean device time of a job in the window
    dearest_s: float  # of the dearest job in sight
    target: int  # jobs that the window should hold

    @property
    def window_s(self) -> float:
        return self.target * self.usual_s

    @property
    def lead_s(self) -> float:
        return LEAD_JOBS * self.usual_s

    @property
    def reserve_s(self) -> float:
        return RESERVE_JOBS * self.usual_s

    @property
    def lag_s(self) -> float:
        """Never less than two of the dearest: else its tenant's turn would be forgiven."""
        jobs = max(MIN_LAG_JOBS, int(self.target * LAG_SHARE))
        return max(jobs * self.usual_s, 2 * self.dearest_s)


def costs_of(measured: Mapping[str, float]) -> Cost:
    """The cost of any version: measured, or the median of what is."""
    known = {version: max(LEAST_S, seconds) for version, seconds in measured.items()}
    usual_s = statistics.median(known.values()) if known else UNKNOWN_S
    return lambda version_id: known.get(version_id, usual_s)


def scale_of(window: Window, versions: Iterable[str], cost: Cost, target: int) -> Scale:
    """``versions`` are all in sight; they set the scale of an empty window."""
    jobs = sum(window.values())
    costs = [cost(version) for version in versions]
    if jobs:
        usual_s = sum(count * cost(version) for (_, version), count in window.items()) / jobs
    else:
        usual_s = statistics.fmean(costs) if costs else UNKNOWN_S
    return Scale(usual_s, max(costs, default=usual_s), target)


def work_of(window: Window, cost: Cost) -> dict[str, float]:
    """Device-seconds in the window, by tenant."""
    work: dict[str, float] = {}
    for (tenant, version), count in window.items():
        if count:
            work[tenant] = work.get(tenant, 0.0) + count * cost(version)
    return work


def observe(ledger: Ledger, window: Window, wanting: set[str], cost: Cost, lag_s: float) -> Ledger:
    """Count what entered and left the window since the last look.

    ``wanting`` have a backlog. Other relays fill the same window: what of a tenant and version
    came and what left between two looks is only seen net, so a little less than the truth.
    """
    active = {tenant for (tenant, _), count in window.items() if count} | wanting
    turns, service = dict(ledger.turns), dict(ledger.service)
    for place in window.keys() | ledger.window.keys():
        grown = window.get(place, 0) - ledger.window.get(place, 0)
        if grown:
            counts = turns if grown > 0 else service
            counts[place[0]] = counts.get(place[0], 0.0) + abs(grown) * cost(place[1])
    return Ledger(
        turns=_levelled(turns, active, ledger.turns.keys(), lag_s),
        service=_levelled(service, active, ledger.service.keys(), lag_s),
        window=dict(window),
    )


def _levelled(counts: Tags, active: set[str], known: Iterable[str], lag_s: float) -> Tags:
    """Newcomers begin at the lowest count of those ``known``, nobody present lags too far, and
    who is away is kept only while ahead."""
    old = set(known)
    present = [counts.get(tenant, 0.0) for tenant in active & old]
    lowest = min(present, default=0.0)
    floor = max(lowest, max(present, default=0.0) - lag_s)
    level = {t: max(counts.get(t, 0.0), floor) if t in old else lowest for t in active}
    bottom = min(level.values(), default=0.0)
    away = {t: count for t, count in counts.items() if t not in active and count > bottom}
    return level | away if active else {}


def entered(ledger: Ledger, jobs: Window, cost: Cost) -> Ledger:
    """So many jobs were put into the window by this relay. Newcomers begin at the lowest count."""
    turns, service, window = dict(ledger.turns), dict(ledger.service), dict(ledger.window)
    lowest, least = min(turns.values(), default=0.0), min(service.values(), default=0.0)
    for (tenant, version), count in jobs.items():
        turns[tenant] = turns.get(tenant, lowest) + count * cost(version)
        service.setdefault(tenant, least)
        window[tenant, version] = window.get((tenant, version), 0) + count
    return Ledger(turns, service, window)


def training_target(workers: int) -> int:
    """How many trainings the window should hold: enough that no worker's place stays empty, and
    few, as nothing can overtake them there."""
    return max(LEAST_TRAININGS, TRAININGS_PER_WORKER * workers)


def window_target(jobs_per_s: float, *, window_s: float, least: int, most: int) -> int:
    """How many jobs the window should hold for what the pool finishes lately."""
    return int(min(most, max(least, jobs_per_s * window_s)))
