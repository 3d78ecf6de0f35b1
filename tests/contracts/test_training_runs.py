"""Training runs: gone on with by whoever owns the job, steered by their tenant, read by anyone."""

from __future__ import annotations

import pytest

from storage.records.errors import Conflict
from storage.records.jobs import MOST_REST_MS, JobError, JobKind, JobState, Outcome, Verdict
from storage.records.models import VersionState
from storage.records.packs import STALE_AFTER_MS, PackState
from storage.records.training_runs import (
    Checkpoint,
    Measures,
    Phase,
    Scope,
    TrainingControl,
    TrainingProgress,
    curves_of,
)
from tests.contracts.test_database_bulk_races import at_once
from tests.support.bulk import Owned
from tests.support.database import (
    ALICE,
    BOB,
    POOL,
    START_MS,
    claim,
    new_id,
    new_jobs,
    open_session,
)
from tests.support.training import (
    MADE,
    epoch,
    finish_training,
    keep,
    note,
    own_training,
    put_checkpoint,
    steps,
    submit_training,
)
from tests.support.waiting import wait_until

GO, PAUSE, STOP, LOST = (
    TrainingControl.GO,
    TrainingControl.PAUSE,
    TrainingControl.STOP,
    TrainingControl.LOST,
)


def run_of(database, job_id):
    with database.read() as tx:
        return tx.training.run(job_id)


def seq_of(database, job_id):
    with database.read() as tx:
        return tx.jobs.get(ALICE, job_id).seq


def waiting(database):
    """What a relay would send."""
    with database.read() as tx:
        return [head.id for head in tx.backlog.heads(POOL, ALICE, 9)]


def control_of(database, owned: Owned):
    with database.read() as tx:
        return tx.training.control(owned.job_id, owned.session_id, owned.epoch)


def begin(database, owned: Owned):
    with database.begin() as tx:
        return tx.training.begin(owned.job_id, owned.session_id, owned.epoch)


def died(database, owned: Owned) -> int:
    with database.begin() as tx:
        return tx.training.died(owned.job_id, owned.session_id, owned.epoch)


class TestCreating:
    def test_a_run_comes_with_its_job_and_no_other(self, database):
        plain = {"max_attempts": 1, "version_id": new_id()}
        jobs = [*new_jobs(1, kind=JobKind.TRAINING, **plain), *new_jobs(1)]
        with database.begin() as tx:
            tx.jobs.submit(ALICE, jobs)
            tx.training.create(ALICE, jobs)
        with database.read() as tx:
            run = tx.training.run(jobs[0].id)
            assert run == tx.training.run(jobs[0].id, tenant=ALICE)
            assert tx.training.run(jobs[0].id, tenant=BOB) is None
            assert tx.training.run(jobs[1].id) is None
            assert tx.training.run("no id") is None
        assert (run.tenant, run.created_at, run.version_id) == (
            ALICE,
            START_MS,
            jobs[0].version_id,
        )
        assert run.progress == TrainingProgress()
        assert (run.paused_at, run.checkpoint, run.deaths) == (None, None, 0)
        assert (run.data, run.result, run.error) == (None, None, None)


