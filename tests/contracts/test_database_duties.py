"""Expire, time out, sweep, reap: a deadline on every state, in bounded steps."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.records.jobs import MAX_LOSSES, Job, JobError, JobState
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    START_MS,
    WITH_FAKE,
    claim,
    database_on,
    failure,
    finish,
    new_jobs,
    new_version,
    open_session,
    submit,
)

database = database_on(*WITH_FAKE)


def get(database: Database, job_id: str, tenant: str = ALICE) -> Job:
    with database.read() as tx:
        job = tx.jobs.get(tenant, job_id)
    assert job is not None
    return job


def states(database: Database, ids: list[str], tenant: str = ALICE) -> list[JobState]:
    return [get(database, one, tenant).state for one in ids]


class TestExpire:
    def test_jobs_that_were_not_started_in_time_expire(self, database, clock):
        (soon,), (later,) = submit(database, expires_in_ms=100), submit(database)
        (bobs,) = submit(database, BOB, expires_in_ms=100)
        (running,) = submit(database, expires_in_ms=100)
        claim(database, open_session(database), [running])
        clock.pass_ms(99)
        with database.begin() as tx:
            assert tx.jobs.expire() == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 2
        assert states(database, [soon, later, running]) == [
            JobState.EXPIRED,
            JobState.QUEUED,
            JobState.RUNNING,
        ]
        assert states(database, [bobs], BOB) == [JobState.EXPIRED]
        expired = get(database, soon)
        assert (expired.finished_at, expired.seq, expired.error) == (START_MS + 100, 2, None)

    def test_a_published_job_expires_too(self, database, clock):
        (job_id,) = submit(database, expires_in_ms=1)
        with database.begin() as tx:
            tx.backlog.mark_published([job_id])
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.expire() == 1

    def test_a_step_is_bounded_and_the_rest_follows(self, database, clock):
        submit(database, count=25, expires_in_ms=1)
        clock.pass_ms(1)
        steps = []
        for _ in range(4):
            with database.begin() as tx:
                steps.append(tx.jobs.expire(limit=10))
        assert steps == [10, 10, 5, 0]


class TestTimeOut:
    def test_a_run_past_its_deadline_spends_an_attempt_and_goes_back(self, database, clock):
        (job_id,) = submit(database, run_timeout_ms=1_000, max_attempts=2)
        session = open_session(database, lease_ttl_ms=10**9)
        (job,) = claim(database, session, [job_id])
        clock.pass_ms(999)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1
        row = get(database, job_id)
        assert (row.state, row.attempts, row.session_id) == (JobState.QUEUED, 1, None)
        with database.begin() as tx:
            assert tx.jobs.commit(session, [failure(job)]).lost == {job_id}

    def test_it_fails_when_the_attempts_are_spent(self, database, clock):
        (job_id,) = submit(database, run_timeout_ms=1_000, max_attempts=1)
        claim(database, open_session(database), [job_id])
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1
        row = get(database, job_id)
        assert (row.state, row.error.code, row.error.attempt) == (JobState.FAILED, "run_timeout", 1)

    def test_one_that_was_asked_to_stop_is_cancelled(self, database, clock):
        (job_id,) = submit(database, run_timeout_ms=1_000)
        claim(database, open_session(database), [job_id])
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job_id)
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1
        assert states(database, [job_id]) == [JobState.CANCELLED]


class TestSweep:
    def test_published_and_unclaimed_for_too_long_is_published_again(self, database, clock):
        ids = submit(database, count=3)
        with database.begin() as tx:
            assert tx.backlog.mark_published(ids[:2]) == set(ids[:2])
        claim(database, open_session(database), ids[:1])
        clock.pass_ms(14_999)
        with database.begin() as tx:
            assert tx.jobs.sweep(15_000) == 0
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.sweep(15_000) == 1
        with database.read() as tx:
            assert {head.id for head in tx.backlog.heads("default", ALICE, 9)} == set(ids[1:])
        assert get(database, ids[1]).seq == 1, "nothing happened to the job itself"

    def test_a_step_is_bounded(self, database, clock):
        ids = submit(database, count=5)
        with database.begin() as tx:
            tx.backlog.mark_published(ids)
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.jobs.sweep(0, limit=3) == 3
            assert tx.jobs.sweep(0, limit=3) == 2


class TestReap:
    def test_a_dead_sessions_jobs_go_back_and_nobody_is_blamed(self, database, clock):
        ids = submit(database, count=3)
        bobs = submit(database, BOB)
        dead = open_session(database)
        claim(database, dead, ids[:2] + bobs)
        clock.pass_ms(1)
        living = open_session(database)
        claim(database, living, ids[2:])
        clock.pass_ms(LEASE_MS - 1)
        with database.begin() as tx:
            assert tx.jobs.reap() == 3
        assert states(database, ids) == [JobState.QUEUED, JobState.QUEUED, JobState.RUNNING]
        row = get(database, ids[0])
        assert (row.losses, row.attempts, row.session_id) == (1, 0, None)
        assert get(database, bobs[0], BOB).losses == 1
        with database.read() as tx:
            assert [one.id for one in tx.sessions.live()] == [living]

    def test_a_session_that_was_ended_never_renews_claims_or_commits(self, database, clock):
        ids = submit(database, count=2)
        session = open_session(database)
        (job,) = claim(database, session, ids[:1])
        clock.pass_ms(LEASE_MS)
        with database.begin() as tx:
            assert tx.jobs.reap() == 1
        with database.begin() as tx:
            assert not tx.sessions.renew(session, LEASE_MS, 1.0)
            assert tx.jobs.claim(session, ids) == []
            assert tx.jobs.commit(session, [failure(job)]).lost == {ids[0]}

    def test_a_closed_session_is_reaped_without_waiting_for_its_lease(self, database):
        (job_id,) = submit(database)
        session = open_session(database)
        claim(database, session, [job_id])
        with database.begin() as tx:
            assert tx.jobs.reap() == 0
            tx.sessions.close(session)
            assert tx.jobs.reap() == 1
        assert states(database, [job_id]) == [JobState.QUEUED]

    def test_losses_end_in_the_end(self, database):
        (job_id,) = submit(database)
        for _ in range(MAX_LOSSES + 1):
            assert states(database, [job_id]) == [JobState.QUEUED]
            session = open_session(database)
            claim(database, session, [job_id])
            with database.begin() as tx:
                tx.sessions.close(session)
                assert tx.jobs.reap() == 1
        row = get(database, job_id)
        assert (row.state, row.error.code) == (JobState.FAILED, "lost")
        assert (row.losses, row.attempts) == (MAX_LOSSES + 1, 0)

    def test_one_that_was_asked_to_stop_is_cancelled(self, database):
        (job_id,) = submit(database)
        session = open_session(database)
        claim(database, session, [job_id])
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job_id)
            tx.sessions.close(session)
            assert tx.jobs.reap() == 1
        assert states(database, [job_id]) == [JobState.CANCELLED]

    def test_a_step_is_bounded(self, database):
        ids = submit(database, count=5)
        session = open_session(database)
        claim(database, session, ids)
        with database.begin() as tx:
            tx.sessions.close(session)
            assert [tx.jobs.reap(limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_broken_versions_queued_jobs_fail_and_no_others(database):
    broken = new_version(database)
    ids = submit(database, count=3, version_id=broken)
    bobs = submit(database, BOB, count=2, version_id=new_version(database, BOB))
    (other,) = submit(database)
    claim(database, open_session(database), ids[:1])
    with database.begin() as tx:
        assert tx.jobs.fail_version(broken, JobError("model_broken", "no"), limit=1) == 1
        assert tx.jobs.fail_version(broken, JobError("model_broken", "no"), limit=2) == 1
        assert tx.jobs.fail_version(broken, JobError("model_broken", "no"), limit=2) == 0
    assert states(database, [*ids, other]) == [
        JobState.RUNNING,
        JobState.FAILED,
        JobState.FAILED,
        JobState.QUEUED,
    ]
    assert get(database, ids[1]).error == JobError("model_broken", "no", 0)
    assert states(database, bobs, BOB) == [JobState.QUEUED] * 2


def test_queued_jobs_fail_by_name_also_in_the_transaction_that_writes_them(database):
    queued, running, over = submit(database, count=3)
    session = open_session(database)
    claim(database, session, [running])
    finish(database, session, [over])
    error = JobError("bad_input", "no")
    (new,) = new_jobs(1)
    with database.begin() as tx:
        tx.jobs.submit(ALICE, [new])
        assert tx.jobs.fail([queued, running, over, new.id], error) == 2
    assert states(database, [queued, running, over, new.id]) == [
        JobState.FAILED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
        JobState.FAILED,
    ]
    assert get(database, new.id).error == JobError("bad_input", "no", 0)


@pytest.mark.parametrize("duty", ["expire", "time_out", "reap"])
def test_duties_leave_finished_jobs_alone(database, clock, duty):
    ids = submit(database, count=2, expires_in_ms=1_000, run_timeout_ms=1_000)
    session = open_session(database)
    finish(database, session, ids)
    before = [get(database, one) for one in ids]
    clock.pass_ms(10**7)
    with database.begin() as tx:
        assert getattr(tx.jobs, duty)() == 0
    assert [get(database, one) for one in ids] == before
