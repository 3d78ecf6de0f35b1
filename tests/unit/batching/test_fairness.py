"""Tenants share the device by what they take of it, whatever they send and however old it is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.batching.candidates import always, candidate
from workers.inference.batching import LatencyBook, Limits, Window
from workers.inference.batching.choice import MOST_SWITCH_S, RANK_SPAN_MS
from workers.inference.batching.debts import MOST_LAG_S, Debts

SIZES = (1, 2, 4, 8, 16)


class Device:
    """Runs passes; every tenant keeps so many jobs waiting."""

    def __init__(self, service_s: dict[str, tuple[float, float]]) -> None:
        self.book = LatencyBook()
        self.window = Window(self.book, limits=lambda version_id: Limits(SIZES, None, 10.0))
        self.service_s = service_s
        self.now_s = 0.0
        self.served_s: dict[str, float] = {}
        self.waiting: dict[str, int] = {}
        self.order: list[str] = []

    def run(self) -> None:
        picked = self.window.pick(self.now_s, always)
        assert picked is not None
        fixed_s, per_cost_s = self.service_s[picked.version_id]
        cost = sum(one.cost for one in picked.candidates)
        seconds = fixed_s + per_cost_s * cost * picked.bucket / picked.rows
        for one in picked.candidates:
            share = seconds * one.cost / cost
            self.served_s[one.tenant] = self.served_s.get(one.tenant, 0.0) + share
            self.waiting[one.tenant] -= 1
        self.window.charge(picked, seconds)
        self.book.observe(picked.version_id, picked.shape, picked.bucket, seconds)
        self.now_s += seconds
        self.order.append(picked.version_id)

    def keep_waiting(
        self, tenant: str, jobs: int, *, rows: int = 1, version: str = "v", age_ms: int = 0
    ) -> None:
        missing = jobs - self.waiting.get(tenant, 0)
        self.waiting[tenant] = jobs
        rank_ms = int(self.now_s * 1000) + age_ms
        self.window.add(
            [candidate(version, tenant=tenant, rank_ms=rank_ms, rows=rows) for _ in range(missing)],
            self.now_s,
        )


@settings(print_blob=True, max_examples=25, deadline=None)
@given(
    rows=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    passes=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    age_ms=st.tuples(st.integers(-(10**7), 0), st.integers(-(10**7), 0)),
    other_version=st.booleans(),
)
def test_two_backlogged_tenants_get_the_same_device_time(
    rows: tuple[int, int],
    passes: tuple[int, int],
    age_ms: tuple[int, int],
    other_version: bool,
) -> None:
    """As long as nobody waits so long that patience ends: what waits takes less than that."""
    device = Device({"v": (0.01, 0.01), "w": (0.2, 0.03)})
    versions = ("v", "w" if other_version else "v")
    longest_s = 0.2 + 0.03 * SIZES[-1]
    while device.now_s < 60:
        for index, tenant in enumerate("xy"):
            device.keep_waiting(
                tenant,
                passes[index] * max(1, SIZES[-1] // rows[index]),
                rows=rows[index],
                version=versions[index],
                age_ms=age_ms[index],
            )
        device.run()
    apart_s = abs(device.served_s["x"] - device.served_s["y"])
    assert apart_s <= RANK_SPAN_MS / 1000 + MOST_SWITCH_S + 2 * longest_s


@pytest.mark.parametrize("rows", [1, 2])
def test_one_full_pass_is_shared_by_what_each_takes_of_it(rows: int) -> None:
    device = Device({"v": (0.01, 0.01)})
    for tenant, each in (("x", 1), ("y", rows)):
        jobs = [candidate(tenant=tenant, rows=each, rank_ms=-ord(tenant)) for _ in range(30)]
        device.window.add(jobs, 0.0)
    picked = device.window.pick(0.0, always)
    assert picked is not None
    of_x = sum(one.rows for one in picked.candidates if one.tenant == "x")
    assert (picked.rows, of_x) == (16, 8)


def test_a_tenant_that_was_away_earns_nothing_by_it() -> None:
    device = Device({"v": (0.01, 0.01)})
    while device.now_s < 20:
        device.keep_waiting("busy", 40)
        device.run()
    before_s = device.served_s["busy"]
    while device.now_s < 24:
        device.keep_waiting("busy", 40)
        device.keep_waiting("back", 40)
        device.run()
    assert device.served_s["busy"] - before_s == pytest.approx(2, abs=0.3)


def test_bulk_work_is_not_held_against_a_tenants_online_work() -> None:
    ready = Device({}).window
    ready.add([candidate("w", tenant="y", rank_ms=1, companions=1)], 0.0)
    ready.add([candidate("v", tenant="x", bulk=True)], 0.0)
    bulk = ready.pick(0.0, lambda version_id: version_id == "v")
    assert bulk is not None
    ready.charge(bulk, 5.0)
    ready.add([candidate("w", tenant="x", rank_ms=0, companions=1)], 0.0)
    first = ready.pick(0.0, always)
    assert first is not None
    assert first.candidates[0].tenant == "x"


def test_a_light_tenant_is_in_the_next_pass_of_its_version() -> None:
    device = Device({"v": (0.01, 0.01)})
    device.keep_waiting("heavy", 1000, age_ms=-(10**6))
    for _ in range(5):
        device.run()
    device.keep_waiting("light", 1)
    device.run()
    assert device.served_s["light"] > 0


def test_a_debt_is_not_held_against_anybody_for_ever() -> None:
    debts = Debts()
    debts.arrive("x")
    debts.arrive("y")
    debts.charge(1000.0, {"x": 1.0})
    debts.survey({"x", "y"})
    assert debts.ahead_s("x") == MOST_LAG_S
    assert debts.ahead_s("y") == 0


def test_what_a_pass_really_took_is_charged_not_what_was_expected() -> None:
    device = Device({"v": (0.1, 0.0)})
    for tenant in ("slow", "quick"):
        device.window.add([candidate(tenant=tenant, companions=1) for _ in range(9)], 0.0)
    order = []
    for _ in range(9):
        picked = device.window.pick(0.0, always)
        assert picked is not None
        order.append(picked.candidates[0].tenant)
        device.window.charge(picked, 4.0 if order[-1] == "slow" else 1.0)
    assert order.count("quick") in (7, 8)


def test_tenants_that_are_gone_are_forgotten() -> None:
    debts = Debts()
    for number in range(5000):
        debts.arrive(f"t{number}")
        debts.charge(0.001, {f"t{number}": 1.0})
        debts.survey({f"t{number}"})
    assert len(debts.levels_s) < 1000


def test_a_costly_switch_is_not_paid_for_every_pass_and_starves_nobody() -> None:
    device = Device({"v": (0.01, 0.001), "w": (0.01, 0.001)})
    for version in "vw":
        device.book.observe_switch(version, 0.2)
    while device.now_s < 8:
        device.keep_waiting("x", 40, version="v")
        device.keep_waiting("y", 40, version="w")
        device.run()
    switches = sum(a != b for a, b in itertools.pairwise(device.order))
    assert switches < len(device.order) / 5
    assert device.served_s["x"] == pytest.approx(device.served_s["y"], rel=0.15)


def test_without_a_measured_switch_the_older_head_goes_first() -> None:
    device = Device({"v": (0.01, 0.001), "w": (0.01, 0.001)})
    device.keep_waiting("x", 1, version="v", age_ms=20)
    device.keep_waiting("y", 1, version="w", age_ms=10)
    device.run()
    device.run()
    assert device.order == ["w", "v"]