class TestNotes:
    def test_what_is_noted_is_read_as_it_was_written(self, database, clock):
        owned = own_training(database)
        clock.pass_ms(5)
        told = {
            "phase": Phase.TRAINING,
            "epoch": 1,
            "epochs": 3,
            "step": 10,
            "steps": 30,
            "rows_per_s": 12.5,
            "batch_size": 32,
            "trained_s": 1.25,
            "latest": {"loss": 0.5},
        }
        measures = [steps(1, 4), steps(5, 10), epoch(1, 10)]
        assert note(database, owned, measures, ["begins", "größe ☃"], **told) is GO
        assert note(database, owned, lines=["goes on"], **told) is GO
        with database.read() as tx:
            assert tx.training.run(owned.job_id).progress == TrainingProgress(**told)
            assert tx.training.measures(owned.job_id) == measures
            assert tx.training.measures(owned.job_id, scope=Scope.EPOCH) == measures[2:]
            assert tx.training.measures(owned.job_id, after_step=4) == measures[1:]
            assert tx.training.measures(owned.job_id, scope=Scope.STEPS, after_step=9) == [
                measures[1]
            ]
            lines = tx.training.log(owned.job_id)
            assert [(one.number, one.at, one.text) for one in lines] == [
                (1, START_MS + 5, "begins"),
                (2, START_MS + 5, "größe ☃"),
                (3, START_MS + 5, "goes on"),
            ]
            assert tx.training.log(owned.job_id, after=1, limit=1) == lines[1:2]
            assert tx.training.measures("no id") == tx.training.log("no id") == []
        assert curves_of(measures)["steps"]["step"] == list(range(1, 11))

    def test_watchers_are_told_once_for_what_is_new_and_not_for_what_is_not(self, database):
        owned = own_training(database)
        before = seq_of(database, owned.job_id)
        assert note(database, owned, [steps(1, 2)], ["x"], step=2) is GO
        assert seq_of(database, owned.job_id) == before + 1
        assert note(database, owned, step=2) is GO
        assert seq_of(database, owned.job_id) == before + 1
        assert note(database, owned, lines=["y"], step=2) is GO
        assert note(database, owned, step=3) is GO
        assert seq_of(database, owned.job_id) == before + 3

    def test_measures_said_again_are_there_once_and_the_last_word_counts(self, database):
        owned = own_training(database)
        assert note(database, owned, [steps(1, 4), epoch(1, 4)], step=4) is GO
        again = Measures(Scope.STEPS, 4, {"step": [4], "loss": [None]})
        assert note(database, owned, [steps(1, 4), again, epoch(1, 4)], step=4) is GO
        with database.read() as tx:
            assert tx.training.measures(owned.job_id) == [again, epoch(1, 4)]

    def test_what_no_engine_can_hold_is_mended(self, database):
        owned = own_training(database)
        odd = Measures(Scope.STEPS, 1, {"step": [1], "loss": [float("nan")], "a\x00": [1]})
        assert note(database, owned, [odd], ["a\x00b\ud800", "x" * 5_000]) is GO
        assert note(database, owned, latest={"loss": float("inf"), "acc": 1.0}) is GO
        with database.read() as tx:
            lines = [one.text for one in tx.training.log(owned.job_id)]
            assert lines == ["a\ufffdb?", "x" * 4_000]
            assert tx.training.measures(owned.job_id)[0].values["loss"] == [None]
            assert tx.training.run(owned.job_id).progress.latest == {"acc": 1.0}

    def test_what_the_data_are_is_kept(self, database):
        owned = own_training(database)
        data = {"rows": {"train": 8}, "labels": ["a", "b"]}
        with database.begin() as tx:
            assert tx.training.describe(owned.job_id, owned.session_id, owned.epoch, data)
        assert run_of(database, owned.job_id).data == data


class TestTheFence:
    @pytest.mark.parametrize("who", ["session", "epoch", "job", "queued"])
    def test_only_whoever_owns_the_job_writes(self, database, who):
        owned = own_training(database)
        job_id, session_id, number = owned.job_id, owned.session_id, owned.epoch
        stranger = {
            "session": Owned(job_id, open_session(database), number),
            "epoch": Owned(job_id, session_id, number + 1),
            "job": Owned(new_id(), session_id, number),
            "queued": Owned(submit_training(database), session_id, 0),
        }[who]
        assert keep(database, owned, put_checkpoint(database, 10))
        assert note(database, owned, [steps(1, 12)], step=12) is GO
        before = run_of(database, job_id), seq_of(database, job_id)
        other = put_checkpoint(database, 20)
        assert note(database, stranger, [steps(13, 14)], ["x"], step=14) is LOST
        assert control_of(database, stranger) is LOST
        assert begin(database, stranger) is None
        assert not keep(database, stranger, other)
        assert died(database, stranger) == 0
        assert not finish_training(database, stranger)
        with database.begin() as tx:
            them = (stranger.job_id, stranger.session_id, stranger.epoch)
            assert not tx.training.describe(*them, {})
            assert not tx.training.fail(*them, JobError("c", "m"))
        assert (run_of(database, job_id), seq_of(database, job_id)) == before
        with database.read() as tx:
            assert tx.training.measures(job_id) == [steps(1, 12)]
            assert tx.training.log(job_id) == []
            assert tx.packs.get(other.pack_id).state is PackState.WRITING
            version = tx.models.by_id(before[0].version_id)
        assert version.state is VersionState.TRAINING


