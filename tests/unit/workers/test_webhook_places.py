"""Places are shared so that endpoints that hang cannot fill them between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.records.webhooks import BREAKS_AFTER
from workers.webhooks.places import FIRST, MOST, places_of, share


def test_an_unknown_endpoint_gets_few_one_that_answers_more_up_to_a_bound():
    assert places_of(0, 0, 8) == FIRST
    assert places_of(0, 1, 8) == 8
    assert places_of(0, 20, 8) == 40
    assert places_of(0, 10_000, 8) == MOST


def test_one_that_fails_gets_few_and_one_that_was_left_alone_a_single_one():
    assert places_of(1, 8, 8) == FIRST
    assert places_of(BREAKS_AFTER, 8, 8) == 1
    assert places_of(BREAKS_AFTER + 100, 0, 8) == 1
    assert places_of(0, 0, 1) == 1


@given(st.dictionaries(st.text(max_size=3), st.integers(-5, 100), max_size=30), st.integers(0, 500))
def test_nobody_gets_more_than_wanted_and_nothing_is_left_that_somebody_wants(
    wanted: dict[str, int], total: int
):
    given_ = share(wanted, total)
    assert all(0 < given_[one] <= wanted[one] for one in given_)
    asked = sum(max(0, most) for most in wanted.values())
    assert sum(given_.values()) == min(total, asked)
    for one in wanted:  # who got less than wanted got about as much as anybody
        if given_.get(one, 0) < wanted[one]:
            assert given_.get(one, 0) >= max(given_.values(), default=0) - 1
