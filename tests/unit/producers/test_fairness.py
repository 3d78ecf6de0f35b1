"""Turns and service: nobody starves, device time is shared evenly, the light go first.

In numbers: a window, three lanes and a worker that empties the high one first. No database.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.window.fairness import (
    EMPTY,
    LEAD_JOBS,
    RESERVE_JOBS,
    UNKNOWN_S,
    Ledger,
    Scale,
    costs_of,
    entered,
    observe,
    scale_of,
    window_target,
)
from storage.queue.lanes import Lane
from tests.support.window_pool import WINDOW, PoolInNumbers

MANY = 1_000_000


def test_one_tenant_fills_the_window_in_the_ordinary_lane():
    pool = PoolInNumbers()
    pool.backlog["a"] = 100_000
    picks = pool.look()
    assert len(picks) == WINDOW and {pick.lane for pick in picks} == {Lane.NORMAL}
    assert pool.look() == []


def test_a_single_job_beside_a_million_enters_at_once_and_goes_first():
    pool = PoolInNumbers()
    pool.backlog["a"] = MANY
    pool.look()
    pool.backlog["b"] = 1
    (pick,) = pool.look()
    assert pick.head.tenant == "b" and pick.lane is Lane.HIGH
    pool.work(1)
    assert pool.served == {"b": 1}


@settings(max_examples=25, deadline=None)
@given(cost=st.sampled_from([0.01, 1.0, 30.0, 1000.0]), before=st.integers(0, 40))
def test_a_single_job_beside_a_million_waits_for_one_job_whatever_it_costs(cost, before):
    """The starvation bound in numbers: in the window at the next look, and next to be served."""
    pool = PoolInNumbers()
    pool.backlog["a"], pool.cost["b"] = MANY, cost
    for _ in range(before):
        pool.look()
        pool.work(100)
    pool.look()
    pool.backlog["b"] = 1
    assert [pick.head.tenant for pick in pool.look()].count("b") == 1
    pool.work(1)
    assert pool.served["b"] == 1


def test_an_empty_backlog_picks_nothing_and_forgets():
    pool = PoolInNumbers()
    assert pool.look() == []
    assert pool.books.online == pool.books.bulk == EMPTY


@settings(max_examples=25, deadline=None)
@given(
    costs=st.lists(st.floats(0.05, 20), min_size=2, max_size=8),
    rounds=st.integers(40, 70),
    target=st.sampled_from([256, 1024]),
)
def test_tenants_who_always_want_work_share_device_time_and_not_jobs(costs, rounds, target):
    """The bound: a window's time, which one may hold more of, and twice the dearest job."""
    pool = PoolInNumbers(target)
    for tenant, cost in enumerate(costs):
        pool.backlog[f"t{tenant}"], pool.cost[f"t{tenant}"] = 10**9, cost
    for _ in range(rounds):
        pool.look()
        pool.work_for(target * min(costs) / 3)
    shares = [pool.served_s.get(f"t{tenant}", 0.0) for tenant in range(len(costs))]
    assert max(shares) - min(shares) <= target * max(costs)
    turns = pool.books.online.turns
    assert max(turns.values()) - min(turns.values()) <= 2 * max(costs) + LEAD_JOBS * max(costs)


@settings(max_examples=25, deadline=None)
@given(
    lead=st.integers(0, 40),
    capacities=st.lists(st.integers(20, 400), min_size=50, max_size=70),
    priority=st.sampled_from([3, 5, 9]),
)
def test_whoever_comes_later_or_shouts_louder_starves_nobody(lead, capacities, priority):
    """A has a backlog first; B comes with as much and maybe the highest priority."""
    pool = PoolInNumbers()
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
    assert a >= (a + b) / 2 - 2 * WINDOW
    assert b >= (a + b) / 2 - 2 * WINDOW


