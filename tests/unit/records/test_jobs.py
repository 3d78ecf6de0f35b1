"""The one state machine, as words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.jobs import (
    AGEING_MS_PER_PRIORITY,
    LIVE,
    MAX_PRIORITY,
    MIN_PRIORITY,
    TERMINAL,
    TRANSITIONS,
    GroupCounts,
    JobState,
    backlog_rank,
)

times = st.integers(0, 2**48)
priorities = st.integers(MIN_PRIORITY, MAX_PRIORITY)


def test_every_state_is_either_live_or_terminal():
    assert set(JobState) == TERMINAL | LIVE
    assert not TERMINAL & LIVE


def test_every_state_has_its_transitions_and_terminal_ones_have_none():
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state in JobState if not TRANSITIONS[state]} == TERMINAL


def test_every_state_can_be_reached_and_every_live_one_can_end():
    reached, todo = set(), [JobState.QUEUED]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo.extend(TRANSITIONS[state])
    assert reached == set(JobState)
    assert all(TRANSITIONS[state] & TERMINAL for state in LIVE)


@given(times, priorities, times, priorities)
def test_a_job_overtakes_only_what_waited_less_than_its_priority_is_worth(early, low, late, high):
    early, late = sorted((early, late))
    low, high = sorted((low, high))
    overtakes = backlog_rank(late, high) < backlog_rank(early, low)
    assert overtakes == (late - early < (high - low) * AGEING_MS_PER_PRIORITY)


@given(times, priorities, priorities)
def test_nothing_starves(created_at, low, high):
    longest = (MAX_PRIORITY - MIN_PRIORITY) * AGEING_MS_PER_PRIORITY
    assert backlog_rank(created_at, low) <= backlog_rank(created_at + longest, high)


@pytest.mark.parametrize(
    ("by_state", "done"),
    [
        ({}, False),
        ({JobState.SUCCEEDED: 2}, False),
        ({JobState.SUCCEEDED: 2, JobState.RUNNING: 1}, False),
        ({JobState.SUCCEEDED: 1, JobState.FAILED: 1, JobState.EXPIRED: 1}, True),
        ({JobState.CANCELLED: 3}, True),
    ],
)
def test_a_group_is_done_when_every_job_is_terminal(by_state, done):
    assert GroupCounts("g", "t", 0, 3, by_state).done is done


def test_an_empty_group_is_done():
    assert GroupCounts("g", "t", 0, 0, {}).done
