"""A device in virtual time: Poisson arrivals, one pass at a time, a policy that says what is next.

Nothing here waits: an event is the next arrival, the end of a pass or the end of a window, and the
clock jumps to it. With one seed every policy sees the same arrivals.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.unit.batching.candidates import always, candidate
from workers.inference.batching import Candidate, LatencyBook, Limits, Pick, Window

Service = Callable[[int], float]


def linear_service(bucket: int) -> float:
    """The device of the simulations: 5 ms a pass and 0.25 ms a row."""
    return 0.005 + 0.00025 * bucket


@dataclass(frozen=True)
class Pass:
    """What a policy starts: the arrivals' numbers, and the rows that the device computes."""

    jobs: Sequence[int]
    bucket: int


class Policy(Protocol):
    """When the device is free, what it does."""

    def arrive(self, number: int, now_s: float) -> None: ...

    def start(self, now_s: float) -> Pass | None: ...

    def wakes_at(self, now_s: float) -> float:
        """When to ask again though nothing happened."""
        ...

    def ended(self, started: Pass, seconds: float) -> None: ...


class LateBinding:
    """The real window."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._book = LatencyBook()
        self._window = Window(self._book, limits=lambda version_id: Limits(sizes, None, 1.0))
        self._pick: Pick | None = None

    def arrive(self, number: int, now_s: float) -> None:
        job = candidate(rank_ms=int(now_s * 1000))
        job.payload = number
        self._window.add([job], now_s)

    def start(self, now_s: float) -> Pass | None:
        self._pick = self._window.pick(now_s, always)
        if self._pick is None:
            return None
        return Pass([_number(job) for job in self._pick.candidates], self._pick.bucket)

    def wakes_at(self, now_s: float) -> float:
        return math.inf

    def ended(self, started: Pass, seconds: float) -> None:
        assert self._pick is not None
        self._window.charge(self._pick, seconds)
        self._book.observe("v", "", started.bucket, seconds)


class FixedWindow:
    """Waits until the first has waited for so long or a largest batch is there, then takes all.

    The kind form of it: a window that ends while the device is busy goes on collecting.
    """

    def __init__(self, sizes: tuple[int, ...], wait_s: float) -> None:
        self._sizes, self._wait_s = sizes, wait_s
        self._waiting: deque[tuple[int, float]] = deque()

    def arrive(self, number: int, now_s: float) -> None:
        self._waiting.append((number, now_s))

    def start(self, now_s: float) -> Pass | None:
        most = self._sizes[-1]
        if len(self._waiting) < most and now_s < self.wakes_at(now_s):
            return None
        if not self._waiting:
            return None
        jobs = [self._waiting.popleft()[0] for _ in range(min(most, len(self._waiting)))]
        return Pass(jobs, next(size for size in self._sizes if size >= len(jobs)))

    def wakes_at(self, now_s: float) -> float:
        return self._waiting[0][1] + self._wait_s if self._waiting else math.inf

    def ended(self, started: Pass, seconds: float) -> None:
        """It learns nothing."""


@dataclass(frozen=True)
class Latencies:
    """Seconds from arrival to the end of the pass."""

    mean_s: float
    p99_s: float
    jobs: int


def simulate(
    policy: Policy, *, rate: float, jobs: int, seed: int, service: Service = linear_service
) -> Latencies:
    """Run so many arrivals through the policy until the last has left."""
    draw = random.Random(seed)
    arrivals: list[float] = []
    at_s = 0.0
    for _ in range(jobs):
        at_s += draw.expovariate(rate)
        arrivals.append(at_s)
    ends: list[float] = [math.nan] * jobs
    arrived = finished = 0
    now_s, free_at_s = 0.0, 0.0
    running: tuple[Pass, float] | None = None
    while finished < jobs:
        due_s = [free_at_s] if running else [policy.wakes_at(now_s)]
        if arrived < jobs:
            due_s.append(arrivals[arrived])
        now_s = max(now_s, min(due_s))
        while arrived < jobs and arrivals[arrived] <= now_s:
            policy.arrive(arrived, arrivals[arrived])
            arrived += 1
        if running and free_at_s <= now_s:
            started, seconds = running
            policy.ended(started, seconds)
            for number in started.jobs:
                ends[number] = free_at_s
            finished += len(started.jobs)
            running = None
        if running is None and (begun := policy.start(now_s)) is not None:
            running = (begun, service(begun.bucket))
            free_at_s = now_s + service(begun.bucket)
    waits = sorted(end - arrival for end, arrival in zip(ends, arrivals, strict=True))
    return Latencies(sum(waits) / jobs, waits[math.ceil(0.99 * jobs) - 1], jobs)


def capacity(sizes: Sequence[int], service: Service = linear_service) -> float:
    """Rows per second that the device can do at its best size."""
    return max(size / service(size) for size in sizes)


def _number(job: Candidate) -> int:
    assert isinstance(job.payload, int)
    return job.payload
