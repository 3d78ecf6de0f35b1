"""Whoever cannot make it is told at once; whoever can is not made late by the rest."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.jobs import ClaimedJob
from tests.unit.batching.candidates import always, candidate, limits, taught, window
from workers.inference.batching import latest_start_s


def claimed(*, expires_at: int, run_deadline_at: int, claimed_at: int) -> ClaimedJob:
    return ClaimedJob(
        id="00000000-0000-7000-8000-000000000000",
        tenant="t",
        epoch=1,
        version_id="v",
        priority=5,
        attempts=0,
        max_attempts=3,
        created_at=0,
        expires_at=expires_at,
        run_deadline_at=run_deadline_at,
        payload=b"",
        claimed_at=claimed_at,
    )


def test_deadlines_are_told_from_the_claim_whatever_the_wall_clock_says() -> None:
    job = claimed(claimed_at=1_000_000, expires_at=1_005_000, run_deadline_at=1_900_000)
    assert latest_start_s(job, 70.0, 0.5) == 75.0


def test_a_pass_must_end_before_the_run_deadline() -> None:
    job = claimed(claimed_at=1_000_000, expires_at=1_005_000, run_deadline_at=1_002_000)
    assert latest_start_s(job, 70.0, 0.5) == 71.5


def test_the_late_are_told_apart_and_the_rest_is_not_dragged_along() -> None:
    ready = window()
    late, last, fine = (candidate(latest_start_s=at) for at in (1.0, 2.0, math.inf))
    ready.add([late, last, fine], 0.0)
    assert ready.expire(1.0) == []
    assert ready.expire(2.0) == [late]
    picked = ready.pick(2.0, always)
    assert picked is not None
    assert set(picked.candidates) == {last, fine}


def test_a_pick_leaves_the_late_for_expire_to_give_back() -> None:
    ready = window()
    late = candidate(latest_start_s=1.0)
    ready.add([late], 0.0)
    assert ready.pick(1.5, always) is None
    assert ready.jobs == 1
    assert ready.expire(1.5) == [late]
    assert ready.jobs == 0


def test_clearing_gives_back_the_late_as_well() -> None:
    ready = window()
    late, waiting = candidate(latest_start_s=1.0), candidate("busy")
    ready.add([late, waiting], 0.0)
    assert ready.pick(1.5, lambda version_id: False) is None
    assert ready.clear() == [late, waiting]


def test_a_group_whose_deadline_is_near_goes_before_lower_ranks() -> None:
    ready = window(taught("v", "w", book=None))
    ready.add([candidate("w", rank_ms=-1000), candidate("v", latest_start_s=0.004)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert picked.version_id == "v"


def test_a_group_whose_deadline_is_far_does_not() -> None:
    ready = window(taught("v", "w", book=None))
    ready.add([candidate("w", rank_ms=-1000), candidate("v", latest_start_s=1.0)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert picked.version_id == "w"


def test_of_two_near_deadlines_the_nearer_goes_first() -> None:
    ready = window(taught("v", "w", book=None))
    ready.add([candidate("w", latest_start_s=0.004), candidate("v", latest_start_s=0.003)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert picked.version_id == "v"


def test_who_would_be_late_for_it_is_not_trimmed_off() -> None:
    book = taught("v", fixed_s=0.0001, per_row_s=0.001, book=None)
    ready = window(book)
    ready.add([candidate() for _ in range(17)], 0.0)
    trimmed = ready.pick(0.0, always)
    assert trimmed is not None
    assert trimmed.rows == 16
    ready.clear()
    ready.add([candidate(latest_start_s=0.010) for _ in range(17)], 0.0)
    whole = ready.pick(0.0, always)
    assert whole is not None
    assert whole.rows == 17


def test_in_a_full_pass_the_near_deadline_has_a_place_whatever_its_rank() -> None:
    ready = window(of=lambda version_id: limits((4,)))
    ready.add([candidate(rank_ms=-100) for _ in range(10)], 0.0)
    near = candidate(rank_ms=100, latest_start_s=0.004)
    ready.add([near], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert near in picked.candidates


def test_short_deadlines_do_not_keep_a_tenant_ahead_of_the_others() -> None:
    ready = window(taught("v", "w", fixed_s=1.0, book=None))
    served = {"hasty": 0.0, "patient": 0.0}
    now_s = 0.0
    for _ in range(60):
        ready.add([candidate("v", tenant="hasty", latest_start_s=now_s + 0.9)], now_s)
        ready.add([candidate("w", tenant="patient")], now_s)
        picked = ready.pick(now_s, always)
        assert picked is not None
        ready.charge(picked, 1.0)
        now_s += 1.0
        served[picked.candidates[0].tenant] += 1.0
        ready.expire(now_s)
    assert served["hasty"] - served["patient"] <= 12


@settings(print_blob=True)
@given(st.lists(st.tuples(st.floats(0, 0.2), st.sampled_from("vw")), max_size=40))
def test_nobody_enters_the_device_after_the_latest_start(
    deadlines: list[tuple[float, str]],
) -> None:
    ready = window(taught("v", "w", book=None))
    everyone = [candidate(version, latest_start_s=at) for at, version in deadlines]
    ready.add(everyone, 0.0)
    now_s, started, late = 0.0, [], []
    while ready.jobs:
        late += ready.expire(now_s)
        picked = ready.pick(now_s, always)
        if picked is not None:
            assert all(one.latest_start_s >= now_s for one in picked.candidates)
            started += picked.candidates
            now_s += 0.005 + 0.00025 * picked.bucket
    assert len(started) + len(late) == len(everyone)
