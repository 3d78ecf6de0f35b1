"""How many rows run now and in which size."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.inference.batching import next_size
from workers.inference.batching.sizes import within, worthwhile

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def linear(fixed_s: float, per_row_s: float):
    return lambda size: fixed_s + per_row_s * size


def test_padding_wins_where_a_pass_costs_the_same_whatever_its_size() -> None:
    assert next_size(65, SIZES, linear(0.1, 0.0)) == (65, 128)


def test_a_smaller_full_size_wins_where_rows_are_what_costs() -> None:
    assert next_size(65, SIZES, linear(0.0, 0.001)) == (64, 64)


def test_more_than_the_largest_runs_the_largest() -> None:
    assert next_size(1000, SIZES, linear(0.1, 0.1)) == (128, 128)


def test_fewer_than_the_smallest_are_padded() -> None:
    assert next_size(3, (8, 16), linear(0.1, 0.1)) == (3, 8)


@settings(print_blob=True)
@given(
    st.integers(1, 200),
    st.lists(st.integers(1, 128), min_size=1, max_size=6, unique=True).map(sorted),
    st.floats(0, 1),
    st.floats(0.0001, 1),
)
def test_no_other_size_is_cheaper_per_useful_row(
    rows: int, sizes: list[int], fixed_s: float, per_row_s: float
) -> None:
    estimate = linear(fixed_s, per_row_s)
    count, bucket = next_size(rows, sizes, estimate)
    assert bucket in sizes
    assert 1 <= count <= min(rows, bucket)
    cheapest = min(estimate(size) / min(size, rows) for size in sizes)
    assert estimate(bucket) / count <= cheapest * (1 + 1e-12)


def test_beyond_the_objective_a_size_has_to_pay_for_the_wait() -> None:
    flat = {1: 0.030, 2: 0.050, 4: 0.090, 8: 0.170, 16: 0.330, 32: 0.700}
    assert worthwhile(tuple(flat), flat.__getitem__, 0.05) == (1, 2, 4, 8, 16)
    steep = {1: 0.060, 2: 0.061, 4: 0.062, 8: 0.063}
    assert worthwhile(tuple(steep), steep.__getitem__, 0.05) == (1, 2, 4, 8)


def test_within_the_objective_every_size_stays() -> None:
    assert worthwhile((1, 2, 4), linear(0.0, 0.001), 0.05) == (1, 2, 4)


def test_the_smallest_size_is_always_allowed() -> None:
    assert within((4, 8), 1) == (4,)
    assert list(within((4, 8, 16), 9)) == [4, 8]
