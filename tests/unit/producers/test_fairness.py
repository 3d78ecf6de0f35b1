"""The relay's choice: nobody starves, shares are even, the light go first. No database here."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.fairness import EMPTY, EXPRESS_LEAD, RESERVE, Ledger, choose, observe, window_target
from storage.queue.lanes import Lane
from storage.records.jobs import BacklogHead

TARGET = 256


def heads(tenant: str, count: int, *, start: int = 0, priority: int = 5) -> list[BacklogHead]:
    return [
        BacklogHead(f"{tenant}-{n}", tenant, "p", "v", priority, n, 0)
        for n in range(start, start + count)
    ]


class Pool:
    """A pool with backlogs, two lanes and a worker that empties the high one first."""

    def __init__(self, target: int = TARGET) -> None:
        self.target = target
        self.ledger = EMPTY
        self.backlog: dict[str, int] = {}
        self.taken: Counter[str] = Counter()
        self.lanes: tuple[deque[str], deque[str]] = (deque(), deque())  # high, low
        self.served: Counter[str] = Counter()
        self.priority: dict[str, int] = {}

    @property
    def window(self) -> Counter[str]:
        return Counter(self.lanes[0]) + Counter(self.lanes[1])

    def look(self) -> list:
        wanting = [tenant for tenant, count in self.backlog.items() if count]
        window = self.window
        ledger = observe(self.ledger, window, wanting, lag=self.target // 4)
        depth = max(self.target - window.total(), RESERVE)
        offered = {
            tenant: heads(
                tenant,
                min(depth, self.backlog[tenant]),
                start=self.taken[tenant],
                priority=self.priority.get(tenant, 5),
            )
            for tenant in wanting
        }
        choice = choose(ledger, offered, target=self.target, overfill=self.target)
        self.ledger = choice.ledger
        for pick in choice.picks:
            tenant = pick.head.tenant
            assert pick.head.id == f"{tenant}-{self.taken[tenant]}"  # its own order is kept
            self.backlog[tenant] -= 1
            self.taken[tenant] += 1
            self.lanes[0 if pick.lane is Lane.HIGH else 1].append(tenant)
        return choice.picks

    def work(self, jobs: int) -> None:
        for _ in range(jobs):
            lane = self.lanes[0] or self.lanes[1]
            if not lane:
                return
            self.served[lane.popleft()] += 1


def test_one_tenant_fills_the_window_in_the_ordinary_lane():
    pool = Pool()
    pool.backlog["a"] = 100_000
    picks = pool.look()
    assert len(picks) == TARGET and not any(pick.lane is Lane.HIGH for pick in picks)
    assert pool.look() == []


def test_a_single_job_beside_a_hundred_thousand_enters_at_once_and_goes_first():
    pool = Pool()
    pool.backlog["a"] = 100_000
    pool.look()
    pool.backlog["b"] = 1
    (pick,) = pool.look()
    assert pick.head.tenant == "b" and pick.lane is Lane.HIGH
    pool.work(1)
    assert pool.served == {"b": 1}


def test_high_priority_travels_high():
    pool = Pool()
    pool.backlog["a"], pool.priority["a"] = 3, 8
    assert all(pick.lane is Lane.HIGH for pick in pool.look())


def test_an_empty_backlog_picks_nothing_and_forgets():
    pool = Pool()
    assert pool.look() == []
    assert pool.ledger == EMPTY


@settings(max_examples=25, deadline=None)
@given(
    tenants=st.integers(2, 9),
    capacities=st.lists(st.integers(0, 400), min_size=30, max_size=60),
    target=st.sampled_from([256, 1024]),
)
def test_tenants_who_always_want_work_are_served_alike(tenants, capacities, target):
    pool = Pool(target)
    for tenant in range(tenants):
        pool.backlog[f"t{tenant}"] = 10**9
    for capacity in capacities:
        pool.look()
        pool.work(capacity)
    shares = [pool.served[f"t{tenant}"] for tenant in range(tenants)]
    assert max(shares) - min(shares) <= target


@settings(max_examples=25, deadline=None)
@given(
    lead=st.integers(0, 40),
    capacities=st.lists(st.integers(20, 400), min_size=50, max_size=70),
    priority=st.sampled_from([0, 5, 9]),
)
def test_whoever_comes_later_or_shouts_louder_starves_nobody(lead, capacities, priority):
    """A has a backlog first; B comes with as much and maybe the highest priority."""
    pool = Pool()
    pool.backlog["a"] = 10**9
    for capacity in capacities[:lead]:
        pool.look()
        pool.work(capacity)
    before = pool.served["a"]
    pool.backlog["b"], pool.priority["b"] = 10**9, priority
    for capacity in capacities[lead:]:
        pool.look()
        pool.work(capacity)
    a, b = pool.served["a"] - before, pool.served["b"]
    assert a >= (a + b) / 2 - 2 * TARGET
    assert b >= (a + b) / 2 - 2 * TARGET


@settings(max_examples=25, deadline=None)
@given(capacities=st.lists(st.integers(1, 300), min_size=40, max_size=60))
def test_jobs_already_in_the_window_are_not_starved_by_newcomers(capacities):
    """A's last jobs stand in the low lane while B keeps coming: A's get out all the same."""
    pool = Pool(1024)
    pool.backlog["a"] = 1024
    pool.look()
    pool.backlog["b"] = 10**9
    for capacity in capacities:
        pool.look()
        pool.work(capacity)
        if pool.served["a"] < 1024:
            assert pool.served["b"] <= pool.served["a"] + EXPRESS_LEAD + RESERVE + 1024 // 4


@settings(max_examples=20, deadline=None)
@given(
    light=st.integers(1, 20),
    every=st.integers(1, 5),
    capacity=st.integers(40, 300),
    seed=st.randoms(use_true_random=False),
)
def test_light_tenants_wait_a_few_looks_however_deep_the_heavy_backlog_is(
    light, every, capacity, seed
):
    pool = Pool()
    pool.backlog["heavy"] = 10**9
    for _ in range(10):
        pool.look()
        pool.work(capacity)
    waiting: dict[str, int] = {}
    for step in range(60):
        for n in range(light):
            name = f"l{n}"
            if name not in waiting and seed.random() < 1 / (every + light):
                pool.backlog[name] = pool.backlog.get(name, 0) + 1
                waiting[name] = step
        pool.look()
        pool.work(capacity)
        for name in [n for n in waiting if pool.served[n] == pool.taken[n] + pool.backlog[n]]:
            assert step - waiting.pop(name) <= 2
    assert pool.served["heavy"] > 0


def ledger(window=None, **counts: int) -> Ledger:
    return Ledger(turns=counts, service=counts, window=window or {})


def test_absence_earns_nothing_and_sheds_no_lead():
    seen = observe(ledger(a=1000, b=900), {}, ["a", "c"], lag=64)
    assert seen.turns == seen.service == {"a": 1000, "c": 1000}  # c begins where a is
    gone = observe(ledger(a=100, b=2000), {}, ["a"], lag=64)
    assert gone.service == {"a": 100, "b": 2000}  # b's lead is kept while it is away
    back = observe(gone, {}, ["a", "b"], lag=10_000)
    assert back.turns == {"a": 100, "b": 2000}


def test_one_that_wants_little_falls_behind_only_so_far():
    assert observe(ledger(a=10_000, b=0), {}, ["a", "b"], lag=100).turns == {
        "a": 10_000,
        "b": 9_900,
    }


def test_what_leaves_the_window_was_served_and_what_others_added_was_a_turn():
    seen = observe(ledger({"a": 50, "b": 0}, a=0, b=0), {"a": 20, "b": 7}, [], lag=64)
    assert seen.service == {"a": 30, "b": 0} and seen.turns == {"a": 0, "b": 7}


def test_the_window_follows_what_the_pool_finishes():
    assert window_target(0, window_s=2, least=256, most=8192) == 256
    assert window_target(1000, window_s=2, least=256, most=8192) == 2000
    assert window_target(10**6, window_s=2, least=256, most=8192) == 8192
