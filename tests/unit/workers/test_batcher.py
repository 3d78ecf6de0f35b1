"""The batcher's decisions, on numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.records.jobs import ClaimedJob, PackSlice
from workers.inference.batcher import (
    SUSPECT_CHUNK,
    LatencyModel,
    next_chunk,
    retry_delay_ms,
    split,
)

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def claimed(
    number: int, *, attempts: int = 0, max_attempts: int = 3, size_bytes: int = 10
) -> ClaimedJob:
    return ClaimedJob(
        id=f"00000000-0000-7000-8000-{number:012d}",
        tenant="t",
        epoch=1,
        version_id="v",
        priority=5,
        attempts=attempts,
        max_attempts=max_attempts,
        created_at=0,
        expires_at=1,
        run_deadline_at=1,
        payload=PackSlice("p", 0, size_bytes, ""),
    )


def linear(fixed_s: float, per_row_s: float) -> LatencyModel:
    model = LatencyModel()
    for size in SIZES:
        for _ in range(2):
            model.observe(size, fixed_s + per_row_s * size)
    return model


def test_padding_wins_where_a_pass_costs_the_same_whatever_its_size() -> None:
    assert next_chunk(65, SIZES, linear(0.1, 0.0)) == (65, 128)


def test_a_smaller_full_bucket_wins_where_rows_are_what_costs() -> None:
    assert next_chunk(65, SIZES, linear(0.0, 0.001)) == (64, 64)


def test_without_measurements_a_little_padding_is_taken_and_much_is_not() -> None:
    assert next_chunk(58, SIZES, LatencyModel()) == (58, 64)
    assert next_chunk(65, SIZES, LatencyModel()) == (64, 64)


def test_the_first_sample_of_a_bucket_is_thrown_away_as_it_may_have_compiled() -> None:
    model = LatencyModel()
    model.observe(8, 30.0)
    model.observe(8, 0.01)
    assert model.estimate_s(8) == 0.01


def test_an_unseen_bucket_is_estimated_from_the_seen_ones() -> None:
    model = LatencyModel()
    for size in (8, 32):
        model.observe(size, 9.0)
        model.observe(size, 1.0 + 0.5 * size)
    assert abs(model.estimate_s(16) - 9.0) < 1e-9


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0, 1))
def test_a_chunk_always_fits_its_bucket_and_takes_something(
    rows: int, fixed_s: float, per_row_s: float
) -> None:
    count, bucket = next_chunk(rows, SIZES, linear(fixed_s, per_row_s))
    assert 1 <= count <= min(rows, bucket)
    assert bucket in SIZES


def test_suspects_run_among_few_and_at_last_alone() -> None:
    fresh = [claimed(n) for n in range(20)]
    once = [claimed(n, attempts=1) for n in range(100, 120)]
    last = [claimed(n, attempts=2) for n in range(200, 203)]
    batches = split([*last, *once, *fresh], max_batch=128, max_bytes=1 << 30)
    assert [len(batch) for batch in batches] == [20, SUSPECT_CHUNK, SUSPECT_CHUNK, 4, 1, 1, 1]
    assert all(len({job.attempts for job in batch}) == 1 for batch in batches)


def test_a_single_attempt_is_no_suspicion() -> None:
    jobs = [claimed(n, max_attempts=1) for n in range(20)]
    assert [len(batch) for batch in split(jobs, max_batch=128, max_bytes=1 << 30)] == [20]


def test_large_inputs_make_smaller_batches() -> None:
    jobs = [claimed(n, size_bytes=40) for n in range(5)]
    assert [len(b) for b in split(jobs, max_batch=128, max_bytes=100)] == [2, 2, 1]
    assert [len(b) for b in split(jobs, max_batch=128, max_bytes=1)] == [1] * 5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 50)), max_size=60))
def test_splitting_loses_nobody_and_doubles_nobody(spec: list[tuple[int, int, int]]) -> None:
    jobs = [
        claimed(n, attempts=attempts, max_attempts=most, size_bytes=size)
        for n, (attempts, most, size) in enumerate(spec)
    ]
    batches = split(jobs, max_batch=7, max_bytes=100)
    assert sorted(job.id for batch in batches for job in batch) == [job.id for job in jobs]
    assert all(1 <= len(batch) <= 7 for batch in batches)


def test_retries_back_off() -> None:
    assert [retry_delay_ms(n, 2.0) for n in (0, 1, 2, 50)] == [2000, 4000, 8000, 512_000]
