"""A version is swapped while jobs come in: none is lost, and each is answered by the version that
it records. A candidate that crosses a limit is returned by itself, and soon."""

from __future__ import annotations

import pytest

from tests.show import swaps
from tests.support.stack import Stack
from tests.support.zoo import Zoo

RATE_PER_S = 100.0
# What can be given to the candidate until its limit counts, and in ten seconds more.
MOST_TRIED = swaps.MIN_JOBS + 10 * RATE_PER_S * swaps.SHARE


@pytest.fixture(scope="module")
def swapped(stack: Stack, zoo: Zoo) -> swaps.Swaps:
    """A promotion, a rollback and an automatic return under load."""
    with stack.caller() as caller:
        swaps.push_all(caller, zoo)
    return swaps.run(stack.caller, rate_per_s=RATE_PER_S, phase_s=2.0)


def test_no_job_is_lost(swapped: swaps.Swaps) -> None:
    assert swapped.lost == []
    assert swapped.jobs >= 800
    assert all(swapped.by_version.values()), swapped


def test_every_job_is_answered_by_the_version_that_it_records(swapped: swaps.Swaps) -> None:
    assert swapped.wrong == []


def test_a_bad_candidate_is_returned_within_ten_seconds(swapped: swaps.Swaps) -> None:
    assert "failed" in swapped.reason
    assert swapped.breach_to_return_s <= 10.0
    assert swapped.failed <= MOST_TRIED
