"""Places are shared so that endpoints that hang cannot fill them between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.records.webhooks import BREAKS_AFTER
from workers.webhooks.places import FIRST, MOST, places_of, share, share_by_tenant, site_of


def places(failures: int = 0, **fields) -> int:
    plain = {"proven": True, "answered": 0, "before": 0, "each": 8}
    return places_of(failures, **plain | fields)


def test_an_unknown_endpoint_gets_few_one_that_answers_more_up_to_a_bound():
    assert places(proven=False) == FIRST
    assert places() == 8
    assert places(answered=1) == 8
    assert places(answered=20) == 40
    assert places(answered=10_000) == MOST


def test_it_keeps_half_of_them_while_it_says_nothing():
    assert places(before=64) == 32
    assert places(before=10) == 8
    assert places(before=64, answered=20) == 40
    assert places(before=64, proven=False) == FIRST


def test_one_that_fails_gets_few_and_one_that_was_left_alone_a_single_one():
    assert places(1, answered=8, before=64) == FIRST
    assert places(BREAKS_AFTER, answered=8, before=64) == 1
    assert places(BREAKS_AFTER + 100) == 1
    assert places(proven=False, each=1) == 1


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
