"""What is claimed follows what is answered, and never passes its bounds."""

from __future__ import annotations

from storage.records.webhooks import BREAKS_AFTER, Endpoint
from workers.webhooks.holdings import Bounds, Holdings

BOUNDS = Bounds(each=8, most=100, unproven=24, proven_s=5.0)


def endpoint(number: int, tenant: str = "a", site: str = "", failures: int = 0) -> Endpoint:
    url = f"https://{site or f'h{number}'}.example/{number}"
    return Endpoint(f"e{number}", tenant, url, ("*",), None, True, True, None, failures, 0, 0)


def claim(holdings: Holdings, *ready: Endpoint) -> dict[str, int]:
    given = holdings.share(ready)
    by_id = {one.id: one for one in ready}
    for one_id, count in given.items():
        for _ in range(count):
            holdings.take(by_id[one_id])
    return given


def end(holdings: Holdings, one: Endpoint, count: int, at_s: float, *, answered: bool) -> None:
    holdings.look(at_s)
    for _ in range(count):
        holdings.end(one.id, at_s, answered=answered)


def test_one_that_answers_gets_more_until_it_says_nothing_for_a_while():
    holdings, one = Holdings(BOUNDS), endpoint(1)
    assert claim(holdings, one) == {"e1": 2}
    assert claim(holdings, one) == {}
    end(holdings, one, 2, 1.0, answered=True)
    assert claim(holdings, one) == {"e1": 8}
    end(holdings, one, 8, 2.0, answered=True)
    assert claim(holdings, one) == {"e1": 16}
    holdings.look(3.0)
    end(holdings, one, 16, 3.0, answered=False)
    assert claim(holdings, one) == {"e1": 8}
    end(holdings, one, 8, 8.1, answered=False)
    assert claim(holdings, one) == {"e1": 2}


def test_an_answer_counts_for_every_endpoint_of_the_site():
    holdings = Holdings(BOUNDS)
    first, second = endpoint(1, site="same"), endpoint(2, site="same")
    claim(holdings, first)
    end(holdings, first, 2, 1.0, answered=True)
    assert claim(holdings, second) == {"e2": 8}


def test_those_that_say_nothing_cannot_fill_it_between_them():
    holdings = Holdings(BOUNDS)
    silent = [endpoint(number) for number in range(50)]
    assert sum(claim(holdings, *silent).values()) == 12  # and as many are left to other tenants
    assert claim(holdings, *silent) == {}
    assert holdings.ahead == 100 - 12
    assert claim(holdings, endpoint(60, tenant="b"), *silent) == {"e60": 2}
    good = endpoint(61, tenant="b")
    claim(holdings, good)
    end(holdings, good, 2, 1.0, answered=True)
    assert claim(holdings, good, *silent) == {"e61": 8}


def test_it_is_never_more_than_its_bound_and_says_what_it_lacks():
    holdings = Holdings(BOUNDS)
    all_of_them = [endpoint(number, site="same") for number in range(20)]
    claim(holdings, *all_of_them)
    first = all_of_them[0]
    end(holdings, first, 1, 1.0, answered=True)
    claim(holdings, *all_of_them)
    assert holdings.total == BOUNDS.most
    assert claim(holdings, *all_of_them) == {} and holdings.ahead > 0
    holdings.forget()
    assert holdings.total == 0


def test_one_that_was_left_alone_is_tried_with_one():
    holdings, broken = Holdings(BOUNDS), endpoint(1, failures=BREAKS_AFTER)
    assert claim(holdings, broken) == {"e1": 1}
    assert claim(holdings, broken) == {}
