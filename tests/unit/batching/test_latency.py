"""What the latency model learns, forgets and keeps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.latency import LatencyRow, VersionCost
from workers.inference.batching import LatencyBook
from workers.inference.batching.passes import MOST_SHAPES

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def learn(
    book: LatencyBook, bucket: int, seconds: float, *, shape: str = "", times: int = 2
) -> None:
    for _ in range(times):
        book.observe("v", shape, bucket, seconds)


def test_the_first_sample_of_a_bucket_is_thrown_away_as_it_may_have_compiled() -> None:
    book = LatencyBook()
    book.observe("v", "", 8, 30.0)
    assert book.rows("cpu") == []
    book.observe("v", "", 8, 0.01)
    assert book.estimate_s("v", "", 8) == 0.01


def test_a_restored_bucket_throws_nothing_away_and_counts_on() -> None:
    book = LatencyBook()
    book.restore([LatencyRow("v", "cpu", "", 8, count=40, mean_s=0.01, p95_s=0.05)])
    assert book.rows("cpu") == []
    book.observe("v", "", 8, 0.02)
    (row,) = book.rows("cpu")
    assert row.count == 41
    assert 0.01 < row.mean_s < 0.02
    assert row.p95_s == 0.05  # one sample says less about the tail than what was kept


@settings(print_blob=True)
@given(
    st.floats(0, 0.1),
    st.floats(1e-6, 0.01),
    st.sets(st.sampled_from(SIZES), min_size=2),
)
def test_a_line_is_found_again_from_any_two_of_its_sizes(
    fixed_s: float, per_row_s: float, seen: set[int]
) -> None:
    book = LatencyBook()
    for bucket in seen:
        learn(book, bucket, fixed_s + per_row_s * bucket)
    for bucket in SIZES:
        assert book.estimate_s("v", "", bucket) == pytest.approx(
            fixed_s + per_row_s * bucket, rel=1e-3
        )


@settings(print_blob=True)
@given(st.dictionaries(st.sampled_from(SIZES), st.floats(1e-5, 10), max_size=4))
def test_estimates_of_unseen_sizes_are_positive_and_never_fall_with_the_rows(
    seen: dict[int, float],
) -> None:
    measured = dict(zip(sorted(seen), sorted(seen.values()), strict=True))
    book = LatencyBook()
    for bucket, seconds in measured.items():
        learn(book, bucket, seconds)
    estimates = [book.estimate_s("v", "", bucket) for bucket in SIZES]
    assert all(one > 0 for one in estimates)
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(estimates))


def test_with_no_sample_a_larger_pass_takes_longer_and_its_rows_less() -> None:
    book = LatencyBook()
    estimates = [book.estimate_s("v", "", size) for size in SIZES]
    assert estimates == sorted(estimates)
    per_row = [seconds / size for seconds, size in zip(estimates, SIZES, strict=True)]
    assert per_row == sorted(per_row, reverse=True)


def test_an_unseen_shape_borrows_from_the_seen_ones_by_its_cost() -> None:
    book = LatencyBook()
    for shape, cost in (("64", 64.0), ("128", 128.0)):
        for bucket in (1, 8):
            for _ in range(2):
                seconds = 0.002 + 1e-5 * bucket * cost
                book.observe("v", shape, bucket, seconds, cost=bucket * cost)
    book.price("v", "512", 512.0)
    assert book.estimate_s("v", "512", 4) == pytest.approx(0.002 + 1e-5 * 4 * 512, rel=1e-3)
    assert book.estimate_s("v", "new", 4, cost=4 * 256.0) == pytest.approx(
        0.002 + 1e-5 * 4 * 256, rel=1e-3
    )


def test_rows_that_were_written_down_are_compared_once_their_cost_is_known() -> None:
    book = LatencyBook()
    for shape, cost in (("64", 64.0), ("512", 512.0)):
        seconds = [0.002 + 1e-5 * bucket * cost for bucket in (1, 8)]
        book.restore(
            LatencyRow("v", "cpu", shape, bucket, 9, one, one)
            for bucket, one in zip((1, 8), seconds, strict=True)
        )
    book.price("v", "64", 64.0)
    assert book.estimate_s("v", "new", 4, cost=4 * 128.0) == pytest.approx(
        0.002 + 1e-5 * 4 * 128, rel=1e-3
    )


def test_a_shape_with_one_size_measured_has_the_versions_line_through_it() -> None:
    book = LatencyBook()
    for bucket in (1, 2, 4, 8, 16, 32):
        learn(book, bucket, 0.002 + 0.001 * bucket, shape="a", times=30)
    learn(book, 4, 2 * 0.006, shape="b")
    assert book.estimate_s("v", "b", 32) == pytest.approx(2 * 0.034, rel=0.02)


def test_a_shape_of_unknown_cost_is_taken_for_the_dearest_known() -> None:
    book = LatencyBook()
    for bucket in (1, 8):
        for _ in range(2):
            book.observe("v", "128", bucket, 1e-5 * bucket * 128, cost=bucket * 128.0)
    assert book.estimate_s("v", "new", 4) == pytest.approx(1e-5 * 4 * 128, rel=1e-3)


def test_one_stall_does_not_poison_the_mean_but_shows_in_the_tail() -> None:
    book = LatencyBook()
    learn(book, 8, 0.01, times=13)
    for _ in range(2):
        book.observe("v", "", 8, 5.0)
        learn(book, 8, 0.01, times=2)
    assert book.estimate_s("v", "", 8) < 0.02
    assert book.p95_s("v", "", 8) == 5.0


@pytest.mark.parametrize("factor", [0.05, 0.5, 2.0, 10.0, 50.0])
def test_a_true_change_of_speed_is_followed_within_twenty_samples(factor: float) -> None:
    book = LatencyBook()
    learn(book, 8, 0.01, times=100)
    learn(book, 8, 0.01 * factor, times=20)
    assert book.estimate_s("v", "", 8) == pytest.approx(0.01 * factor, rel=0.25)


def test_the_tail_is_exact_over_the_last_samples() -> None:
    book = LatencyBook()
    learn(book, 8, 9.0, times=50)
    for number in range(64):
        book.observe("v", "", 8, float(number + 1))
    assert book.p95_s("v", "", 8) == 61.0  # 60.8 of 64 are not above it


def test_an_unseen_size_has_the_tail_of_the_seen_ones() -> None:
    book = LatencyBook()
    for _ in range(10):
        learn(book, 8, 0.01, times=9)
        book.observe("v", "", 8, 0.03)
    assert book.p95_s("v", "", 16) > 2 * book.estimate_s("v", "", 16)


rows = st.builds(
    LatencyRow,
    version_id=st.sampled_from("vw"),
    device=st.just("cpu"),
    shape=st.sampled_from(["", "128"]),
    bucket=st.sampled_from(SIZES),
    count=st.integers(1, 1000),
    mean_s=st.floats(1e-5, 10),
    p95_s=st.floats(1e-5, 10),
)


@settings(print_blob=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("vw"),
            st.sampled_from(["", "128"]),
            st.sampled_from(SIZES),
            st.floats(1e-5, 1),
        ),
        max_size=40,
    )
)
def test_what_was_written_down_restores_the_same_estimates(
    samples: list[tuple[str, str, int, float]],
) -> None:
    first, second = LatencyBook(), LatencyBook()
    for sample in samples:
        first.observe(*sample)
    written = first.rows("cpu")
    assert first.rows("cpu") == []
    second.restore(written)
    for row in written:
        at = (row.version_id, row.shape, row.bucket)
        assert second.estimate_s(*at) == first.estimate_s(*at) == row.mean_s
        assert second.p95_s(*at) == first.p95_s(*at) == row.p95_s
    for version in "vw":
        for size in SIZES:
            assert second.estimate_s(version, "", size) == pytest.approx(
                first.estimate_s(version, "", size)
            )


@settings(print_blob=True)
@given(st.lists(rows, max_size=10))
def test_what_this_process_measured_is_not_overwritten(written: list[LatencyRow]) -> None:
    book = LatencyBook()
    learn(book, 8, 0.5)
    book.restore(written)
    assert book.estimate_s("v", "", 8) == 0.5


def test_only_what_changed_is_written_again() -> None:
    book = LatencyBook()
    learn(book, 8, 0.01)
    learn(book, 16, 0.02)
    assert [row.bucket for row in book.rows("cpu")] == [8, 16]
    learn(book, 16, 0.02, times=1)
    assert [(row.bucket, row.count) for row in book.rows("cpu")] == [(16, 2)]


def test_what_was_tried_in_one_shape_is_told_in_rows_of_another_by_cost() -> None:
    book = LatencyBook()
    assert book.tried_rows("v", "128") == 0
    book.observe("v", "128", 16, 0.01, cost=16 * 128.0)
    book.price("v", "512", 512.0)
    assert book.tried_rows("v", "128") == 16
    assert book.tried_rows("v", "512") == 4


def test_memory_that_ran_out_is_remembered_by_shape_and_kept() -> None:
    book = LatencyBook()
    for shape, cost in (("64", 64.0), ("128", 128.0), ("512", 512.0)):
        book.price("v", shape, cost)
    assert book.cap("v", "128") is None
    book.shrink("v", "128", 64)
    book.shrink("v", "128", 32)
    assert [book.cap("v", shape) for shape in ("64", "128", "512")] == [None, 16, 16]
    book.shrink("v", "128", 1)
    assert book.cap("v", "128") == 1
    (cost,) = book.costs("cpu")
    assert cost.safe_rows == 1
    later = LatencyBook()
    later.restore_costs([cost])
    assert later.cap("v", "64") == 1


def test_costs_are_written_when_they_changed_and_go_on_where_they_were() -> None:
    book = LatencyBook()
    assert book.device_s_per_job("v") == 0.0
    book.observe_jobs("v", 100, 0.5)
    book.observe_path("v", 100, 1.0)
    book.observe_load("v", 3.0, 1 << 20)
    (cost,) = book.costs("cpu")
    assert cost == VersionCost("v", "cpu", 0.005, 0.01, 3.0, 1 << 20, None)
    assert book.costs("cpu") == []
    later = LatencyBook()
    later.restore_costs([cost])
    assert later.device_s_per_job("v") == pytest.approx(0.005)
    assert later.costs("cpu") == []


def test_costs_that_this_process_measured_are_not_overwritten() -> None:
    book = LatencyBook()
    book.observe_jobs("v", 100, 0.5)
    book.shrink("v", "*", 8)
    book.observe_load("v", 3.0, 100)
    book.restore_costs([VersionCost("v", "cpu", 9.0, 9.0, 9.0, 900, safe_rows=64)])
    (cost,) = book.costs("cpu")
    assert (cost.device_s_per_job, cost.path_s_per_job) == (0.005, 9.0)
    assert (cost.load_s, cost.memory_bytes, cost.safe_rows) == (3.0, 100, 4)


def test_device_time_per_job_follows_and_weighs_by_jobs() -> None:
    book = LatencyBook()
    for _ in range(200):
        book.observe_jobs("v", 1, 0.005)
        book.observe_jobs("v", 512, 0.016)
    assert book.device_s_per_job("v") == pytest.approx(0.021 / 513, rel=0.15)


@settings(print_blob=True)
@given(
    st.lists(st.tuples(st.floats(1e-4, 0.01), st.floats(1e-6, 1e-4)), min_size=1, max_size=4),
)
def test_the_path_is_the_sum_of_its_stages(stages: list[tuple[float, float]]) -> None:
    book = LatencyBook()
    for number, (fixed_s, per_row_s) in enumerate(stages):
        for rows_of in (1, 10, 100, 500):
            for _ in range(3):
                book.observe_stage("v", f"stage-{number}", rows_of, fixed_s + per_row_s * rows_of)
    for rows_of in (1, 64, 512):
        whole = sum(fixed_s + per_row_s * rows_of for fixed_s, per_row_s in stages)
        assert book.path_s("v", rows_of) == pytest.approx(whole, rel=1e-3)


def test_the_path_follows_its_stages() -> None:
    book = LatencyBook()
    assert book.path_s("v", 8) == 0.0
    for _ in range(20):
        book.observe_stage("v", "store", 8, 0.01)
    before_s = book.path_s("v", 8)
    for _ in range(20):
        book.observe_stage("v", "store", 8, 0.03)
    assert book.path_s("v", 8) > 2 * before_s


def test_batches_of_about_the_same_size_count_by_their_mean() -> None:
    book = LatencyBook()
    for rows_of in (1, 70, 120) * 20:
        book.observe_stage("v", "store", rows_of, 0.001 * rows_of)
    assert book.path_s("v", 95) == pytest.approx(0.095, rel=0.05)


def test_a_switch_costs_nothing_until_it_was_measured() -> None:
    book = LatencyBook()
    assert book.switch_s("v") == 0.0
    book.observe_switch("v", 0.3)
    book.observe_switch("v", -0.1)
    assert 0.0 < book.switch_s("v") < 0.3


def test_a_version_without_end_of_shapes_keeps_those_that_ran_lately() -> None:
    book = LatencyBook()
    for n in range(3 * MOST_SHAPES):
        for _ in range(3):
            book.observe("v", str(n), 4, 0.001 * (n + 1), cost=4.0 * (n + 1))
        book.observe("v", "0", 4, 0.001, cost=4.0)  # runs all the while
    last = 3 * MOST_SHAPES - 1
    assert book.ran("v", "0", 4) and book.ran("v", str(last), 4) and not book.ran("v", "1", 4)
    assert len(book.rows("cpu")) <= MOST_SHAPES
    assert book.estimate_s("v", "0", 4) == pytest.approx(0.001)
    assert book.estimate_s("v", "1", 4) > 0
    small = LatencyBook()
    small.observe("v", "large", 8, 1.0, cost=8_000.0)
    for n in range(MOST_SHAPES):
        small.observe("v", str(n), 1, 0.001, cost=1.0)
    assert not small.ran("v", "large", 8)
    assert small.tried_rows("v", "7") == 8_000, "what was tried is not forgotten with its shape"
