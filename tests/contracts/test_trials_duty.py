"""The duty returns a candidate that crosses a limit, scores inputs again, compares both answers,
and leaves nothing behind: on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.database.statements import Statement
from storage.database.trials import AnsweredTwice
from storage.objects import Objects, open_objects
from storage.records.errors import ObjectsUnavailable
from storage.records.jobs import JobFilter, JobState, PackSlice
from storage.records.trials import RECENT_JOBS, Limits, Progress, TrialKind, TrialState
from tests.support.database import ALICE, BOB, ManualClock, new_id
from tests.support.trials import answer, begin
from workers.keeper.trials import Looked, Trials, TrialsConfig, compared, in_bytes

DUTY = Trials(TrialsConfig(most_live=4, newest=8))
SHADOWS = Statement(
    "For tests.",
    """
    SELECT n.id, n.shadow_of FROM jobs AS n WHERE n.shadow_of IS NOT NULL AND n.id IN (
        SELECT l.id FROM live AS l WHERE l.arm_id = :arm
        UNION ALL SELECT e.id FROM ends AS e WHERE e.arm_id = :arm)
    """,
)
EVENTS = Statement("For tests.", "SELECT id FROM events")
SHADOW = Limits(disagreement=0.5, min_jobs=4)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(f"file://{tmp_path}/objects")


def label(text: str) -> dict[str, Any]:
    return {"outputs": {"y": [1.0]}, "label": text, "top": [{"label": text, "score": 0.75}]}


def shadows(database: Database, trial_id: str) -> dict[str, str]:
    """Jobs that are to be scored again: the shadow by its original."""
    with database.read() as tx:
        trial = tx.trials.get(trial_id)
        assert trial is not None
        rows = tx._work.rows(SHADOWS, arm=trial.shadow_arm_id)
    return {row.shadow_of: row.id for row in rows}


def run(database: Database, objects: Objects) -> Looked:
    return DUTY.run_once(database, objects)


def test_over_its_limit_a_candidate_is_returned_with_what_is_queued(
    database: Database, objects: Objects
) -> None:
    beside = begin(database, limits=Limits(error_share=0.1, min_jobs=10))
    queued = beside.submit(count=3)
    beside.fail(9)
    assert run(database, objects) == Looked()
    assert beside.now().seen["candidate"].failed == 9
    beside.fail(1)
    assert run(database, objects) == Looked(returned=1)
    now = beside.now()
    assert (now.state, now.reason) == (
        TrialState.RETURNED,
        "10 of 10 jobs failed (1), more than 0.1",
    )
    assert beside.versions(queued) == [1, 1, 1]


def test_a_candidate_that_cannot_be_served_any_more_is_returned(
    database: Database, objects: Objects
) -> None:
    beside = begin(database)
    queued = beside.submit()
    with database.begin() as tx:
        tx.models.mark_broken(beside.trial.candidate_version_id, "no", even_ready=True)
    run(database, objects)
    assert beside.now().reason == "it is broken"
    assert beside.versions(queued) == [1]


def test_what_comes_late_goes_back_until_nothing_is_left(
    database: Database, objects: Objects, clock: ManualClock
) -> None:
    beside = begin(database)
    with database.begin() as tx:
        tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
    late = beside.submit(count=2)
    assert run(database, objects) == Looked(repointed=2)
    assert beside.versions(late) == [1, 1]
    clock.pass_ms(59_000)
    run(database, objects)
    assert beside.now().settled_at is None
    clock.pass_ms(1_000)
    run(database, objects)
    assert beside.now().settled_at is not None
    assert run(database, objects) == Looked()


@pytest.mark.parametrize("kind", list(TrialKind))
def test_inputs_are_scored_by_both_and_what_differs_is_told(
    kind: TrialKind, database: Database, objects: Objects, clock: ManualClock
) -> None:
    beside = begin(database, kind=kind, limits=replace(SHADOW, disagreement=0.9, error_share=None))
    arm, others = ("base", 2) if kind is TrialKind.SHADOW else ("candidate", 1)
    ids = beside.submit(arm, 3, payload=b'{"tensor": [7]}')
    answer(database, objects, dict(zip(ids, map(label, "abc"), strict=True)))
    assert run(database, objects) == Looked(shadows=3)
    assert run(database, objects) == Looked()  # each once
    again = shadows(database, beside.trial.id)
    assert set(again) == set(ids)
    with database.read() as tx:
        assert tx.jobs.get_many(ALICE, list(again.values())) == []
        assert len(tx.jobs.list(ALICE, JobFilter(), limit=99, after=None)) == 3
        queued = JobFilter(states=frozenset({JobState.QUEUED}))
        assert tx.jobs.list(ALICE, queued, limit=99, after=None) == []
        assert tx.backlog.depth(ALICE, 99) == 0
        heads = tx.backlog.heads("default", ALICE, 99)
        assert tx.jobs.payload(ALICE, again[ids[0]]) == b'{"tensor": [7]}'
    assert {(head.version_id, head.priority) for head in heads} == {
        (beside.trial.candidate_version_id if others == 2 else beside.trial.base_version_id, 0)
    }
    told = dict(zip(ids, (label("a"), label("x"), None), strict=True))
    answer(database, objects, {again[one]: told[one] for one in ids})
    assert run(database, objects) == Looked()  # a commit may come a moment later
    clock.pass_ms(1_000)
    assert run(database, objects) == Looked(compared=2)
    assert run(database, objects) == Looked()
    now = beside.now()
    assert (now.compared, now.disagreed) == (2, 1)
    (example,) = now.progress.examples
    before, after = {"label": "b", "score": 0.75}, {"label": "x", "score": 0.75}
    both = (before, after) if kind is TrialKind.SHADOW else (after, before)
    assert (example.job_id, example.base, example.candidate) == (ids[1], *both)


def test_too_much_disagreement_returns_the_candidate_and_nothing_more_is_scored(
    database: Database, objects: Objects, clock: ManualClock
) -> None:
    beside = begin(database, kind=TrialKind.SHADOW, limits=SHADOW)
    ids = beside.submit("base", 10)
    answer(database, objects, {one: label("a") for one in ids})
    assert run(database, objects) == Looked(shadows=4)  # no more than may wait
    again = shadows(database, beside.trial.id)
    assert set(again) <= set(ids[2:])  # the newest
    answer(database, objects, {one: label("b") for one in again.values()})
    clock.pass_ms(1_000)
    assert run(database, objects) == Looked(returned=1, compared=4)
    now = beside.now()
    assert now.reason == "4 of 4 answers differ (1), more than 0.5"
    assert run(database, objects) == Looked()


def test_a_trial_that_ends_takes_its_shadows_along(database: Database, objects: Objects) -> None:
    beside = begin(database, kind=TrialKind.SHADOW)
    answer(database, objects, {one: label("a") for one in beside.submit("base", 2)})
    assert run(database, objects) == Looked(shadows=2)
    with database.begin() as tx:
        tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
    run(database, objects)
    with database.read() as tx:
        assert tx.trials.live(beside.trial.shadow_arm_id, 9) == 0
    assert (
        states_of(database, list(shadows(database, beside.trial.id).values())) == ["cancelled"] * 2
    )


def test_nobody_is_told_of_a_shadow(database: Database, objects: Objects) -> None:
    with database.begin() as tx:
        tx.webhooks.add(ALICE, new_id(), "https://example.com/hook", ["*"])
    beside = begin(database, kind=TrialKind.SHADOW)
    ids = beside.submit("base", 2)
    answer(database, objects, {one: label("a") for one in ids})
    run(database, objects)
    again = shadows(database, beside.trial.id)
    answer(database, objects, {again[ids[0]]: label("b"), again[ids[1]]: None})
    with database.read() as tx:
        rows = tx._work.rows(EVENTS)
    assert {row.id for row in rows} == set(ids)


def test_answers_that_were_erased_count_for_nothing(
    database: Database, objects: Objects, clock: ManualClock
) -> None:
    beside = begin(database, kind=TrialKind.SHADOW, limits=SHADOW)
    ids = beside.submit("base", 2)
    answer(database, objects, {one: label("a") for one in ids})
    run(database, objects)
    again = shadows(database, beside.trial.id)
    answer(database, objects, {one: label("b") for one in again.values()})
    for found in list(objects.list("packs/")):
        objects.delete([found.key])
    clock.pass_ms(1_000)
    assert run(database, objects) == Looked()
    assert beside.now().compared == 0
    assert beside.now().progress.id != ""  # and they are not looked at again


def test_what_cannot_be_compared_keeps_nobody_from_being_returned(
    database: Database, objects: Objects, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial's answers cannot be read; it, and the one after it, are judged all the same."""
    first = begin(database, limits=Limits(error_share=0.5, disagreement=0.5, min_jobs=2))
    second = begin(database, BOB, limits=Limits(error_share=0.5, min_jobs=2))
    answer(database, objects, {one: label("a") for one in first.submit()})
    run(database, objects)
    again = shadows(database, first.trial.id)
    answer(database, objects, {one: label("b") for one in again.values()})
    clock.pass_ms(1_000)
    first.fail(9), second.fail(9)
    monkeypatch.setattr("workers.keeper.trials.read_slices", unavailable)
    assert run(database, objects).returned == 2
    monkeypatch.undo()
    assert (first.now().state, second.now().state) == (TrialState.RETURNED, TrialState.RETURNED)


