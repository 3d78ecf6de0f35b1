"""As many steps in one call as a pause may wait for."""

from __future__ import annotations

import pytest

from workers.training.pace import MOST_BYTES, MOST_S, MOST_STEPS, Pace


@pytest.mark.parametrize("step_s", [0.00001, 0.0004, 0.003, 0.02, 0.3])
def test_a_call_takes_no_longer_than_a_pause_may_wait_and_at_least_a_quarter_of_it(
    step_s: float,
) -> None:
    pace = Pace(1000)
    pace.took(1, 5.0)  # it compiled
    for _ in range(30):
        pace.took(pace.steps, pace.steps * step_s)
    took_s = pace.steps * step_s
    assert took_s <= MOST_S or pace.steps == 1
    assert took_s > MOST_S / 4 or pace.steps == MOST_STEPS
    assert pace.step_s == pytest.approx(step_s)


def test_steps_that_become_slow_are_grouped_less_and_one_slow_call_changes_nothing() -> None:
    pace = Pace(1000)
    for _ in range(30):
        pace.took(pace.steps, pace.steps * 0.0005)
    assert pace.steps == 64
    pace.took(pace.steps, pace.steps * 0.1)
    assert pace.steps == 64
    for _ in range(3):
        pace.took(pace.steps, pace.steps * 0.1)
    assert pace.steps == 1


def test_a_call_holds_no_more_rows_than_memory_is_meant_for_them() -> None:
    for batch_bytes in (MOST_BYTES // 3, MOST_BYTES, 5 * MOST_BYTES):
        pace = Pace(batch_bytes)
        for _ in range(30):
            pace.took(pace.steps, pace.steps * 0.00001)
        assert pace.steps * batch_bytes <= MOST_BYTES or pace.steps == 1