class TestGoingOn:
    def test_what_was_measured_behind_the_checkpoint_is_forgotten_and_the_log_stays(self, database):
        owned, other = own_training(database), own_training(database)
        assert note(database, other, [steps(1, 99)], step=99) is GO
        assert note(database, owned, [steps(1, 10), epoch(1, 10)], ["a"], step=10) is GO
        assert keep(database, owned, put_checkpoint(database, 10))
        assert note(database, owned, [steps(11, 15), epoch(2, 15)], ["b"], step=15) is GO
        run = begin(database, owned)
        assert run == run_of(database, owned.job_id)
        assert (run.checkpoint.step, run.checkpoint.epoch) == (10, 1)
        with database.read() as tx:
            assert tx.training.measures(owned.job_id) == [steps(1, 10), epoch(1, 10)]
            assert tx.training.measures(other.job_id) == [steps(1, 99)]
            assert [one.text for one in tx.training.log(owned.job_id)] == ["a", "b"]
        assert note(database, owned, [steps(11, 12)], ["c"], step=12) is GO
        with database.read() as tx:
            assert [one.number for one in tx.training.log(owned.job_id)] == [1, 2, 3]

    def test_without_a_checkpoint_it_begins_anew(self, database):
        owned = own_training(database)
        assert note(database, owned, [steps(1, 10), epoch(1, 10)], step=10) is GO
        assert begin(database, owned).checkpoint is None
        with database.read() as tx:
            assert tx.training.measures(owned.job_id) == []

    def test_a_run_that_is_done_keeps_all_it_measured(self, database):
        owned = own_training(database)
        assert note(database, owned, [steps(1, 10)], step=10) is GO
        assert finish_training(database, owned)
        run = begin(database, owned)
        assert (run.result, run.progress.phase) == ({"accuracy": 0.5}, Phase.DONE)
        with database.read() as tx:
            assert tx.training.measures(owned.job_id) == [steps(1, 10)]

    def test_somebody_else_goes_on_from_the_same_checkpoint(self, database):
        first = own_training(database)
        assert keep(database, first, put_checkpoint(database, 10))
        with database.begin() as tx:
            tx.sessions.close(first.session_id)
            assert tx.jobs.reap() == 1
        second = own_training(database, first.job_id)
        assert second.epoch == first.epoch + 1
        assert note(database, first, [steps(11, 12)], step=12) is LOST
        assert begin(database, second).checkpoint.step == 10


class TestCheckpoints:
    def test_the_last_one_is_live_and_the_one_before_it_doomed(self, database, clock):
        owned = own_training(database)
        first, second = put_checkpoint(database, 10), put_checkpoint(database, 20)
        clock.pass_ms(7)
        assert keep(database, owned, first)
        kept = run_of(database, owned.job_id).checkpoint
        assert kept == Checkpoint(
            first.pack_id, first.key, "c" * 64, 77, epoch=1, step=10, made_at=START_MS + 7
        )
        assert keep(database, owned, second)
        assert run_of(database, owned.job_id).checkpoint.step == 20
        with database.read() as tx:
            assert [pack.key for pack in tx.packs.doomed()] == [first.key]
            live = tx.packs.get(second.pack_id)
        assert (live.state, live.entries, live.size_bytes) == (PackState.LIVE, 1, 77)

    def test_said_again_it_is_the_same(self, database):
        owned, checkpoint = own_training(database), put_checkpoint(database, 10)
        assert keep(database, owned, checkpoint)
        assert keep(database, owned, checkpoint)
        with database.read() as tx:
            assert tx.packs.doomed() == []
            assert tx.packs.get(checkpoint.pack_id).state is PackState.LIVE

    def test_one_that_a_collector_took_is_refused_and_the_one_before_stays(self, database, clock):
        owned = own_training(database)
        assert keep(database, owned, put_checkpoint(database, 10))
        late = put_checkpoint(database, 20)
        clock.pass_ms(STALE_AFTER_MS)
        with pytest.raises(Conflict) as refused:
            keep(database, owned, late)
        assert refused.value.stable_code == "pack_not_writable"
        assert run_of(database, owned.job_id).checkpoint.step == 10
        with database.read() as tx:
            assert tx.packs.doomed() == []

    def test_deaths_and_losses_count_since_the_last_one(self, database):
        owned = own_training(database)
        assert [died(database, owned), died(database, owned)] == [1, 2]
        assert run_of(database, owned.job_id).deaths == 2
        with database.begin() as tx:
            tx.sessions.close(owned.session_id)
            assert tx.jobs.reap() == 1
        owned = own_training(database, owned.job_id)
        assert self._losses(database, owned) == 1
        assert keep(database, owned, put_checkpoint(database, 10))
        assert run_of(database, owned.job_id).deaths == 0
        assert self._losses(database, owned) == 0
        assert died(database, owned) == 1

    @staticmethod
    def _losses(database, owned: Owned) -> int:
        with database.read() as tx:
            return tx.jobs.get(ALICE, owned.job_id).losses


