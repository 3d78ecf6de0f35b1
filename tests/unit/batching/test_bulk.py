"""Bulk work fills what online work leaves over, and stays small while somebody is waiting."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.batching.candidates import always, candidate, limits, taught, window
from workers.inference.batching import LatencyBook, Window


def with_path(objective_s: float) -> Window:
    """A window whose version takes 10 ms and 1 ms a row through all stages."""
    book = taught("v", book=None)
    for stage, share in (("claim", 0.2), ("device", 0.3), ("store", 0.4), ("commit", 0.1)):
        for rows in (1, 8, 64):
            for _ in range(3):
                book.observe_stage("v", stage, rows, share * (0.010 + 0.001 * rows))
    return Window(book, limits=lambda version_id: limits(objective_s=objective_s))


def test_bulk_fills_the_padding_of_an_online_pass_of_its_version() -> None:
    ready = with_path(objective_s=1.0)
    ready.add([candidate() for _ in range(55)], 0.0)
    ready.add([candidate(bulk=True, rank_ms=-(10**6)) for _ in range(100)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.bucket, picked.rows, picked.bulk) == (64, 64, False)
    assert sum(not one.bulk for one in picked.candidates) == 55


def test_what_fills_the_padding_keeps_to_the_objective_too() -> None:
    """It costs no device time, but its answers are stored and committed with the online ones."""
    ready = with_path(objective_s=0.001)
    ready.add([candidate() for _ in range(54)], 0.0)
    ready.add([candidate(bulk=True) for _ in range(100)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.bucket, picked.rows) == (64, 62)


def test_bulk_of_another_version_or_shape_is_not_in_it() -> None:
    ready = with_path(objective_s=1.0)
    ready.add([candidate() for _ in range(3)], 0.0)
    ready.add([candidate("w", bulk=True), candidate(shape="wide", bulk=True)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert [one.bulk for one in picked.candidates] == [False] * 3


@settings(print_blob=True)
@given(st.integers(1, 64), st.lists(st.integers(1, 20), max_size=40))
def test_bulk_never_enlarges_an_online_pass(online: int, lots: list[int]) -> None:
    alone, beside = with_path(objective_s=1.0), with_path(objective_s=1.0)
    for ready in (alone, beside):
        ready.add([candidate() for _ in range(online)], 0.0)
    beside.add([candidate(rows=rows, bulk=True, rank_ms=-(10**6)) for rows in lots], 0.0)
    first, second = alone.pick(0.0, always), beside.pick(0.0, always)
    assert first is not None
    assert second is not None
    assert second.bucket == first.bucket
    assert sum(not one.bulk for one in second.candidates) == len(first.candidates)


def test_bulk_runs_alone_only_when_nobody_online_is_ready() -> None:
    ready = with_path(objective_s=1.0)
    ready.add([candidate("w", bulk=True, rank_ms=-(10**9))], 0.0)
    ready.add([candidate(rank_ms=10**9)], 0.0)
    order = [ready.pick(0.0, always), ready.pick(0.0, always)]
    assert [one.bulk for one in order if one is not None] == [False, True]


def test_while_bulk_passes_are_not_wanted_bulk_still_fills_those_of_others() -> None:
    ready = with_path(objective_s=1.0)
    ready.add([candidate(bulk=True) for _ in range(10)], 0.0)
    assert ready.pick(0.0, always, bulk_too=False) is None
    ready.add([candidate() for _ in range(3)], 0.0)
    picked = ready.pick(0.0, always, bulk_too=False)
    assert picked is not None
    assert (picked.rows, picked.bulk) == (4, False)
    assert ready.pick(0.0, always, bulk_too=False) is None


def test_bulk_runs_when_the_online_version_is_busy() -> None:
    ready = with_path(objective_s=1.0)
    ready.add([candidate("w", bulk=True), candidate()], 0.0)
    picked = ready.pick(0.0, lambda version_id: version_id == "w")
    assert picked is not None
    assert picked.bulk


def test_bulk_passes_stay_within_the_objective_while_online_work_was_seen() -> None:
    ready = with_path(objective_s=0.042)
    ready.add([candidate(bulk=True) for _ in range(200)], 0.0)
    assert ready.bulk_cap("v", 0.0) == 64
    ready.add([candidate()], 0.0)
    assert ready.online_seen(0.0)
    assert 31 <= ready.bulk_cap("v", 0.0) <= 32
    ready.pick(0.0, always)
    picked = ready.pick(0.5, always)
    assert picked is not None
    assert picked.bulk
    assert picked.rows <= 32
    assert not ready.online_seen(1.1)
    assert ready.bulk_cap("v", 1.1) == 64
    later = ready.pick(1.1, always)
    assert later is not None
    assert later.rows == 64


def test_online_work_that_waits_longer_than_a_second_is_still_seen() -> None:
    ready = with_path(objective_s=0.042)
    ready.add([candidate()], 0.0)
    assert ready.online_seen(100.0)
    assert ready.bulk_cap("v", 100.0) <= 32


def test_the_objective_of_whoever_is_online_counts_for_bulk_of_other_versions() -> None:
    book = taught("v", book=None)
    for rows in (1, 64):
        book.observe_stage("v", "device", rows, 0.001 * rows)
    objectives = {"v": 0.060, "hasty": 0.020}
    ready = Window(book, limits=lambda version_id: limits(objective_s=objectives[version_id]))
    ready.add([candidate("hasty")], 0.0)
    assert 19 <= ready.bulk_cap("v", 0.0) <= 20


def test_a_few_rows_of_bulk_go_on_whatever_the_objective() -> None:
    ready = with_path(objective_s=0.001)
    ready.add([candidate()], 0.0)
    assert ready.bulk_cap("v", 0.0) == 8


def test_before_anything_was_measured_bulk_is_careful() -> None:
    ready = window(LatencyBook())
    assert ready.bulk_cap("v", 0.0) == 64
    ready.add([candidate()], 0.0)
    assert ready.bulk_cap("v", 0.0) == 8


def test_a_bulk_job_larger_than_its_cap_runs_alone_in_one_pass() -> None:
    ready = with_path(objective_s=0.001)
    ready.add([candidate()], 0.0)
    ready.pick(0.0, always)
    ready.add([candidate(rows=40, bulk=True), candidate(bulk=True, rank_ms=1)], 0.1)
    picked = ready.pick(0.1, always)
    assert picked is not None
    assert (picked.rows, picked.bucket) == (40, 64)
