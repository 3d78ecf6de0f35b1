"""Places are shared so that endpoints that hang cannot fill them between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.records.webhooks import BREAKS_AFTER
from workers.webhooks.places import FIRST, MOST, places_of, share, share_by_tenant, site_of


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


def test_the_next_place_goes_to_the_tenant_that_has_the_fewest():
    wanted = {f"a{number}": 2 for number in range(1_000)} | {"b": 2, "c": 5}
    tenants = {one: one[0] for one in wanted}
    given_ = share_by_tenant(wanted, tenants, {"a": 60}, 6)
    assert {one: n for one, n in given_.items() if one in "bc"} == {"b": 2, "c": 4}
    given_ = share_by_tenant(wanted, tenants, {}, 64)
    assert (given_["b"], given_["c"], sum(given_.values())) == (2, 5, 64)
    assert max(n for one, n in given_.items() if one[0] == "a") == 1


def test_sparing_leaves_something_for_whoever_comes_next():
    tenants = {one: one for one in "abcdefghij"}
    held: dict[str, int] = {}
    for tenant in tenants:
        free = 96 - sum(held.values())
        taken = share_by_tenant({tenant: 1_000}, tenants, held, free, sparing=True)
        held[tenant] = taken.get(tenant, 0)
    assert list(held.values()) == [48, 24, 12, 6, 3, 1, 1, 1, 0, 0]
    assert share_by_tenant({"a": 1_000}, tenants, held, 0, sparing=True) == {}
    assert share_by_tenant({"a": 5, "b": 5}, tenants, {}, 96, sparing=True) == {"a": 5, "b": 5}


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(-5, 20), max_size=20),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)),
    st.integers(0, 200),
)
def test_shared_by_tenant_nobody_gets_more_than_wanted_and_nothing_is_left_over(
    wanted: dict[str, int], held: dict[str, int], total: int
):
    given_ = share_by_tenant(wanted, {one: one[0] for one in wanted}, held, total)
    assert all(0 < given_[one] <= wanted[one] for one in given_)
    assert sum(given_.values()) == min(total, sum(max(0, most) for most in wanted.values()))


def test_a_site_is_who_answers_at_a_url():
    assert site_of("https://Example.com/a?job=1") == site_of("https://example.com/b/c")
    assert site_of("https://example.com?a/b") == site_of("https://example.com")
    assert site_of("https://example.com:8443/") != site_of("https://example.com/")
    assert site_of("http://example.com/") != site_of("https://example.com/")
