"""Only time in which there was work all the while tells what a job costs."""

from __future__ import annotations

from workers.inference.pace import Pace


def test_time_between_commits_counts_while_there_is_work():
    pace = Pace()
    assert pace.finished(10.0, more=True) is None  # nobody knows what was before
    assert pace.finished(10.5, more=True) == 0.5
    assert pace.finished(10.7, more=True) == 10.7 - 10.5


def test_a_pause_is_not_taken_for_slowness():
    pace = Pace()
    pace.finished(1.0, more=True)
    assert pace.finished(2.0, more=False) == 1.0  # what waited before is done with this one
    assert pace.finished(60.0, more=True) is None
    assert pace.finished(60.25, more=True) == 0.25
