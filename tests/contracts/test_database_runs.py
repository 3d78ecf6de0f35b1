"""Claim, commit, release, blame, cancel: work may run twice, its effect happens once."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.records.errors import Conflict
from storage.records.jobs import (
    Job,
    JobError,
    JobState,
    Outcome,
    PackSlice,
    Verdict,
)
from storage.records.packs import PackState
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
    new_id,
    new_job,
    open_pack,
    open_session,
    retry,
    submit,
    success,
    summary,
)

database = database_on(*WITH_FAKE)


def get(database: Database, job_id: str, tenant: str = ALICE) -> Job:
    with database.read() as tx:
        job = tx.jobs.get(tenant, job_id)
    assert job is not None
    return job


def commit(database: Database, session: str, outcomes, packs=()):
    with database.begin() as tx:
        return tx.jobs.commit(session, outcomes, packs=packs)


class TestClaim:
    def test_a_claim_takes_the_job_its_input_and_an_epoch(self, database, clock):
        job = new_job(payload=b"\x00\xff", priority=3, run_timeout_ms=7_000, expires_in_ms=60_000)
        with database.begin() as tx:
            tx.jobs.submit(ALICE, [job])
        session = open_session(database)
        clock.pass_ms(10)
        (claimed,) = claim(database, session, [job.id])
        assert (claimed.id, claimed.tenant, claimed.epoch) == (job.id, ALICE, 1)
        assert (claimed.payload, claimed.priority, claimed.attempts) == (b"\x00\xff", 3, 0)
        assert (claimed.claimed_at, claimed.suspicions) == (START_MS + 10, 0)
        assert claimed.run_deadline_at == START_MS + 10 + 7_000
        assert (claimed.created_at, claimed.expires_at) == (START_MS, START_MS + 60_000)
        row = get(database, job.id)
        assert (row.state, row.session_id, row.epoch) == (JobState.RUNNING, session, 1)
        assert (row.started_at, row.attempts, row.seq) == (START_MS + 10, 0, 2)

    def test_jobs_of_two_tenants_are_claimed_together_in_the_order_given(self, database):
        alices = submit(database, ALICE, 2)
        bobs = submit(database, BOB, 2)
        session = open_session(database)
        order = [bobs[1], alices[0], bobs[0], alices[1]]
        claimed = claim(database, session, [*order, order[0]])
        assert [job.id for job in claimed] == order
        assert [job.tenant for job in claimed] == [BOB, ALICE, BOB, ALICE]

    def test_a_job_is_claimed_once(self, database):
        ids = submit(database, count=2)
        first, second = open_session(database), open_session(database)
        assert len(claim(database, first, ids)) == 2
        assert claim(database, second, ids) == []
        assert claim(database, first, ids) == []
        assert get(database, ids[0]).session_id == first

    def test_no_claim_after_the_lease_by_the_databases_clock(self, database, clock):
        (job_id,) = submit(database)
        session = open_session(database)
        clock.pass_ms(LEASE_MS - 1)
        with database.begin() as tx:
            assert len(tx.jobs.claim(session, [job_id])) == 1
            tx.jobs.release(session, [(job_id, 1)])
        clock.pass_ms(1)
        assert claim(database, session, [job_id]) == []
        assert get(database, job_id).state is JobState.QUEUED

    def test_no_claim_for_a_session_that_closed_or_never_was(self, database):
        (job_id,) = submit(database)
        session = open_session(database)
        with database.begin() as tx:
            tx.sessions.close(session)
        assert claim(database, session, [job_id]) == []
        assert claim(database, new_id(), [job_id]) == []

    def test_no_claim_before_its_time_nor_after_it_expired(self, database, clock):
        (job_id,) = submit(database, expires_in_ms=10_000)
        session = open_session(database)
        (claimed,) = claim(database, session, [job_id])
        commit(database, session, [retry(claimed, in_ms=500)])
        clock.pass_ms(499)
        assert claim(database, session, [job_id]) == []
        clock.pass_ms(1)
        (again,) = claim(database, session, [job_id])
        assert (again.epoch, again.attempts) == (2, 1)
        with database.begin() as tx:
            tx.jobs.release(session, [(job_id, 2)])
        clock.pass_ms(9_500)
        assert claim(database, session, [job_id]) == []

    @pytest.mark.parametrize("end", ["cancelled", "succeeded"])
    def test_a_terminal_job_is_never_claimed(self, database, end):
        (job_id,) = submit(database)
        session = open_session(database)
        if end == "cancelled":
            with database.begin() as tx:
                tx.jobs.request_cancel(ALICE, job_id)
        else:
            finish(database, session, [job_id])
        before = get(database, job_id)
        assert claim(database, session, [job_id]) == []
        assert get(database, job_id) == before

    def test_an_unpublished_job_may_be_claimed_a_message_is_only_a_wake_up(self, database):
        (job_id,) = submit(database)
        assert len(claim(database, open_session(database), [job_id])) == 1


class TestCommit:
    def test_a_batch_is_settled_verdict_by_verdict(self, database, clock):
        ids = submit(database, count=4, max_attempts=2)
        session, pack = open_session(database), open_pack(database)
        jobs = claim(database, session, ids)
        clock.pass_ms(100)
        report = commit(
            database,
            session,
            [
                success(jobs[0], pack, 3),
                failure(jobs[1]),
                retry(jobs[2], in_ms=50),
                Outcome(jobs[3].id, 1, Verdict.RELEASED, entered_device=True),
            ],
            [summary(pack, 1)],
        )
        assert report.settled == {
            ids[0]: JobState.SUCCEEDED,
            ids[1]: JobState.FAILED,
            ids[2]: JobState.QUEUED,
            ids[3]: JobState.QUEUED,
        }
        assert report.lost == frozenset()
        succeeded, failed, retried, released = (get(database, one) for one in ids)
        assert succeeded.result == PackSlice(pack, 30, 10, "d" * 64)
        assert (succeeded.finished_at, succeeded.attempts) == (START_MS + 100, 1)
        assert succeeded.session_id == session
        assert failed.error == JobError("bad_item", "it is bad", attempt=1)
        assert failed.result is None
        assert (retried.attempts, retried.not_before) == (1, START_MS + 150)
        assert (retried.session_id, retried.started_at, retried.error) == (None, None, None)
        assert (released.attempts, released.not_before) == (0, START_MS + 100)
        assert {job.seq for job in (succeeded, failed, retried, released)} == {3}

    def test_only_what_entered_the_device_spends_an_attempt(self, database):
        ids = submit(database, count=2, max_attempts=3)
        session = open_session(database)
        jobs = claim(database, session, ids)
        commit(database, session, [retry(jobs[0]), retry(jobs[1], entered_device=False)])
        assert [get(database, one).attempts for one in ids] == [1, 0]

    def test_a_retry_fails_when_the_attempts_are_spent(self, database):
        (job_id,) = submit(database, max_attempts=2)
        session = open_session(database)
        states = []
        for _ in range(2):
            (job,) = claim(database, session, [job_id])
            states.append(commit(database, session, [retry(job)]).settled[job_id])
        assert states == [JobState.QUEUED, JobState.FAILED]
        assert get(database, job_id).error == JobError("hiccup", "try again", attempt=2)

    def test_what_could_not_start_in_time_expires_and_spends_nothing(self, database, clock):
        ids = submit(database, count=2)
        session = open_session(database)
        jobs = claim(database, session, ids)
        clock.pass_ms(7)
        late = [Outcome(job.id, job.epoch, Verdict.EXPIRED, job is jobs[1]) for job in jobs]
        report = commit(database, session, late)
        assert report.settled == dict.fromkeys(ids, JobState.EXPIRED)
        for row in (get(database, one) for one in ids):
            assert (row.state, row.error, row.result) == (JobState.EXPIRED, None, None)
            assert (row.attempts, row.finished_at, row.seq) == (0, START_MS + 7, 3)
        assert commit(database, session, late).lost == set(ids)

    def test_a_requeued_job_leaves_the_ready_window(self, database):
        (job_id,) = submit(database)
        session = open_session(database)
        with database.begin() as tx:
            assert tx.backlog.mark_published([job_id]) == {job_id}
        (job,) = claim(database, session, [job_id])
        commit(database, session, [retry(job)])
        assert get(database, job_id).published_at is None

    def test_a_second_commit_of_the_same_claim_is_lost(self, database):
        (job_id,) = submit(database)
        session, pack = open_session(database), open_pack(database)
        (job,) = claim(database, session, [job_id])
        assert commit(database, session, [failure(job)]).settled
        before = get(database, job_id)
        report = commit(database, session, [success(job, pack)], [summary(pack)])
        assert (report.settled, report.lost) == ({}, {job_id})
        assert get(database, job_id) == before

    @pytest.mark.parametrize("wrong", ["epoch", "session"])
    def test_a_stale_owner_changes_nothing(self, database, wrong):
        (job_id,) = submit(database)
        session, other = open_session(database), open_session(database)
        (job,) = claim(database, session, [job_id])
        with database.begin() as tx:
            tx.jobs.release(session, [(job_id, job.epoch)])
        owner = other if wrong == "session" else session
        (now,) = claim(database, owner, [job_id])
        report = commit(database, session, [failure(job)])
        assert report.lost == {job_id}
        assert get(database, job_id).state is JobState.RUNNING
        assert commit(database, owner, [failure(now)]).settled

    def test_knowing_the_epoch_is_not_enough_to_commit_for_another_session(self, database):
        (job_id,) = submit(database)
        owner, other = open_session(database), open_session(database)
        (job,) = claim(database, owner, [job_id])
        assert commit(database, other, [failure(job)]).lost == {job_id}
        assert commit(database, other, [retry(job)]).lost == {job_id}
        assert get(database, job_id).session_id == owner

    def test_a_pack_goes_live_with_the_jobs_that_point_into_it(self, database):
        ids = submit(database, count=2)
        session, pack, unused = open_session(database), open_pack(database), open_pack(database)
        jobs = claim(database, session, ids)
        outcomes = [success(job, pack, index) for index, job in enumerate(jobs)]
        commit(database, session, outcomes, [summary(pack, 2), summary(unused)])
        with database.read() as tx:
            live = tx.packs.get(pack)
            assert (live.state, live.entries, live.size_bytes) == (PackState.LIVE, 2, 20)
            assert tx.packs.get(unused).state is PackState.WRITING

    def test_a_pack_whose_every_job_was_lost_stays_for_the_collector(self, database):
        (job_id,) = submit(database)
        session, pack = open_session(database), open_pack(database)
        (job,) = claim(database, session, [job_id])
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job_id)
        commit(database, session, [success(job, pack)], [summary(pack)])
        with database.read() as tx:
            assert tx.packs.get(pack).state is PackState.WRITING

    def test_nothing_is_settled_when_a_collector_took_the_pack(self, database, clock):
        (job_id,) = submit(database)
        session, pack = open_session(database, lease_ttl_ms=10**8), open_pack(database)
        (job,) = claim(database, session, [job_id])
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert [one.id for one in tx.packs.doom_stale(500)] == [pack]
        with pytest.raises(Conflict) as refused:
            commit(database, session, [success(job, pack)], [summary(pack)])
        assert refused.value.stable_code == "pack_not_writable"
        assert get(database, job_id).state is JobState.RUNNING

    def test_a_success_needs_a_result_and_a_failure_an_error(self, database):
        with pytest.raises(ValueError, match="without a result"):
            commit(database, new_id(), [Outcome(new_id(), 1, Verdict.SUCCEEDED, True)])
        with pytest.raises(ValueError, match="without an error"):
            commit(database, new_id(), [Outcome(new_id(), 1, Verdict.FAILED, True)])

    def test_an_error_text_no_engine_can_hold_is_mended(self, database):
        (job_id,) = submit(database)
        session = open_session(database)
        (job,) = claim(database, session, [job_id])
        bad = JobError("odd", "a\x00b\ud800c" + "x" * 10_000)
        commit(database, session, [Outcome(job.id, 1, Verdict.FAILED, True, error=bad)])
        stored = get(database, job_id).error
        assert stored.message.startswith("a\ufffdb?c")
        assert len(stored.message) == 4_000

    def test_jobs_of_two_tenants_settle_in_one_batch(self, database):
        (alices,), (bobs,) = submit(database, ALICE), submit(database, BOB)
        session, pack = open_session(database), open_pack(database)
        jobs = claim(database, session, [alices, bobs])
        commit(database, session, [success(jobs[0], pack), failure(jobs[1])], [summary(pack)])
        assert get(database, alices, ALICE).state is JobState.SUCCEEDED
        assert get(database, bobs, BOB).state is JobState.FAILED

    def test_a_batch_of_nothing_commits(self, database):
        report = commit(database, new_id(), [])
        assert (report.settled, report.lost) == ({}, frozenset())


class TestReleaseAndBlame:
    def test_release_spends_nothing_and_only_gives_back_what_is_ours(self, database):
        ids = submit(database, count=3)
        session, other = open_session(database), open_session(database)
        claim(database, session, ids[:2])
        claim(database, other, ids[2:])
        with database.begin() as tx:
            back = tx.jobs.release(session, [(ids[0], 1), (ids[1], 9), (ids[2], 1)])
        assert back == {ids[0]}
        released = get(database, ids[0])
        assert (released.state, released.attempts, released.losses) == (JobState.QUEUED, 0, 0)
        assert get(database, ids[2]).session_id == other

    def test_one_that_was_alone_on_the_device_spends_an_attempt_until_none_is_left(self, database):
        ids = submit(database, count=2, max_attempts=2)
        session = open_session(database)
        claim(database, session, ids)
        with database.begin() as tx:
            assert tx.jobs.blame(session, [ids[0], ids[0]]) == {ids[0]: JobState.QUEUED}
        assert [get(database, one).state for one in ids] == [JobState.QUEUED, JobState.RUNNING]
        assert [get(database, one).attempts for one in ids] == [1, 0]
        (again,) = claim(database, session, [ids[0]])
        assert (again.attempts, again.suspicions) == (1, 0)
        with database.begin() as tx:
            assert tx.jobs.blame(session, ids[:1]) == {ids[0]: JobState.FAILED}
        assert (get(database, ids[0]).error.code, get(database, ids[0]).error.attempt) == (
            "poison",
            2,
        )

    def test_several_together_are_suspected_and_spend_nothing(self, database):
        mine, theirs = submit(database, count=2, max_attempts=1), submit(database, BOB)
        session, other = open_session(database), open_session(database)
        ids = mine + theirs
        for suspicions in range(3):
            jobs = claim(database, session, ids)
            assert [(job.suspicions, job.attempts) for job in jobs] == [(suspicions, 0)] * 3
            with database.begin() as tx:
                assert tx.jobs.blame(session, ids) == dict.fromkeys(ids, JobState.QUEUED)
        assert [get(database, one).attempts for one in mine] == [0, 0]
        assert get(database, theirs[0], BOB).session_id is None
        (job,) = claim(database, other, mine[:1])
        assert job.suspicions == 3
        commit(database, other, [retry(job, entered_device=False)])
        (job,) = claim(database, other, mine[:1])
        assert job.suspicions == 3, "a suspicion stays whatever happens to the job"

    def test_of_several_those_that_are_no_longer_ours_leave_the_rest_suspected_only(self, database):
        ids = submit(database, count=2)
        session, other = open_session(database), open_session(database)
        claim(database, session, ids[:1])
        claim(database, other, ids[1:])
        with database.begin() as tx:
            assert tx.jobs.blame(session, ids) == {ids[0]: JobState.QUEUED}
        assert [get(database, one).attempts for one in ids] == [0, 0]

    def test_blame_touches_no_other_sessions_jobs(self, database):
        (job_id,) = submit(database)
        session, other = open_session(database), open_session(database)
        claim(database, other, [job_id])
        with database.begin() as tx:
            assert tx.jobs.blame(session, [job_id]) == {}
        assert get(database, job_id).state is JobState.RUNNING


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, database, clock):
        (job_id,) = submit(database)
        clock.pass_ms(5)
        with database.begin() as tx:
            job = tx.jobs.request_cancel(ALICE, job_id)
        assert (job.state, job.finished_at) == (JobState.CANCELLED, START_MS + 5)
        assert (job.cancel_requested_at, job.seq) == (START_MS + 5, 2)

    def test_a_running_job_is_asked_once(self, database, clock):
        (job_id,) = submit(database)
        claim(database, open_session(database), [job_id])
        with database.begin() as tx:
            asked = tx.jobs.request_cancel(ALICE, job_id)
        assert (asked.state, asked.cancel_requested_at) == (JobState.RUNNING, START_MS)
        clock.pass_ms(5)
        with database.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, job_id) == asked

    def test_a_terminal_job_stays_as_it_is(self, database):
        (job_id,) = submit(database)
        finish(database, open_session(database), [job_id])
        before = get(database, job_id)
        with database.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, job_id) == before

    @pytest.mark.parametrize(
        "leaving", ["success", "failure", "retry", "release", "expiry", "blame", "suspicion"]
    )
    def test_whatever_becomes_of_a_job_that_was_asked_to_stop_it_is_cancelled(
        self, database, leaving
    ):
        (job_id,) = submit(database)
        session, pack = open_session(database), open_pack(database)
        (job,) = claim(database, session, [job_id])
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job_id)
        with database.begin() as tx:
            match leaving:
                case "success":
                    tx.jobs.commit(session, [success(job, pack)], packs=[summary(pack)])
                case "failure":
                    tx.jobs.commit(session, [failure(job)])
                case "retry":
                    tx.jobs.commit(session, [retry(job)])
                case "release":
                    assert tx.jobs.release(session, [(job_id, 1)]) == {job_id}
                case "expiry":
                    late = Outcome(job.id, job.epoch, Verdict.EXPIRED, entered_device=False)
                    tx.jobs.commit(session, [late])
                case "suspicion":
                    blamed = tx.jobs.blame(session, [job_id, new_id()])
                    assert blamed == {job_id: JobState.CANCELLED}
                case "blame":
                    assert tx.jobs.blame(session, [job_id]) == {job_id: JobState.CANCELLED}
        row = get(database, job_id)
        assert (row.state, row.result, row.error) == (JobState.CANCELLED, None, None)
        assert row.finished_at == START_MS
