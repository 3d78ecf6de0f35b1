"""What a process counts about itself: nothing lost, nothing unbounded, nothing slow to read."""

from __future__ import annotations

import json
import threading

import pytest

from storage.records.counts import STAGES, STATES, VersionCounts, WorkerCounts
from workers.inference.meters import MAX_TENANTS, MAX_VERSIONS, Meters

HUGE = 10**12 + 1


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def monotonic_s(self) -> float:
        return self.at_s

    def now_ms(self) -> int:
        return int(self.at_s * 1000)


def told(meters: Meters) -> WorkerCounts:
    """The document as the other side reads it."""
    return WorkerCounts.from_json(json.loads(json.dumps(meters.snapshot())))


def test_everything_told_is_in_the_document():
    clock = Hands()
    meters = Meters(clock)
    meters.batch("v", 5, 8, False, 0.25)
    meters.batch("v", 8, 8, True, 0.5)
    meters.waited("v", 0.004, 40.0)
    meters.waited("v", 9999.0, bulk=True)
    meters.stage("v", "claim", 5, 0.125)
    meters.stage("v", "claim", 3, 0.125)
    meters.settled("v", "acme", "succeeded", 4)
    meters.settled("v", "acme", "failed", 1)
    meters.expired("v", "acme", 2)
    meters.bisected("v")
    meters.out_of_memory("v")
    meters.loaded("v", 1.5, 4096)
    meters.loaded("w", 0.5)
    meters.unloaded("w")
    meters.busy(3.0)
    clock.at_s += 4.0
    seen = told(meters)
    version = seen.versions["v"]
    online, bulk = version.classes["online"], version.classes["bulk"]
    assert (online.rows.total, online.slots, online.device_s) == (5, 8, 0.25)
    assert (bulk.rows.total, bulk.slots, bulk.device_s) == (8, 8, 0.5)
    assert online.age_s.count == 2 and online.age_s.total == pytest.approx(40.004)
    assert bulk.age_s.count == 1
    assert online.fill.total == pytest.approx(5 / 8)
    claim = version.stages["claim"]
    assert (claim.batches, claim.jobs, claim.seconds) == (2, 8, 0.25)
    assert version.settled == {"succeeded": 4, "failed": 1}
    assert seen.tenants["acme"].settled == {"succeeded": 4, "failed": 1}
    assert (version.expired, seen.tenants["acme"].expired) == (2, 2)
    assert (version.bisections, version.out_of_memory) == (1, 1)
    assert (version.loads, version.load_s) == (1, 1.5)
    assert seen.versions["w"].evictions == 1
    assert seen.loaded == {"v": 4096}
    assert (seen.uptime_s, seen.busy_s, seen.busy_ratio) == (4.0, 3.0, 0.75)


def test_the_busy_share_is_of_the_time_since_the_last_document():
    clock = Hands()
    meters = Meters(clock)
    meters.busy(5.0)
    clock.at_s += 5.0
    assert told(meters).busy_ratio == 1.0
    clock.at_s += 0.01
    assert told(meters).busy_ratio == 1.0  # too soon for another verdict
    clock.at_s += 10.0
    assert told(meters).busy_ratio == 0.0


def test_the_document_stays_below_64_kib_whatever_happens():
    meters = Meters(Hands())
    for place in range(300):
        name, tenant = f"0192f0c4-0000-7000-8000-{place:012d}", f"t{place:062d}"
        for bulk in (False, True):
            for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, HUGE):
                meters.batch(name, rows, rows * 2, bulk, 1e9 + 0.123457)
            meters.waited(name, *(10.0**power for power in range(-3, 6)), bulk=bulk)
        for stage in STAGES:
            meters.stage(name, stage, HUGE, 1e9 + 0.123457)
        for state in STATES:
            meters.settled(name, tenant, state, HUGE)
        meters.loaded(name, 1e9, HUGE)
    text = json.dumps(meters.snapshot())
    assert len(text) < 64 * 1024
    assert len(told(meters).versions) == MAX_VERSIONS
    assert len(told(meters).tenants) == MAX_TENANTS


def test_who_counts_most_has_a_name_and_nothing_is_lost_with_the_others():
    clock = Hands()
    meters = Meters(clock)
    small = [f"small-{place}" for place in range(MAX_TENANTS + 40)]
    sent = 0
    for _ in range(20):
        for tenant in small:
            meters.settled("v", tenant, "succeeded", 1)
        meters.settled("v", "heavy", "succeeded", 500)
        sent += len(small) + 500
        clock.at_s += 5.0
        seen = told(meters)
        counted = [*seen.tenants.values(), seen.other_tenants]
        assert sum(one.settled.get("succeeded", 0) for one in counted) == sent
    assert "heavy" in seen.tenants, "the heaviest came last and never got its name"
    assert len(seen.tenants) == MAX_TENANTS


def test_the_sum_of_the_others_never_falls():
    clock = Hands()
    meters = Meters(clock)
    last = 0
    for round_ in range(60):
        for place in range(MAX_TENANTS + 5):
            weight = 1 + 50 * ((place + round_ // 10) % 7)
            meters.settled("v", f"t{place}", "succeeded", weight)
        clock.at_s += 5.0
        others = told(meters).other_tenants.settled.get("succeeded", 0)
        assert others >= last
        last = others


def test_a_million_names_do_not_fill_the_memory():
    clock = Hands()
    meters = Meters(clock)
    for place in range(20_000):
        meters.settled(f"v{place}", f"t{place}", "succeeded", 1)
    assert len(meters._tenants._weights) < 2_000
    assert told(meters).all_versions().settled == {"succeeded": 20_000}


def test_threads_count_together():
    meters = Meters(Hands())

    def work() -> None:
        for _ in range(2_000):
            meters.batch("v", 2, 2, False, 0.001)
            meters.settled("v", "acme", "succeeded", 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    seen = told(meters)
    assert seen.versions["v"].classes["online"].rows.count == 8_000
    assert seen.tenants["acme"].settled == {"succeeded": 16_000}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "x",
        {"versions": 7, "tenants": [1], "busy_s": "much"},
        {"versions": {"v": None}, "busy_ratio": float("nan"), "uptime_s": -1},
        {"versions": {"v": {"classes": {"online": {"rows": [1, 2]}}, "stages": {"claim": [1]}}}},
        {"versions": {"v": {"settled": {"succeeded": True, "unheard": 3}, "expired": 1e400}}},
        {"loaded": {"v": -5}, "versions": {"v": {"classes": {"night": {}}, "loads": [3]}}},
    ],
)
def test_a_document_that_is_not_understood_reads_as_nothing(document):
    seen = WorkerCounts.from_json(document)
    assert seen.busy_s == 0 and seen.busy_ratio == 0 and seen.uptime_s == 0
    whole = seen.all_versions()
    assert sum(counts.rows.count for counts in whole.classes.values()) == 0
    assert whole.settled.get("succeeded", 0) == 0 and "unheard" not in whole.settled
    assert all(count == 0 for count in seen.loaded.values())


def test_a_version_reads_back_as_it_was():
    meters = Meters(Hands())
    meters.batch("v", 3, 4, True, 0.5)
    meters.stage("v", "store", 3, 0.25)
    meters.settled("v", "acme", "expired", 3)
    counts = told(meters).versions["v"]
    assert VersionCounts.from_json(counts.to_json()) == counts
