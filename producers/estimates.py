"""How much work waits, and when something submitted now would start.

Both come from a *sample* of a pool: what is queued, what each version costs, who is alive to do
it. Sampling is rare (at most one a second, rarer the more there is to count) and off the path of
submits; between two samples a process adds what it accepted itself, and time does the rest.

The order is told as the relay and the batcher make it: tenants share a worker's time, so a light
one waits for as much of each other tenant's work as it has of its own, not for all of it; within
a tenant rank decides; bulk work lets all online work pass.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from storage.clock import Clock
from storage.database import Database, Transaction
from storage.queue.lanes import is_training_pool, worker_pool
from storage.records.counts import WorkerCounts
from storage.records.errors import ForebayError
from storage.records.jobs import AGEING_MS_PER_PRIORITY, Millis, is_bulk
from storage.records.latency import QueuedLoad, VersionCost
from storage.records.sessions import Session, processes

SAMPLE_EVERY_S = 1.0
COST_FACTOR = 50.0  # a sample that took 0.2 s holds for at least 10 s
MAX_COUNTED = 1_000_000
FIRST_PATIENCE_S = 0.05  # what the very first question may wait for its sample
AFTER_TROUBLE_S = 5.0
IN_FLIGHT_S = 0.2  # what a worker has in its hands is not overtaken by anybody
GUESSED_S_PER_JOB = 0.02  # of a version that nobody ever ran, in a pool that did nothing yet
LONGEST_S_PER_JOB = 60.0
GUESSED_S_PER_TRAINING = 60.0  # none is like the one before it
MAX_REMEMBERED = 1_000
SAME_ANSWER_S = 0.05  # a thousand submits a second need not be worked out one by one


@dataclass(slots=True)
class Waiting:
    """Queued jobs of one tenant and priority, and the time that one worker needs for them."""

    tenant: str
    priority: int
    seconds: float
    oldest_at: Millis


@dataclass(slots=True)
class Sample:
    """A pool at one moment."""

    taken_at: Millis  # on the database's clock
    taken_s: float  # on ours
    good_until_s: float
    sessions: Sequence[Session]
    loads: Sequence[QueuedLoad]
    costs: Mapping[str, float]  # version id → seconds that one worker needs for a job
    usual_s: float  # for versions without a cost
    load_s: Mapping[str, float]  # version id → seconds to load it
    loaded: frozenset[str]  # versions that some worker holds
    standing: dict[tuple[str, int], Waiting] = field(default_factory=dict)
    answers: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for load in self.loads:
            self.add(load.tenant, load.priority, self.seconds_of(load), load.oldest_at)

    @property
    def workers(self) -> int:
        """Live device processes."""
        return len(self.sessions)

    def seconds_of(self, load: QueuedLoad) -> float:
        """The time one worker needs for these jobs."""
        return load.jobs * self.costs.get(load.version_id, self.usual_s)

    def add(self, tenant: str, priority: int, seconds: float, since: Millis) -> None:
        """More waits: seen in the database, or accepted by this process after that."""
        one = self.standing.get((tenant, priority))
        if one is None:
            self.standing[tenant, priority] = Waiting(tenant, priority, seconds, since)
        else:
            one.seconds += seconds
            one.oldest_at = min(one.oldest_at, since)

    def wait_s(self, tenant: str, priority: int, now_s: float) -> float:
        """Seconds from the sample until a job submitted at ``now_s`` starts."""
        until_s, wait_s = self.answers.get((tenant, priority), (now_s, 0.0))
        if now_s < until_s:
            return wait_s
        wait_s = wait_of(
            self.standing.values(),
            tenant,
            priority,
            now=self.taken_at + int((now_s - self.taken_s) * 1000),
            workers=self.workers,
        )
        if len(self.answers) < MAX_REMEMBERED:
            self.answers[tenant, priority] = (now_s + SAME_ANSWER_S, wait_s)
        return wait_s

    def backlog_s(self) -> float:
        """Seconds until everything queued is done by those alive, or by one if nobody is."""
        return sum(map(self.seconds_of, self.loads)) / max(1, self.workers)


class Estimates:
    """Thread-safe. ``close`` ends the sampling."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._samples: dict[str, Sample] = {}
        self._under_way: dict[str, threading.Event] = {}
        self._troubled_until_s = 0.0
        self._asked_of: dict[str, None] = {}  # versions submitted lately, newest last
        self._sampler: ThreadPoolExecutor | None = None
        self._closed = False

    def start_at(
        self, pool: str, tenant: str, priority: int, jobs: int, version_id: str = ""
    ) -> Millis | None:
        """When the first of ``jobs`` accepted now will start; None when no worker is alive.

        They count as waiting from here on, until a sample sees them in the database.
        """
        sample = self._look(pool, version_id)
        if sample is None or not sample.workers:
            return None
        now_s = self._clock.monotonic_s()
        now = sample.taken_at + int((now_s - sample.taken_s) * 1000)
        seconds = jobs * sample.costs.get(version_id, sample.usual_s)
        with self._lock:
            wait_s = sample.wait_s(tenant, priority, now_s)
            sample.add(tenant, priority, seconds, now)
        if version_id not in sample.loaded:
            wait_s += sample.load_s.get(version_id, 0.0)
        return max(now, sample.taken_at + int(wait_s * 1000))

    def sample(self, pool: str) -> Sample | None:
        """A fresh enough one, taken here and now if need be; None in trouble. Blocks."""
        with self._lock:
            sample = self._samples.get(pool)
            if sample is not None and self._clock.monotonic_s() < sample.good_until_s:
                return sample
        self._refresh(pool)
        return self._samples.get(pool)

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            self._closed, sampler = True, self._sampler
        if sampler is not None:
            sampler.shutdown(wait=True)

    def _look(self, pool: str, version_id: str) -> Sample | None:
        """What is known, with a new sample under way when it is old."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            self._asked_of.pop(version_id, None)
            self._asked_of[version_id] = None
            while len(self._asked_of) > MAX_REMEMBERED:
                del self._asked_of[next(iter(self._asked_of))]
            sample = self._samples.get(pool)
            if sample is not None and now_s < sample.good_until_s:
                return sample
            done = self._begin(pool, now_s)
        if sample is None and done is not None:
            done.wait(FIRST_PATIENCE_S)
            sample = self._samples.get(pool)
        return sample

    def _begin(self, pool: str, now_s: float) -> threading.Event | None:
        """Have a sample taken, unless that is being done. Called under the lock."""
        if pool in self._under_way:
            return self._under_way[pool]
        if self._closed or now_s < self._troubled_until_s:
            return None
        done = self._under_way[pool] = threading.Event()
        if self._sampler is None:
            self._sampler = ThreadPoolExecutor(1, "forebay-estimates")
        self._sampler.submit(self._refresh, pool)
        return done

    def _refresh(self, pool: str) -> None:
        began_s = self._clock.monotonic_s()
        with self._lock:
            known = self._samples.get(pool)
            asked_of = list(self._asked_of)
        try:
            with self._database.read() as tx:
                sample = take_sample(tx, pool, began_s, asked_of)
            took_s = self._clock.monotonic_s() - began_s
            sample.good_until_s = began_s + took_s + max(SAMPLE_EVERY_S, COST_FACTOR * took_s)
        except ForebayError:
            sample = None
        with self._lock:
            if sample is not None:
                self._samples[pool] = sample
            else:
                self._troubled_until_s = began_s + AFTER_TROUBLE_S
                if known is not None:
                    self._samples.pop(pool, None)
            done = self._under_way.pop(pool, None)
        if done is not None:
            done.set()


def take_sample(tx: Transaction, pool: str, now_s: float, also: Iterable[str] = ()) -> Sample:
    """Read a pool. ``also`` names versions whose cost is wanted though none of their jobs wait."""
    sessions = processes(tx.sessions.live(worker_pool(pool)))
    training = is_training_pool(pool)
    loads = tx.backlog.load(pool, MAX_COUNTED)
    costs = tx.latency.costs(sorted({load.version_id for load in loads} | {*also} - {""}))
    per_job, load_s = costs_of(costs)
    return Sample(
        taken_at=tx.now(),
        taken_s=now_s,
        good_until_s=now_s,
        sessions=sessions,
        loads=loads,
        costs=per_job,
        usual_s=GUESSED_S_PER_TRAINING if training else usual_cost(sessions),
        load_s=load_s,
        loaded=frozenset(
            version_id
            for session in sessions
            for version_id in WorkerCounts.from_json(session.stats).loaded
        ),
    )


def costs_of(costs: Sequence[VersionCost]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds per job and per load of each version, as last measured on any device."""
    per_job: dict[str, float] = {}
    load_s: dict[str, float] = {}
    for cost in sorted(costs, key=lambda cost: cost.updated_at):
        load_s[cost.version_id] = cost.load_s
        seconds = cost.path_s_per_job or cost.device_s_per_job
        if seconds > 0:
            per_job[cost.version_id] = min(seconds, LONGEST_S_PER_JOB)
    return per_job, load_s