def unavailable(*_: object) -> None:
    raise ObjectsUnavailable("the store does not answer")


def test_answers_that_are_damaged_count_for_nothing(
    database: Database, objects: Objects, clock: ManualClock
) -> None:
    beside = begin(database, kind=TrialKind.SHADOW, limits=SHADOW)
    ids = beside.submit("base", 2)
    answer(database, objects, {one: label("a") for one in ids})
    run(database, objects)
    again = shadows(database, beside.trial.id)
    answer(database, objects, {one: label("b") for one in again.values()})
    for found in list(objects.list("packs/")):
        objects.delete([found.key])
        objects.put(found.key, bytes(found.size_bytes))
    clock.pass_ms(1_000)
    assert run(database, objects) == Looked()
    assert (beside.now().compared, beside.now().progress.id != "") == (0, True)


def test_of_the_answers_compared_the_last_count(
    database: Database, objects: Objects, clock: ManualClock
) -> None:
    """It agreed for long, and does not any more."""
    beside = begin(database, kind=TrialKind.SHADOW, limits=SHADOW)
    agreed = Progress(recent="s" * RECENT_JOBS)
    with database.begin() as tx:
        tx.trials.note(beside.trial.id, {}, agreed, compared=100_000)
    pairs = [AnsweredTwice(new_id(), 5, new_id(), own, other) for own, other in slices(600)]
    answers = {one: label("a") for one, _ in slices(600)}
    answers |= {other: label("b") for _, other in slices(600)}
    found = compared(beside.now(), pairs, answers)
    assert (found.compared, found.disagreed) == (600, 600)
    assert found.progress.recent == "s" * 400 + "d" * 600


def slices(count: int, length_bytes: int = 1) -> list[tuple[PackSlice, PackSlice]]:
    return [
        (PackSlice("p", at, length_bytes, "d"), PackSlice("q", at, length_bytes, "d"))
        for at in range(count)
    ]


def test_so_many_answers_are_read_at_once_as_fit_into_memory() -> None:
    def pairs(count: int, size: int) -> list[AnsweredTwice]:
        return [AnsweredTwice("s", 1, "j", own, other) for own, other in slices(count, size)]

    assert len(in_bytes(pairs(9, 4 << 20))) == 4
    assert len(in_bytes(pairs(500, 1_000))) == 500
    (large, *others) = in_bytes(pairs(3, 64 << 20))
    assert (large.own, large.shadow, len(others)) == (None, None, 2)
    assert in_bytes([]) == []


def states_of(database: Database, ids: Sequence[str]) -> list[str]:
    with database.read() as tx:
        return [one.state.value for one in tx.jobs.glimpse(ids)]
