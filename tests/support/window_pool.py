"""A pool in numbers: backlogs, the ready window's three lanes and a worker, without a database."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from producers.window import choice, fairness
from producers.window.choice import Books, Deadlines, Pick
from storage.queue.lanes import Lane
from storage.records.jobs import BULK_PRIORITY, BacklogHead, backlog_rank

WINDOW = 256


class PoolInNumbers:
    """Each key of ``backlog`` is a tenant with one version; ``cost`` is its device time."""

    def __init__(self, target: int = WINDOW) -> None:
        self.target = target
        self.books = Books()
        self.now_ms = 10_000_000
        self.backlog: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.cost: dict[str, float] = {}
        self.priority: dict[str, int] = {}
        self.created_ms: dict[str, int] = {}  # of a tenant's jobs; now where nothing is said
        self.expires_ms: Callable[[str, int], int] = lambda tenant, n: 10**15
        self.lanes: dict[Lane, deque[str]] = {lane: deque() for lane in Lane}
        self.served: Counter[str] = Counter()
        self.served_s: dict[str, float] = {}
        self.fraction_s = 0.0  # work done on the job at the front

    def seconds(self, version: str) -> float:
        return self.cost.get(version.removeprefix("v-"), 1.0)

    def is_bulk(self, tenant: str) -> bool:
        return self.priority.get(tenant, 5) <= BULK_PRIORITY

    @property
    def window(self) -> Counter[str]:
        return sum((Counter(lane) for lane in self.lanes.values()), Counter())

    def heads(self, tenant: str, count: int) -> list[BacklogHead]:
        first, priority = self.taken[tenant], self.priority.get(tenant, 5)
        rank = backlog_rank(self.created_ms.get(tenant, self.now_ms), priority)
        return [
            BacklogHead(
                *(f"{tenant}-{n}", tenant, "p", f"v-{tenant}", priority, rank + n),
                self.expires_ms(tenant, n),
            )
            for n in range(first, first + count)
        ]

    def look(self) -> list[Pick]:
        wanting = {tenant for tenant, count in self.backlog.items() if count}
        window = {(tenant, f"v-{tenant}"): count for tenant, count in self.window.items()}
        of_bulk = {place: n for place, n in window.items() if self.is_bulk(place[0])}
        online = {place: n for place, n in window.items() if place not in of_bulk}
        versions = {version for _, version in window} | {f"v-{tenant}" for tenant in wanting}
        scale = fairness.scale_of(window, versions, self.seconds, self.target)
        bulk_wanting = {tenant for tenant in wanting if self.is_bulk(tenant)}
        self.books = Books(
            fairness.observe(
                self.books.online, online, wanting - bulk_wanting, self.seconds, scale.lag_s
            ),
            fairness.observe(self.books.bulk, of_bulk, bulk_wanting, self.seconds, scale.lag_s),
            self.books.owed_s,
        )
        depth = max(self.target - sum(window.values()), fairness.RESERVE_JOBS)
        offered = {t: self.heads(t, min(depth, self.backlog[t])) for t in sorted(wanting)}
        chosen = choice.choose(
            self.books,
            {tenant: jobs for tenant, jobs in offered.items() if tenant not in bulk_wanting},
            {tenant: jobs for tenant, jobs in offered.items() if tenant in bulk_wanting},
            scale=scale,
            cost=self.seconds,
            overfill=self.target,
            soon=Deadlines(self.now_ms, 4_000),
        )
        places: Counter[tuple[str, str, bool]] = Counter()
        for pick in chosen.picks:
            tenant = pick.head.tenant
            self.backlog[tenant] -= 1
            self.taken[tenant] += 1
            self.lanes[pick.lane].append(tenant)
            places[tenant, pick.head.version_id, self.is_bulk(tenant)] += 1
        self.books = Books(self.books.online, self.books.bulk, chosen.owed_s).entered(
            places, self.seconds
        )
        return list(chosen.picks)

    def work(self, jobs: int) -> None:
        """A worker does so many jobs, the high lane first and bulk last."""
        for _ in range(jobs):
            if not self._serve_one():
                return

    def work_for(self, seconds: float) -> None:
        """A worker works so long; a job begun is ended the next time."""
        self.fraction_s += seconds
        while (lane := self._first_lane()) and self.fraction_s >= self.seconds(lane[0]):
            self.fraction_s -= self.seconds(lane[0])
            self._serve_one()
        if not self._first_lane():
            self.fraction_s = 0.0

    def _first_lane(self) -> deque[str] | None:
        return next((lane for lane in self.lanes.values() if lane), None)

    def _serve_one(self) -> bool:
        lane = self._first_lane()
        if not lane:
            return False
        tenant = lane.popleft()
        self.served[tenant] += 1
        self.served_s[tenant] = self.served_s.get(tenant, 0.0) + self.seconds(tenant)
        return True
