"""The back-off is a pure decision: it grows, is bounded, and one success ends it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.queue.backoff import Backoff, Door


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_half_and_all_of_its_step(failures, chance):
    backoff = Backoff(first_s=0.1, longest_s=5.0)
    step = min(5.0, 0.1 * 2 ** min(failures - 1, 10))
    assert step / 2 <= backoff.delay_s(failures, chance) <= step


def test_the_door_opens_when_its_time_has_come():
    door = Door(Backoff(first_s=1.0, longest_s=60.0), lambda: 0.0)
    assert door.shut_for_s(10.0) == 0
    assert door.failed(10.0) == 0.5
    assert door.shut_for_s(10.25) == 0.25
    assert door.shut_for_s(10.5) == 0
    assert door.failed(10.5) == 1.0
    door.worked()
    assert door.shut_for_s(10.6) == 0
    assert door.failed(20.0) == 0.5
