"""Bulk runs: planned once by their owner, scored by whoever is free, summed up at any time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.records.bulk import BulkProgress, Control, Part, ShardNote, ShardPlan, ShardState
from storage.records.jobs import BULK_PRIORITY, JobError, JobKind
from tests.support.bulk import (
    commit,
    cut,
    must_take,
    own,
    part,
    plan_of,
    planned,
    submit_runs,
    take,
)
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    POOL,
    START_MS,
    VERSION_ID,
    claim,
    failure,
    new_id,
    new_jobs,
    open_session,
    submit,
)


class TestPlanning:
    def test_a_run_comes_with_its_job_and_no_other(self, database):
        jobs = [*new_jobs(1, kind=JobKind.BULK, priority=BULK_PRIORITY), *new_jobs(1)]
        with database.begin() as tx:
            tx.jobs.submit(ALICE, jobs)
            tx.bulk.create(ALICE, jobs)
        with database.read() as tx:
            run = tx.bulk.run(jobs[0].id)
            assert run == tx.bulk.run(jobs[0].id, tenant=ALICE)
            assert tx.bulk.run(jobs[1].id) is None
            assert tx.bulk.run(jobs[0].id, tenant=BOB) is None
            assert tx.bulk.run("no id") is None
        assert (run.tenant, run.created_at) == (ALICE, START_MS)
        assert (run.paused_at, run.planned_at, run.plan, run.error) == (None, None, None, None)
        assert run.progress == BulkProgress()

    def test_a_plan_is_read_as_it_was_written(self, database):
        shards = [*cut(3), ShardPlan(3, 1, 0, 2**60)]
        owned = planned(database, shards)
        with database.read() as tx:
            run = tx.bulk.run(owned.job_id)
            assert run.plan == plan_of(shards)
            assert run.planned_at == START_MS
            assert run.progress == tx.bulk.count(owned.job_id)
        assert run.progress == BulkProgress(
            rows_total=2**60 + 30, units_total=2**60 + 30, shards_total=4
        )

    def test_the_first_plan_stays(self, database):
        owned = planned(database, cut(3))
        with database.begin() as tx:
            assert tx.bulk.plan(owned.job_id, owned.session_id, owned.epoch, plan_of([]), cut(9))
        with database.read() as tx:
            assert tx.bulk.run(owned.job_id).plan == plan_of(cut(3))
            assert tx.bulk.unfinished(owned.job_id) == 3

    def test_only_the_owner_plans(self, database):
        (job_id,) = submit_runs(database)
        stranger = open_session(database)
        with database.begin() as tx:
            assert not tx.bulk.plan(job_id, stranger, 0, plan_of([]), [])
        owned = own(database, job_id)
        with database.begin() as tx:
            assert not tx.bulk.plan(job_id, stranger, owned.epoch, plan_of([]), [])
            assert not tx.bulk.plan(job_id, owned.session_id, owned.epoch + 1, plan_of([]), [])
        with database.read() as tx:
            assert tx.bulk.run(job_id).plan is None

    def test_a_run_may_have_no_shards(self, database):
        owned = planned(database, [])
        with database.read() as tx:
            assert tx.bulk.unfinished(owned.job_id) == 0
            assert tx.bulk.count(owned.job_id) == BulkProgress(rows_total=0)
            assert not tx.bulk.work_waits(POOL)

    def test_a_shard_without_positions_is_done(self, database):
        owned = planned(database, [ShardPlan(0, 0, 7, 7)])
        with database.read() as tx:
            assert tx.bulk.unfinished(owned.job_id) == 0
            assert tx.bulk.count(owned.job_id).shards_done == 1


class TestScoring:
    def test_a_shard_is_claimed_with_all_that_it_takes_to_score_it(self, database):
        owned = planned(database, [ShardPlan(0, 4, 2**40, 2**41)])
        session = open_session(database)
        shard = must_take(database, session)
        assert (shard.job_id, shard.tenant, shard.number, shard.file) == (
            owned.job_id,
            ALICE,
            0,
            4,
        )
        assert (shard.start, shard.stop, shard.epoch, shard.losses) == (2**40, 2**41, 1, 0)
        assert (shard.version_id, shard.priority) == (VERSION_ID, BULK_PRIORITY)
        assert (shard.created_at, shard.suspect) == (START_MS, None)
        assert take(database, session) is None

    def test_parts_move_the_start_until_the_shard_is_done(self, database):
        owned = planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        assert commit(database, session, shard, part(shard, 0, 4), ShardState.RUNNING)
        with database.read() as tx:
            assert tx.bulk.unfinished(owned.job_id) == 1
        assert commit(database, session, shard, part(shard, 4, 10), ShardState.DONE)
        with database.read() as tx:
            assert tx.bulk.unfinished(owned.job_id) == 0
            assert tx.bulk.parts(owned.job_id) == [
                Part(0, 0, 1, part(shard, 0, 4), START_MS),
                Part(0, 0, 1, part(shard, 4, 10), START_MS),
            ]

    def test_a_part_begins_where_the_last_one_ended(self, database):
        planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        assert not commit(database, session, shard, part(shard, 1, 4), ShardState.RUNNING)
        assert commit(database, session, shard, part(shard, 0, 4), ShardState.RUNNING)
        assert not commit(database, session, shard, part(shard, 0, 4), ShardState.RUNNING)
        assert not commit(database, session, shard, part(shard, 5, 10))
        assert commit(database, session, shard, part(shard, 4, 10))

    @pytest.mark.parametrize(
        ("start", "stop", "then"),
        [
            (0, 4, ShardState.DONE),
            (0, 10, ShardState.RUNNING),
            (0, 11, ShardState.DONE),
            (4, 4, ShardState.RUNNING),
        ],
    )
    def test_a_part_that_cannot_be_is_a_mistake(self, database, start, stop, then):
        planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        with pytest.raises(ValueError, match="part"):
            commit(database, session, shard, part(shard, start, stop), then)

    def test_what_is_given_back_goes_on_where_it_was(self, database):
        owned = planned(database, cut(1))
        first, second = open_session(database), open_session(database)
        shard = must_take(database, first)
        assert commit(database, first, shard, part(shard, 0, 4), ShardState.OPEN)
        assert not commit(database, first, shard, part(shard, 4, 10))
        again = must_take(database, second)
        assert (again.start, again.stop, again.epoch) == (4, 10, 2)
        assert commit(database, second, again, part(again), ShardState.OPEN)  # nothing is left
        with database.read() as tx:
            assert tx.bulk.unfinished(owned.job_id) == 0

    def test_a_release_needs_no_part(self, database):
        planned(database, cut(2))
        session, other = open_session(database), open_session(database)
        shards = [must_take(database, session) for _ in range(2)]
        keys = [one.key for one in shards]
        with database.begin() as tx:
            assert tx.bulk.release(other, keys) == 0
            assert tx.bulk.release(session, [(shards[0].job_id, 0, 9), ("no id", 0, 1)]) == 0
            assert tx.bulk.release(session, keys) == 2
            assert tx.bulk.release(session, keys) == 0
            assert tx.bulk.release(session, []) == 0
        assert not commit(database, session, shards[0], part(shards[0]))
        again = must_take(database, other)
        assert (again.number, again.epoch, again.losses) == (0, 2, 0)

    def test_nothing_is_committed_under_another_claim(self, database):
        owned = planned(database, cut(1))
        session, other = open_session(database), open_session(database)
        shard = must_take(database, session)
        assert not commit(database, other, shard, part(shard))
        assert not commit(database, session, replace(shard, epoch=2), part(shard))
        assert not commit(database, session, replace(shard, number=1), part(shard))
        with database.read() as tx:
            assert tx.bulk.parts(owned.job_id) == []

    def test_nothing_is_committed_when_the_job_is_over(self, database):
        owned = planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        with database.begin() as tx:
            job = tx.jobs.get(ALICE, owned.job_id)
            outcome = failure(job, entered_device=False)
            assert tx.jobs.commit(owned.session_id, [outcome]).settled
        assert not commit(database, session, shard, part(shard))
        with database.read() as tx:
            assert tx.bulk.parts(owned.job_id) == []

    def test_a_session_whose_lease_is_over_claims_nothing(self, database, clock):
        planned(database, cut(1))
        session = open_session(database)
        clock.pass_ms(LEASE_MS)
        assert take(database, session) is None
        assert take(database, new_id()) is None
        assert take(database, open_session(database)) is not None

    def test_notes_are_of_shards_that_are_still_ours(self, database):
        owned = planned(database, cut(3))
        session = open_session(database)
        shards = [must_take(database, session) for _ in range(3)]
        with database.begin() as tx:
            tx.bulk.release(session, [shards[2].key])
        notes = [ShardNote(*one.key, rows=3, failed=1, device_ms=5) for one in shards]
        with database.begin() as tx:
            ours = tx.bulk.note(session, notes)
            assert tx.bulk.note(session, []) == frozenset()
        assert ours == {(owned.job_id, 0), (owned.job_id, 1)}
        with database.read() as tx:
            told = tx.bulk.count(owned.job_id)
        assert (told.rows_done, told.rows_failed, told.device_ms) == (6, 2, 10)
        # What is in a part is no longer beside it.
        assert commit(database, session, shards[0], part(shards[0]))
        with database.begin() as tx:
            assert tx.bulk.release(session, [shards[1].key]) == 1
        with database.read() as tx:
            told = tx.bulk.count(owned.job_id)
        assert (told.rows_done, told.rows_failed, told.device_ms) == (10, 0, 10)

    def test_sums_are_over_all_parts(self, database):
        owned = planned(database, cut(3))
        session = open_session(database)
        shards = [must_take(database, session) for _ in range(2)]
        made = replace(
            part(shards[0]), rows=5, failed=3, skipped=2, errors_key="e.jsonl", errors_bytes=9
        )
        assert commit(database, session, shards[0], made)
        assert commit(database, session, shards[1], part(shards[1], 10, 12), ShardState.RUNNING)
        with database.read() as tx:
            assert tx.bulk.count(owned.job_id) == BulkProgress(
                rows_done=7,
                rows_failed=3,
                rows_skipped=2,
                rows_total=30,
                units_done=12,
                units_total=30,
                shards_done=1,
                shards_running=1,
                shards_total=3,
                device_ms=12,
                size_bytes=120,
            )
            assert tx.bulk.parts(owned.job_id)[0].part == made
            assert tx.bulk.count(new_id()) == BulkProgress()

    def test_parts_are_told_in_the_order_of_the_input_and_to_their_tenant(self, database):
        shards = [ShardPlan(0, 1, 0, 5), ShardPlan(1, 0, 5, 9), ShardPlan(2, 0, 0, 5)]
        owned = planned(database, shards)
        session = open_session(database)
        for _ in shards:
            shard = must_take(database, session)
            assert commit(database, session, shard, part(shard))
        with database.read() as tx:
            parts = tx.bulk.parts(owned.job_id, tenant=ALICE)
            assert parts == tx.bulk.parts(owned.job_id)
            assert tx.bulk.parts(owned.job_id, tenant=BOB) == []
            assert tx.bulk.parts("no id") == []
        assert [one.number for one in parts] == [2, 1, 0]


class TestSteering:
    def test_a_paused_run_is_claimed_by_nobody_until_it_is_resumed(self, database, clock):
        owned = planned(database, cut(2))
        session = open_session(database)
        must_take(database, session)
        with database.begin() as tx:
            assert tx.bulk.pause(ALICE, owned.job_id)
        clock.pass_ms(10)
        with database.begin() as tx:
            assert tx.bulk.pause(ALICE, owned.job_id)  # again: nothing changes
            assert tx.bulk.run(owned.job_id).paused_at == START_MS
            assert tx.bulk.watch([owned.job_id]) == {owned.job_id: Control.PAUSE}
            assert not tx.bulk.work_waits(POOL)
        assert take(database, session) is None
        with database.begin() as tx:
            assert tx.bulk.resume(ALICE, owned.job_id)
            assert tx.bulk.resume(ALICE, owned.job_id)
            assert tx.bulk.watch([owned.job_id]) == {owned.job_id: Control.GO}
            assert tx.bulk.work_waits(POOL)
        assert take(database, session) is not None

    def test_what_is_paused_was_there_to_be_seen_by_watchers(self, database):
        owned = planned(database, cut(1))
        assert self._seq(database, owned) == 2
        for verb, seq in (("pause", 3), ("pause", 3), ("resume", 4), ("resume", 4)):
            with database.begin() as tx:
                assert getattr(tx.bulk, verb)(ALICE, owned.job_id)
            assert self._seq(database, owned) == seq

    @staticmethod
    def _seq(database, owned):
        with database.read() as tx:
            return tx.jobs.glimpse([owned.job_id])[0].seq

    def test_only_its_tenant_steers_a_live_run(self, database):
        owned = planned(database, cut(1))
        (plain,) = submit(database)
        with database.begin() as tx:
            for job_id, tenant in ((owned.job_id, BOB), (plain, ALICE), (new_id(), ALICE)):
                assert not tx.bulk.pause(tenant, job_id)
                assert not tx.bulk.resume(tenant, job_id)
            assert not tx.bulk.pause(ALICE, "no id")
            tx.jobs.commit(
                owned.session_id,
                [failure(tx.jobs.get(ALICE, owned.job_id), entered_device=False)],
            )
            assert not tx.bulk.pause(ALICE, owned.job_id)

    def test_a_run_may_be_paused_before_anybody_owns_it(self, database):
        (job_id,) = submit_runs(database)
        with database.begin() as tx:
            assert tx.bulk.pause(ALICE, job_id)
            assert tx.bulk.run(job_id).paused_at == START_MS

    def test_one_that_nobody_owns_is_set_apart_until_it_is_resumed(self, database):
        (queued,), session = submit_runs(database), open_session(database)
        owned = planned(database, cut(1))
        with database.begin() as tx:
            assert tx.bulk.pause(ALICE, queued)
            assert tx.bulk.pause(ALICE, owned.job_id)
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        ids = [queued, owned.job_id]
        assert claim(database, session, ids) == []
        with database.begin() as tx:
            assert tx.backlog.heads(POOL, ALICE, 9) == []
            assert all(tx.bulk.resume(ALICE, one) for one in ids)
            assert {one.id for one in tx.backlog.heads(POOL, ALICE, 9)} == set(ids)
        assert [job.epoch for job in claim(database, session, ids)] == [1, 2]

    def test_the_time_of_a_pause_does_not_count_for_the_run_timeout(self, database, clock):
        owned = planned(database, cut(1), run_timeout_ms=1_000)
        with database.begin() as tx:
            assert tx.bulk.pause(ALICE, owned.job_id)
        clock.pass_ms(5_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 0
            assert tx.bulk.resume(ALICE, owned.job_id)
            assert tx.jobs.time_out() == 0
        clock.pass_ms(1_000)
        with database.begin() as tx:
            assert tx.jobs.time_out() == 1

    def test_one_that_is_planned_was_started_in_time(self, database, clock):
        owned = planned(database, cut(1), expires_in_ms=1_000)
        (bounced,) = submit_runs(database, expires_in_ms=1_000)
        other = own(database, bounced)
        clock.pass_ms(5_000)
        with database.begin() as tx:
            for one in (owned, other):
                tx.jobs.release(one.session_id, [(one.job_id, one.epoch)])
        with database.begin() as tx:
            assert tx.jobs.expire() == 1, "it was claimed and given back, and never begun"
        assert own(database, owned.job_id).epoch == 2

    def test_whoever_scores_shards_stops_when_the_run_does(self, database):
        going, failing, cancelled, over = (planned(database, cut(1)) for _ in range(4))
        unknown = new_id()
        with database.begin() as tx:
            assert tx.bulk.fail(failing.job_id, JobError("too_many_errors", "they are too many"))
            tx.jobs.request_cancel(ALICE, cancelled.job_id)
            tx.jobs.commit(
                over.session_id,
                [failure(tx.jobs.get(ALICE, over.job_id), entered_device=False)],
            )
        with database.read() as tx:
            told = tx.bulk.watch(
                [going.job_id, failing.job_id, cancelled.job_id, over.job_id, unknown]
            )
        assert told == {
            going.job_id: Control.GO,
            failing.job_id: Control.STOP,
            cancelled.job_id: Control.STOP,
            over.job_id: Control.STOP,
            unknown: Control.STOP,
        }
        assert must_take(database, open_session(database)).job_id == going.job_id
        assert take(database, open_session(database)) is None

    def test_the_first_error_stays(self, database):
        owned = planned(database, cut(1))
        first, second = JobError("a", "the first\x00"), JobError("b", "the second")
        with database.begin() as tx:
            assert tx.bulk.fail(owned.job_id, first)
            assert not tx.bulk.fail(owned.job_id, second)
            assert not tx.bulk.fail(new_id(), second)
        with database.read() as tx:
            assert tx.bulk.run(owned.job_id).error == JobError("a", "the first\ufffd")

    def test_progress_is_told_when_it_changed(self, database):
        owned = planned(database, cut(1))
        told = BulkProgress(rows_done=5, rows_per_s=2.5)
        with database.begin() as tx:
            assert tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, told)
        assert self._seq(database, owned) == 3
        with database.begin() as tx:
            assert tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, told)
        assert self._seq(database, owned) == 3
        with database.begin() as tx:
            assert not tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch + 1, told)
            assert not tx.bulk.touch(owned.job_id, new_id(), owned.epoch, told)
        with database.read() as tx:
            assert tx.bulk.run(owned.job_id).progress == told

    def test_a_run_that_lost_its_owner_is_scored_on(self, database):
        owned = planned(database, cut(1))
        with database.begin() as tx:
            tx.jobs.release(owned.session_id, [(owned.job_id, owned.epoch)])
        session = open_session(database)
        shard = must_take(database, session)
        assert commit(database, session, shard, part(shard))
        again = own(database, owned.job_id)
        with database.begin() as tx:
            progress = BulkProgress(rows_done=1)
            assert not tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, progress)
            assert tx.bulk.plan(again.job_id, again.session_id, again.epoch, plan_of([]), [])
            assert tx.bulk.unfinished(owned.job_id) == 0


class TestChoice:
    def test_tenants_take_turns_whatever_they_have(self, database):
        many = planned(database, cut(20), ALICE)
        few = planned(database, cut(3), BOB)
        session = open_session(database)
        taken = [must_take(database, session) for _ in range(8)]
        assert [one.job_id for one in taken[:6]].count(few.job_id) == 3
        assert [one.job_id for one in taken[6:]] == [many.job_id] * 2
        assert [one.number for one in taken if one.tenant == ALICE] == [0, 1, 2, 3, 4]

    def test_of_one_tenant_the_run_that_came_first_goes_first(self, database, clock):
        first = planned(database, cut(2))
        clock.pass_ms(1)
        second = planned(database, cut(1))
        session = open_session(database)
        taken = [must_take(database, session).job_id for _ in range(3)]
        assert taken == [first.job_id, first.job_id, second.job_id]

    def test_pools_are_apart(self, database):
        owned = planned(database, cut(1), pool="other")
        session = open_session(database)
        assert take(database, session) is None
        with database.read() as tx:
            assert not tx.bulk.work_waits(POOL)
            assert tx.bulk.work_waits("other")
        assert must_take(database, session, "other").job_id == owned.job_id

    def test_what_is_not_planned_is_not_claimed(self, database):
        (job_id,) = submit_runs(database)
        claim(database, open_session(database), [job_id])
        assert take(database, open_session(database)) is None