class TestSteering:
    def test_pause_and_resume_are_seen_by_control_and_note(self, database, clock):
        owned = own_training(database)
        before = seq_of(database, owned.job_id)
        clock.pass_ms(3)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            assert tx.training.pause(ALICE, owned.job_id)
        assert seq_of(database, owned.job_id) == before + 1
        assert run_of(database, owned.job_id).paused_at == START_MS + 3
        assert control_of(database, owned) is PAUSE
        assert note(database, owned, step=1) is PAUSE
        assert note(database, owned, step=1) is PAUSE  # nothing new
        assert keep(database, owned, put_checkpoint(database, 1))
        with database.begin() as tx:
            assert tx.training.resume(ALICE, owned.job_id)
        assert control_of(database, owned) is GO
        assert note(database, owned, step=2) is GO

    def test_a_queued_one_that_is_paused_is_nobodys_until_it_goes_on(self, database, clock):
        job_id, session = submit_training(database), open_session(database, lease_ttl_ms=10**9)
        with database.begin() as tx:
            tx.backlog.mark_published([job_id])
            assert tx.training.pause(ALICE, job_id)
        clock.pass_ms(10)
        assert (waiting(database), claim(database, session, [job_id])) == ([], [])
        with database.begin() as tx:
            assert tx.backlog.load(POOL) == []
            assert tx.training.resume(ALICE, job_id)
        assert waiting(database) == [job_id]
        assert control_of(database, own_training(database, job_id, session)) is GO

    @pytest.mark.parametrize("way", ["release", "retry", "reap"])
    def test_one_that_is_given_back_while_it_is_paused_is_nobodys_until_it_goes_on(
        self, database, way
    ):
        owned = own_training(database)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            if way == "reap":
                tx.sessions.close(owned.session_id)
                assert tx.jobs.reap() == 1
            else:
                verdict = Verdict.RELEASED if way == "release" else Verdict.RETRY
                error = JobError("lost", "it was lost")
                back = Outcome(owned.job_id, owned.epoch, verdict, False, error=error)
                assert tx.jobs.commit(owned.session_id, [back]).settled
        other = open_session(database)
        assert (waiting(database), claim(database, other, [owned.job_id])) == ([], [])
        with database.begin() as tx:
            assert tx.training.resume(ALICE, owned.job_id)
        assert waiting(database) == [owned.job_id]
        (again,) = claim(database, other, [owned.job_id])
        assert (again.epoch, again.attempts) == (2, 0)

    @pytest.mark.parametrize("end", ["made", "failed"])
    def test_one_that_has_only_to_be_ended_is_ended_even_in_a_pause(self, database, end):
        owned = own_training(database)
        them = (owned.job_id, owned.session_id, owned.epoch)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            if end == "failed":
                assert tx.training.fail(*them, JobError("loss_is_nan", "no"))
        if end == "made":
            assert finish_training(database, owned)
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        assert own_training(database, owned.job_id).epoch == 2

    def test_one_that_is_set_apart_is_cancelled_at_once(self, database):
        job_id = submit_training(database)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, job_id)
        with database.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, job_id).state is JobState.CANCELLED

    def test_the_time_of_a_pause_does_not_count_for_the_run_timeout(self, database, clock):
        owned = own_training(database, submit_training(database, run_timeout_ms=1_000))
        clock.pass_ms(400)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
        clock.pass_ms(5_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 0
            assert tx.training.resume(ALICE, owned.job_id)
            assert tx.training.resume(ALICE, owned.job_id)  # nothing is added twice
        clock.pass_ms(599)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1
            assert tx.jobs.get(ALICE, owned.job_id).error.code == "run_timeout"

    def test_one_whose_owner_does_not_come_to_rest_in_a_pause_has_a_deadline_too(
        self, database, clock
    ):
        owned = own_training(database, submit_training(database, run_timeout_ms=1_000))
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
        clock.pass_ms(1_000 + MOST_REST_MS)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1

    def test_a_cancelled_one_has_a_deadline_even_in_a_pause(self, database, clock):
        owned = own_training(database, submit_training(database, run_timeout_ms=1_000))
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            tx.jobs.request_cancel(ALICE, owned.job_id)
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1
            assert tx.jobs.get(ALICE, owned.job_id).state is JobState.CANCELLED

    def test_a_cancel_is_seen_by_control_and_note_even_in_a_pause(self, database):
        owned = own_training(database)
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            tx.jobs.request_cancel(ALICE, owned.job_id)
        assert control_of(database, owned) is STOP
        assert note(database, owned, step=1) is STOP
        assert note(database, owned, step=1) is STOP

    def test_nobody_steers_what_is_not_theirs_or_over(self, database):
        job_id = submit_training(database)
        with database.begin() as tx:
            assert not tx.training.pause(BOB, job_id)
            assert not tx.training.resume(BOB, job_id)
            assert not tx.training.pause(ALICE, new_id())
            assert not tx.training.pause(ALICE, "no id")
            tx.jobs.request_cancel(ALICE, job_id)
        with database.begin() as tx:
            assert not tx.training.pause(ALICE, job_id)


class TestExpiry:
    """``expires_in_s`` is how long a job may wait to be started."""

    def test_one_that_has_begun_was_started_in_time(self, database, clock):
        owned = own_training(database, submit_training(database, expires_in_ms=1_000))
        assert note(database, owned, step=1, phase=Phase.TRAINING) is GO
        clock.pass_ms(5_000)
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        with database.begin() as tx:
            assert tx.jobs.expire() == 0
            job = tx.jobs.get(ALICE, owned.job_id)
            assert (job.state, job.expires_at) == (JobState.QUEUED, START_MS + 1_000)
        assert waiting(database) == [owned.job_id]
        again = own_training(database, owned.job_id)
        with database.begin() as tx:
            tx.sessions.close(again.session_id)
            assert tx.jobs.reap() == 1
            assert tx.jobs.expire() == 0
        assert own_training(database, owned.job_id).epoch == 3

    def test_one_that_has_begun_may_lie_for_a_while_not_for_ever(self, database, clock):
        owned = own_training(database, submit_training(database, expires_in_ms=1_000))
        assert note(database, owned, step=1, phase=Phase.TRAINING) is GO
        with database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        clock.pass_ms(MOST_REST_MS - 1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 0
            assert tx.training.resume(ALICE, owned.job_id)  # its time begins anew
        clock.pass_ms(MOST_REST_MS - 1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 1
            assert tx.jobs.get(ALICE, owned.job_id).state is JobState.EXPIRED

    def test_a_long_time_to_start_is_not_made_shorter(self, database, clock):
        long_ms = 3 * MOST_REST_MS
        owned = own_training(database, submit_training(database, expires_in_ms=long_ms))
        assert note(database, owned, step=1, phase=Phase.TRAINING) is GO
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        clock.pass_ms(long_ms - 1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 1

    def test_one_that_is_made_and_waits_for_its_end_does_not_expire(self, database, clock):
        owned = own_training(database, submit_training(database, expires_in_ms=1_000))
        assert finish_training(database, owned)
        clock.pass_ms(1_000)
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        with database.begin() as tx:
            assert tx.jobs.expire() == 0

    def test_one_that_was_only_claimed_or_paused_does(self, database, clock):
        owned = own_training(database, submit_training(database, expires_in_ms=1_000))
        paused = submit_training(database, name="other", expires_in_ms=1_000)
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
            assert tx.training.pause(ALICE, paused)
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert tx.jobs.expire() == 2


class TestEnds:
    def test_what_was_said_first_of_a_failure_stays(self, database):
        owned = own_training(database)
        them = (owned.job_id, owned.session_id, owned.epoch)
        with database.begin() as tx:
            assert tx.training.fail(*them, JobError("loss_is_nan", "at step 7"))
            assert tx.training.fail(*them, JobError("other", "later"))
        error = run_of(database, owned.job_id).error
        assert (error.code, error.message) == ("loss_is_nan", "at step 7")
        assert control_of(database, owned) is STOP
        assert note(database, owned, step=7) is STOP

    def test_what_was_asked_to_stop_makes_no_model(self, database):
        owned = own_training(database)
        version_id = run_of(database, owned.job_id).version_id
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, owned.job_id)
        assert not finish_training(database, owned)
        assert run_of(database, owned.job_id).result is None
        with database.read() as tx:
            assert tx.models.by_id(version_id).state is VersionState.TRAINING

    def test_what_has_made_its_model_is_done_and_cannot_be_cancelled(self, database):
        owned = own_training(database)
        assert finish_training(database, owned)
        with database.begin() as tx:
            job = tx.jobs.request_cancel(ALICE, owned.job_id)
        assert job.cancel_requested_at is None
        assert control_of(database, owned) is GO
        with database.begin() as tx:  # also while nobody has it
            tx.sessions.close(owned.session_id)
            tx.jobs.reap(limit=10)
        with database.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, owned.job_id).state is JobState.QUEUED
        assert finish_training(database, own_training(database, owned.job_id))

    def test_a_finished_run_has_its_result_and_fills_its_version_in(self, database):
        owned = own_training(database)
        run = run_of(database, owned.job_id)
        assert note(database, owned, phase=Phase.EVALUATING, step=30, steps=30) is GO
        assert finish_training(database, owned)
        run = run_of(database, owned.job_id)
        assert run.result == {"accuracy": 0.5}
        assert run.progress == TrainingProgress(phase=Phase.DONE, step=30, steps=30)
        with database.read() as tx:
            version = tx.models.by_id(run.version_id)
            assert tx.models.pending(10) == [version]
        assert version.state is VersionState.PENDING
        assert (version.digest, version.size_bytes) == (MADE.digest, MADE.size_bytes)
        assert (version.object_key, version.signature) == (MADE.object_key, MADE.signature)
        assert version.origin == MADE.origin

    def test_said_again_it_changes_nothing(self, database):
        owned = own_training(database)
        assert finish_training(database, owned)
        with database.begin() as tx:
            assert tx.models.mark_ready(run_of(database, owned.job_id).version_id, {})
        assert finish_training(database, owned)
        with database.read() as tx:
            version = tx.models.by_id(tx.training.run(owned.job_id).version_id)
        assert version.state is VersionState.READY

    def test_a_version_that_was_given_up_is_not_filled_in(self, database):
        owned = own_training(database)
        with database.begin() as tx:
            assert tx.models.abandon([run_of(database, owned.job_id).version_id], "no") == 1
        with pytest.raises(Conflict) as refused:
            finish_training(database, owned)
        assert refused.value.stable_code == "version_not_in_training"
        assert run_of(database, owned.job_id).result is None

    def test_a_run_of_a_claimed_job_is_its_sessions(self, database):
        job_id, session = submit_training(database), open_session(database)
        (job,) = claim(database, session, [job_id])
        assert begin(database, Owned(job_id, session, job.epoch)).job_id == job_id


def test_an_owner_its_tenant_and_its_successor_at_once_wait_for_none_in_a_circle(database):
    """Everything ends, and what the first owner writes after it was lost is nowhere."""
    first = own_training(database)

    def writes(owned: Owned) -> list[TrainingControl]:
        said = []
        for step in range(1, 21):
            said.append(note(database, owned, [steps(step, step)], [str(step)], step=step))
            if step % 5 == 0:
                keep(database, owned, put_checkpoint(database, step))
        return said

    def steers() -> None:
        for _ in range(20):
            for verb in ("pause", "resume"):
                with database.begin() as tx:
                    assert getattr(tx.training, verb)(ALICE, first.job_id)

    def collects() -> None:
        for _ in range(20):
            with database.begin() as tx:
                tx.packs.forget([pack.id for pack in tx.packs.doomed()])
                assert tx.models.abandon_orphans() == 0

    def succeeds() -> list[TrainingControl]:
        with database.begin() as tx:
            tx.sessions.close(first.session_id)
        wait_until(reaped, 60, what="the job to be queued again")
        wait_until(taken, 60, what="a moment in which it is not paused")
        second = claimed[0]
        assert begin(database, second) is not None
        return writes(second)

    claimed: list[Owned] = []
    successor = open_session(database, lease_ttl_ms=10**9)

    def taken() -> bool:
        jobs = claim(database, successor, [first.job_id])
        claimed.extend(Owned(job.id, successor, job.epoch) for job in jobs)
        return bool(claimed)

    def reaped() -> bool:
        with database.begin() as tx:
            return tx.jobs.reap() == 1  # which passes over what somebody holds just now

    before, _, _, after = at_once(lambda: writes(first), steers, collects, succeeds)
    assert LOST not in after
    lost = before.index(LOST) if LOST in before else len(before)
    assert set(before[lost:]) <= {LOST}
    with database.read() as tx:
        assert [one.step for one in tx.training.measures(first.job_id)] == list(range(1, 21))
        numbers = [one.number for one in tx.training.log(first.job_id)]
        assert numbers == list(range(1, lost + 21))
        assert tx.training.run(first.job_id).checkpoint.step == 20
