"""Trials are one to an alias, end once, and leave no job with a version that is not tried any more:
on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.database import Database
from storage.records.errors import Conflict
from storage.records.jobs import JobError, JobState
from storage.records.models import ModelRef
from storage.records.trials import (
    RECENT_JOBS,
    ArmSeen,
    Disagreement,
    Limits,
    Progress,
    TrialState,
)
from tests.support.database import (
    ALICE,
    BOB,
    START_MS,
    ManualClock,
    claim,
    finish,
    new_id,
    open_pack,
    open_session,
    submit,
    success,
    summary,
)
from tests.support.trials import ALIAS, NAME, begin, new_trial


def test_what_is_started_is_read_back(database: Database) -> None:
    trial = new_trial(database, limits=Limits(disagreement=0.25), started_by="fbk_1")
    with database.begin() as tx:
        started = tx.trials.start(trial)
    assert started == replace(trial, created_at=START_MS)
    with database.read() as tx:
        assert tx.trials.get(trial.id, tenant=ALICE) == started
        assert tx.trials.get(trial.id, tenant=BOB) is None
        assert tx.trials.get("no id") is None
        assert tx.trials.of_alias(ALICE, NAME, ALIAS, 9) == [started]
        assert tx.trials.of_alias(BOB, NAME, ALIAS, 9) == []
        assert tx.trials.unsettled() == [trial.id]


def test_an_alias_has_one_trial_at_a_time(database: Database) -> None:
    beside = begin(database)
    second = replace(beside.trial, id=new_id())
    with pytest.raises(Conflict) as refused, database.begin() as tx:
        tx.trials.start(second)
    assert refused.value.stable_code == "trial_running"
    with database.begin() as tx:
        assert tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
        assert tx.trials.start(second).state is TrialState.RUNNING
    begin(database, BOB)  # theirs is another


def test_who_submits_to_the_alias_finds_the_trial(database: Database) -> None:
    beside = begin(database)
    prod = ModelRef(NAME, alias=ALIAS)
    with database.read() as tx:
        version, trial = tx.models.resolve_tried(ALICE, prod)
        assert (version.id, trial) == (beside.trial.base_version_id, beside.trial)
        assert tx.models.resolve_tried(ALICE, ModelRef(NAME))[1] is None
        assert tx.models.resolve_tried(ALICE, ModelRef(NAME, version=1))[1] is None
    with database.begin() as tx:
        tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
    with database.read() as tx:
        assert tx.models.resolve_tried(ALICE, prod)[1] is None


def test_it_ends_once_and_what_is_queued_for_the_candidate_goes_back(database: Database) -> None:
    beside = begin(database)
    queued, base = beside.submit(count=3), beside.submit("base", 2)
    session, running = open_session(database), beside.submit()
    (held,) = claim(database, session, running)
    with database.begin() as tx:
        assert tx.trials.end(beside.trial, TrialState.RETURNED, "6 of 50 failed")
        assert not tx.trials.end(beside.trial, TrialState.STOPPED, "too late")
    now = beside.now()
    assert (now.state, now.reason, now.repointed) == (TrialState.RETURNED, "6 of 50 failed", 3)
    assert now.ended_at == START_MS
    assert beside.versions(queued) == [1, 1, 1]
    assert beside.versions(base + running) == [1, 1, 2]
    with database.begin() as tx:  # what comes back late goes back late
        assert tx.jobs.release(session, [(held.id, held.epoch)])
        assert tx.trials.give_back(now) == 1
    assert beside.versions(running) == [1]
    assert beside.now().repointed == 4


def test_a_promotion_leaves_every_job_with_its_version(database: Database) -> None:
    beside = begin(database)
    queued, base = beside.submit(count=2), beside.submit("base", 2)
    with database.begin() as tx:
        tx.trials.alias_moved(ALICE, NAME, ALIAS, beside.trial.candidate_version)
    assert beside.now().state is TrialState.PROMOTED
    assert beside.versions(queued + base) == [2, 2, 1, 1]


def test_an_alias_that_is_moved_elsewhere_stops_its_trial(database: Database) -> None:
    beside = begin(database)
    queued = beside.submit(count=2)
    with database.begin() as tx:
        tx.trials.alias_moved(ALICE, NAME, "other", 7)
        tx.trials.alias_moved(BOB, NAME, ALIAS, 7)
        tx.trials.alias_moved(ALICE, NAME, ALIAS, beside.trial.base_version)  # where it stood
    assert beside.now().state is TrialState.RUNNING
    with database.begin() as tx:
        tx.trials.alias_moved(ALICE, NAME, ALIAS, 7)
    now = beside.now()
    assert (now.state, now.reason) == (TrialState.STOPPED, "'prod' was moved to version 7")
    assert beside.versions(queued) == [1, 1]


def test_a_candidate_that_breaks_fails_no_job_that_it_was_given_to_try(database: Database) -> None:
    beside = begin(database)
    version_id = beside.trial.candidate_version_id
    tried, named = beside.submit(count=2), submit(database, version_id=version_id, version=2)
    with database.begin() as tx:
        tx.models.mark_broken(version_id, "it kills its workers", even_ready=True)
        tx.trials.give_up(version_id, "it cannot be served: kills_its_worker")
        assert tx.jobs.fail_version(version_id, JobError("kills_its_worker", "no")) == 1
    assert beside.versions(tried) == [1, 1]
    with database.read() as tx:
        states = [job.state for job in tx.jobs.get_many(ALICE, tried + named)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert (beside.now().state, beside.now().repointed) == (TrialState.RETURNED, 2)
    late = beside.submit(count=1)  # a submit that had looked before
    with database.begin() as tx:  # whoever fails the version's jobs does not fail it
        assert tx.jobs.fail_version(version_id, JobError("kills_its_worker", "no")) == 0
        tx.trials.give_up(version_id, "again")
    assert beside.versions(late) == [1]
    assert beside.now().reason == "it cannot be served: kills_its_worker"


def test_arms_count_what_a_version_can_help(database: Database, clock: ManualClock) -> None:
    beside = begin(database)
    session = open_session(database)
    good = beside.submit(count=3)
    claimed = claim(database, session, good[:2])
    clock.pass_ms(40)
    pack = open_pack(database)
    with database.begin() as tx:
        outcomes = [success(job, pack, place) for place, job in enumerate(claimed)]
        tx.jobs.commit(session, outcomes, packs=[summary(pack, 2)])
    finish(database, session, good[2:])
    beside.fail(2)
    lost, cancelled = beside.submit(), beside.submit()
    with database.begin() as tx:
        tx.jobs.fail(lost, JobError("lost", "the worker was lost each time"))
        assert tx.jobs.request_cancel(ALICE, cancelled[0])
    finish(database, session, beside.submit("base", 4))
    with database.read() as tx:
        assert tx.trials.arm(beside.trial.candidate_arm_id) == ArmSeen(5, 2, 40.0)
        assert tx.trials.arm(beside.trial.base_arm_id) == ArmSeen(4, 0, 0.0)
        assert tx.trials.arm(beside.trial.shadow_arm_id) == ArmSeen()
        assert tx.trials.live(beside.trial.candidate_arm_id, 9) == 0


def test_what_was_counted_is_kept(database: Database) -> None:
    beside = begin(database)
    seen, progress = {"candidate": ArmSeen(3, 1, 2.5), "base": ArmSeen()}, Progress(5, new_id())
    with database.begin() as tx:
        tx.trials.note(beside.trial.id, seen, progress, compared=4, disagreed=1)
        tx.trials.note(beside.trial.id, seen, progress, compared=2)
    now = beside.now()
    assert (now.seen, now.progress, now.compared, now.disagreed) == (seen, progress, 6, 1)
    with database.begin() as tx:
        tx.trials.end(now, TrialState.STOPPED, "enough")
        tx.trials.settle(now.id)
        assert tx.trials.unsettled() == []
        assert tx.trials.hold(now.id) is None


def test_trials_that_need_a_version_are_found(database: Database) -> None:
    beside = begin(database)
    with database.begin() as tx:
        for version in (beside.trial.base_version_id, beside.trial.candidate_version_id):
            assert [one.id for one in tx.trials.on_version(version)] == [beside.trial.id]
        assert tx.trials.on_version(new_id()) == []
        tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
        assert tx.trials.on_version(beside.trial.base_version_id) == []


def test_an_aliases_own_trials_are_listed(database: Database) -> None:
    beside = begin(database)
    other = replace(beside.trial, id=new_id(), alias="beta")
    with database.begin() as tx:
        tx.trials.start(other)
        assert [one.id for one in tx.trials.of_alias(ALICE, NAME, ALIAS, 1)] == [beside.trial.id]
        assert [one.id for one in tx.trials.of_alias(ALICE, NAME, "beta", 9)] == [other.id]
        assert [one.id for one in tx.trials.of_alias(ALICE, NAME, ALIAS, 9)] == [beside.trial.id]
        assert tx.trials.of_alias(BOB, NAME, ALIAS, 9) == []


def test_the_answers_that_it_showed_are_forgotten_in_time(
    database: Database, clock: ManualClock
) -> None:
    beside = begin(database)
    shown = Progress(5, new_id(), "d", (Disagreement("j", 1, 2),))
    with database.begin() as tx:
        tx.trials.note(beside.trial.id, {}, shown, compared=1, disagreed=1)
        assert tx.trials.forget(START_MS + 9) == 0  # it runs
        tx.trials.end(beside.trial, TrialState.STOPPED, "enough")
        assert tx.trials.forget(START_MS) == 0
        assert tx.trials.forget(START_MS + 1) == 1
        assert tx.trials.forget(START_MS + 1) == 0
    assert beside.now().progress == Progress()
    assert beside.now().disagreed == 1


def test_what_says_nothing_of_a_version_takes_no_place_among_the_last(database: Database) -> None:
    beside = begin(database)
    beside.fail(3)
    beside.submit(count=RECENT_JOBS)
    with database.begin() as tx:
        assert tx.jobs.cancel_arm(beside.trial.candidate_arm_id) == RECENT_JOBS
    with database.read() as tx:
        assert tx.trials.arm(beside.trial.candidate_arm_id) == ArmSeen(3, 3)