def usual_cost(sessions: Sequence[Session]) -> float:
    """Seconds per job of one worker of the pool, by what all finished lately."""
    jobs_per_s = sum(session.jobs_per_s for session in sessions)
    if jobs_per_s * GUESSED_S_PER_JOB < 0.01:  # next to nothing was done: that says nothing
        return GUESSED_S_PER_JOB
    return len(sessions) / jobs_per_s


def wait_of(
    waiting: Iterable[Waiting], tenant: str, priority: int, *, now: Millis, workers: int
) -> float:
    """Seconds until a job of this tenant and priority, submitted now, starts."""
    bulk = is_bulk(priority)
    own = passing = everything = 0.0
    others: defaultdict[str, float] = defaultdict(float)
    for one in waiting:
        everything += one.seconds
        if is_bulk(one.priority) != bulk:
            passing += one.seconds if bulk else 0.0  # bulk lets online work pass, never the reverse
        elif one.tenant == tenant:
            own += one.seconds * share_ahead(one, priority, now)
        else:
            others[one.tenant] += one.seconds
    ahead = passing + own + sum(min(seconds, own) for seconds in others.values())
    return max(ahead, min(everything, IN_FLIGHT_S * workers)) / max(1, workers)


def share_ahead(one: Waiting, priority: int, now: Millis) -> float:
    """How much of this goes before a job of its tenant submitted now, if it came evenly."""
    if one.priority == priority:
        return 1.0
    last_ahead = now - AGEING_MS_PER_PRIORITY * (priority - one.priority)
    if one.oldest_at >= now:
        return 1.0 if last_ahead >= now else 0.0
    return min(1.0, max(0.0, (last_ahead - one.oldest_at) / (now - one.oldest_at)))
