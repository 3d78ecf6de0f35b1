"""Waiting returns what was seen, and fails with what was last seen."""

from __future__ import annotations

import itertools

import pytest

from tests.support.waiting import DeadlinePassed, wait_until


def test_the_first_truthy_value_is_returned():
    numbers = itertools.count()
    assert wait_until(lambda: next(numbers), 5, every_s=0) == 1


def test_a_deadline_says_what_was_last_seen():
    with pytest.raises(DeadlinePassed, match=r"the moon: .*last seen: \[\]"):
        wait_until(list, 0.01, what="the moon")


def test_an_ignored_error_is_what_was_last_seen_and_others_pass():
    def fails():
        raise KeyError("gone")

    with pytest.raises(DeadlinePassed, match="KeyError"):
        wait_until(fails, 0.01, ignoring=(KeyError,))
    with pytest.raises(KeyError):
        wait_until(fails, 0.01)


def test_a_condition_is_looked_at_even_when_the_deadline_is_over():
    assert wait_until(lambda: True, 0) is True
