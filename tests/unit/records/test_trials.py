"""A share of the jobs goes to the candidate, always the same ones; what is over a limit is said."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.trials import (
    ArmSeen,
    Disagreement,
    Limits,
    Placement,
    Progress,
    Trial,
    TrialKind,
    chance_of,
    judge,
    limits_from_json,
    limits_to_json,
    p95,
    progress_from_json,
    progress_to_json,
)

JOBS, SEEDS, Z_99 = 20_000, 200, 2.5758
TRIAL = Trial(
    id="t",
    tenant="a",
    name="digits",
    alias="prod",
    kind=TrialKind.CANARY,
    base_version_id="one",
    base_version=1,
    candidate_version_id="two",
    candidate_version=2,
    base_arm_id="base",
    candidate_arm_id="candidate",
    shadow_arm_id="shadow",
    share=0.1,
    limits=Limits(),
)
NO_LIMITS = Limits(error_share=None, min_jobs=1)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_share_of_20_000_jobs_is_within_the_binomial_interval(share: float) -> None:
    """99 of 100 trials are within it: of 200, seldom more than 8 are not."""
    outside, off = 0, Z_99 * math.sqrt(JOBS * share * (1 - share))
    for seed in range(SEEDS):
        chance = random.Random(seed)
        ids = (f"{chance.getrandbits(122):032x}" for _ in range(JOBS))
        trial = f"{chance.getrandbits(122):032x}"
        taken = sum(chance_of(trial, one) < share for one in ids)
        outside += abs(taken - JOBS * share) > off
    assert outside <= 8, outside


@given(st.text(min_size=1), st.text(min_size=1), st.floats(0.001, 1))
def test_a_job_is_always_placed_alike(trial_id: str, job_id: str, share: float) -> None:
    trial = replace(TRIAL, id=trial_id, share=share)
    assert trial.place(job_id) == trial.place(job_id)
    assert 0 <= chance_of(trial_id, job_id) < 1
    assert replace(trial, share=1.0).takes(job_id)


def test_a_canary_answers_its_share_and_marks_both_arms() -> None:
    taken = next(one for one in map(str, range(100)) if TRIAL.takes(one))
    left = next(one for one in map(str, range(100)) if not TRIAL.takes(one))
    assert TRIAL.place(taken) == Placement("two", 2, "candidate")
    assert TRIAL.place(left) == Placement("one", 1, "base")
    assert (TRIAL.compares, TRIAL.judged_arm_id) == (False, "candidate")
    compared = replace(TRIAL, limits=Limits(disagreement=0.1))
    assert (compared.compares, compared.compared_arm_id) == (True, "candidate")
    assert compared.other_version == ("one", 1)


def test_a_shadow_answers_nothing_and_marks_what_is_scored_again() -> None:
    shadow = replace(TRIAL, kind=TrialKind.SHADOW)
    taken = next(one for one in map(str, range(100)) if shadow.takes(one))
    left = next(one for one in map(str, range(100)) if not shadow.takes(one))
    assert shadow.place(taken) == Placement("one", 1, "base")
    assert shadow.place(left) == Placement("one", 1, None)
    assert (shadow.compared_arm_id, shadow.other_version) == ("base", ("two", 2))
    assert shadow.judged_arm_id == "shadow"


@pytest.mark.parametrize(
    ("limits", "candidate", "base", "pairs", "says"),
    [
        (Limits(error_share=0.1), ArmSeen(100, 11), ArmSeen(), (0, 0), "11 of 100 jobs failed"),
        (Limits(error_share=0.1), ArmSeen(100, 10), ArmSeen(), (0, 0), None),
        (Limits(error_share=0.1), ArmSeen(49, 49), ArmSeen(), (0, 0), None),
        (Limits(error_share=0.0, min_jobs=1), ArmSeen(1, 1), ArmSeen(), (0, 0), "1 of 1 jobs"),
        (Limits(error_share=None), ArmSeen(100, 100), ArmSeen(), (0, 0), None),
        (Limits(latency_ms=20), ArmSeen(100, 0, 21.0), ArmSeen(), (0, 0), "its p95 is 21 ms"),
        (Limits(latency_ms=20), ArmSeen(100, 0, 20.0), ArmSeen(), (0, 0), None),
        (
            Limits(latency_ratio=2),
            ArmSeen(100, 0, 21.0),
            ArmSeen(100, 0, 10.0),
            (0, 0),
            "21 ms, more than 2 times the base's 10 ms",
        ),
        (Limits(latency_ratio=2), ArmSeen(100, 0, 21.0), ArmSeen(49, 0, 10.0), (0, 0), None),
        (Limits(latency_ratio=2), ArmSeen(100, 0, 2.0), ArmSeen(100, 0, 0.0), (0, 0), None),
        (Limits(disagreement=0.1), ArmSeen(), ArmSeen(), (100, 11), "11 of 100 answers differ"),
        (Limits(disagreement=0.1), ArmSeen(), ArmSeen(), (100, 10), None),
        (Limits(disagreement=0.1), ArmSeen(), ArmSeen(), (49, 49), None),
    ],
)
def test_a_limit_that_is_crossed_is_said_with_figures(
    limits: Limits, candidate: ArmSeen, base: ArmSeen, pairs: tuple[int, int], says: str | None
) -> None:
    reason = judge(limits, candidate, base, *pairs)
    if says is None:
        assert reason is None
    else:
        assert reason is not None and says in reason


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_without_limits_nothing_is_returned(jobs: int, failed: int, disagreed: int) -> None:
    seen = ArmSeen(jobs + failed, failed, 1e9)
    assert judge(NO_LIMITS, seen, ArmSeen(9, 0, 1.0), 500, disagreed) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_95_of_100_do_not_exceed_the_p95(values: list[float]) -> None:
    found = p95(values)
    assert found is not None
    assert sum(one <= found for one in values) >= 0.95 * len(values)
    assert sum(one < found for one in values) < 0.95 * len(values)
    assert p95([]) is None


def test_what_is_stored_is_read_back() -> None:
    limits = Limits(latency_ms=3.5, disagreement=0.0, min_jobs=7)
    assert limits_from_json(limits_to_json(limits)) == limits
    progress = Progress(3, "id", "sd", (Disagreement("j", {"label": "a"}, [1.5]),))
    assert progress_from_json(progress_to_json(progress)) == progress