@settings(max_examples=25, deadline=None)
@given(capacities=st.lists(st.integers(1, 300), min_size=40, max_size=60))
def test_jobs_already_in_the_window_are_not_starved_by_newcomers(capacities):
    """A's last jobs stand in the ordinary lane while B keeps coming: A's get out all the same."""
    pool = PoolInNumbers(1024)
    pool.backlog["a"] = 1024
    pool.look()
    pool.backlog["b"] = 10**9
    for capacity in capacities:
        pool.look()
        pool.work(capacity)
        if pool.served["a"] < 1024:
            assert pool.served["b"] <= pool.served["a"] + LEAD_JOBS + RESERVE_JOBS + 1024 // 4


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
    pool = PoolInNumbers()
    pool.backlog["heavy"] = 10**9
    for _ in range(10):
        pool.look()
        pool.work(capacity)
    waiting: dict[str, int] = {}
    for step in range(60):
        for n in range(light):
            name = f"l{n}"
            if name not in waiting and seed.random() < 1 / (every + light):
                pool.backlog[name] += 1
                waiting[name] = step
        pool.look()
        pool.work(capacity)
        for name in [n for n in waiting if pool.served[n] == pool.taken[n] + pool.backlog[n]]:
            assert step - waiting.pop(name) <= 2
    assert pool.served["heavy"] > 0


def ledger(window=None, **counts: float) -> Ledger:
    return Ledger(turns=counts, service=counts, window=window or {})


def unit(_: str) -> float:
    return 1.0


def test_absence_earns_nothing_and_sheds_no_lead():
    seen = observe(ledger(a=1000, b=900), {}, {"a", "c"}, unit, 64)
    assert seen.turns == seen.service == {"a": 1000, "c": 1000}  # c begins where a is
    gone = observe(ledger(a=100, b=2000), {}, {"a"}, unit, 64)
    assert gone.service == {"a": 100, "b": 2000}  # b's lead is kept while it is away
    back = observe(gone, {}, {"a", "b"}, unit, 10_000)
    assert back.turns == {"a": 100, "b": 2000}


def test_one_that_wants_little_falls_behind_only_so_far():
    seen = observe(ledger(a=10_000, b=0), {}, {"a", "b"}, unit, 100)
    assert seen.turns == {"a": 10_000, "b": 9_900}


def test_a_dear_jobs_turn_is_not_forgiven_by_the_lag():
    assert Scale(usual_s=0.001, dearest_s=60.0, target=256).lag_s == 120.0
    assert Scale(usual_s=1.0, dearest_s=2.0, target=8192).lag_s == 2048.0


def test_what_leaves_the_window_was_served_and_what_others_added_was_a_turn():
    cost = costs_of({"x": 2.0, "y": 0.5})
    before = ledger({("a", "x"): 50, ("a", "y"): 4}, a=0.0, b=0.0)
    seen = observe(before, {("a", "x"): 20, ("b", "y"): 7}, set(), cost, 64)
    assert seen.service == {"a": 30 * 2.0 + 4 * 0.5, "b": 0}
    assert seen.turns == {"a": 0, "b": 7 * 0.5}


def test_what_entered_by_itself_is_a_turn_and_later_service():
    put = entered(EMPTY, {("a", "x"): 3}, costs_of({"x": 2.0}))
    assert put.turns == {"a": 6.0} and put.window == {("a", "x"): 3}
    assert observe(put, {}, {"a"}, costs_of({"x": 2.0}), 64).service == {"a": 6.0}


def test_a_version_never_measured_costs_what_others_do():
    assert costs_of({"a": 1.0, "b": 3.0, "c": 90.0})("new") == 3.0
    assert costs_of({})("new") == UNKNOWN_S
    assert costs_of({"free": 0.0})("free") > 0


def test_the_scale_is_that_of_the_jobs_in_the_window():
    cost = costs_of({"x": 1.0, "y": 9.0})
    scale = scale_of({("a", "x"): 3, ("b", "y"): 1}, {"x", "y"}, cost, 100)
    assert (scale.usual_s, scale.dearest_s, scale.window_s) == (3.0, 9.0, 300.0)
    assert scale_of({}, {"x", "y"}, cost, 100).usual_s == 5.0
    assert scale_of({}, set(), cost, 100).usual_s == pytest.approx(UNKNOWN_S)


def test_the_window_follows_what_the_pool_finishes():
    assert window_target(0, window_s=2, least=256, most=8192) == 256
    assert window_target(1000, window_s=2, least=256, most=8192) == 2000
    assert window_target(10**6, window_s=2, least=256, most=8192) == 8192
