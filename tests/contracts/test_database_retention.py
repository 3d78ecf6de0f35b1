"""Retention: what was kept long enough goes with all its rows, and nothing younger, live or
another tenant's does."""

from __future__ import annotations

import threading

import pytest

from producers.api.results import result_bytes
from storage.database import Database
from storage.database.retention import SLACK_MS
from storage.objects import Objects, open_objects
from storage.records.errors import Conflict, Gone
from storage.records.jobs import (
    BULK_PRIORITY,
    JobError,
    JobFilter,
    JobKind,
    Outcome,
    PackSlice,
    Verdict,
)
from storage.records.packs import STALE_AFTER_MS, PackKind, PackState
from storage.records.training_runs import Checkpoint, TrainingControl
from storage.records.webhooks import Attempt, AttemptResult
from tests.support.bulk import Owned, commit, cut, must_take, own, part, plan_of
from tests.support.database import (
    ALICE,
    BOB,
    ManualClock,
    claim,
    failure,
    open_session,
    success,
    summary,
)
from tests.support.retention import DAY_MS, KEPT_MS, Past
from tests.support.training import keep, note, own_training, steps, submit_training
from workers.keeper.pack_collection import PackCollection
from workers.keeper.retention import Forgotten, Retention, RetentionConfig

LONG = 100_000


@pytest.fixture
def objects(tmp_path) -> Objects:
    return open_objects(f"file://{tmp_path}/objects")


@pytest.fixture
def past(database: Database, objects: Objects, clock: ManualClock) -> Past:
    return Past(database, objects, clock)


def forget(past: Past) -> Forgotten:
    """One whole walk, as there are less rows than a page has."""
    counts = Retention().run_once(past.database, past.objects)
    assert not counts.more
    past.check()
    return counts


def collect(past: Past) -> int:
    duty = PackCollection()
    counts = duty.run_once(past.database, past.objects)
    while counts.more:
        counts = duty.run_once(past.database, past.objects)
    past.check()
    return counts.deleted


class TestJobs:
    def test_they_go_with_all_their_rows_when_their_end_is_old_enough(self, past: Past):
        ids = past.submit(3, metadata={"team": "red", "run": "7"})
        past.succeed(ids)
        past.clock.pass_ms(KEPT_MS - 1)
        assert forget(past).jobs == 0
        past.clock.pass_ms(1)
        assert forget(past).jobs == 3
        for table in ("jobs", "ends", "payloads", "job_labels", "live"):
            assert past.rows(table) == 0, table

    def test_it_is_the_end_that_counts_not_the_beginning(self, past: Past):
        ids = past.submit(2)
        past.clock.pass_ms(KEPT_MS)
        past.succeed(ids[:1])
        past.clock.pass_ms(KEPT_MS - 1)
        assert forget(past).jobs == 0
        past.clock.pass_ms(1)
        assert forget(past).jobs == 1
        assert past.keys("jobs") == {ids[1]}

    def test_what_is_live_stays_however_old_with_its_input(self, past: Past):
        (queued,), (running,) = past.submit(packed=True), past.submit(packed=True)
        claim(past.database, open_session(past.database, lease_ttl_ms=90 * DAY_MS), [running])
        past.clock.pass_ms(80 * DAY_MS)
        assert (forget(past).jobs, collect(past)) == (0, 0)
        assert past.keys("live") == past.keys("payloads") == {queued, running}
        (job,) = claim(past.database, open_session(past.database), [queued])
        assert isinstance(job.payload, PackSlice)

    def test_labels_of_others_stay(self, past: Past):
        same = {"team": "red"}
        old = past.submit(metadata=same)
        past.succeed(old)
        past.clock.pass_ms(KEPT_MS)
        young, bobs = past.submit(metadata=same), past.submit(tenant=BOB, metadata=same)
        assert forget(past).jobs == 1
        for tenant, ids in ((ALICE, young), (BOB, bobs)):
            with past.database.read() as tx:
                found = tx.jobs.list(tenant, JobFilter(metadata=same), limit=9, after=None)
            assert [job.id for job in found] == ids

    def test_bulk_runs_go_with_their_jobs_shards_and_parts(self, past: Past):
        old = self._run(past, 3)
        past.succeed(past.submit(2))
        past.clock.pass_ms(KEPT_MS)
        young = self._run(past, 2)
        assert forget(past).jobs == 3
        assert past.keys("bulk_runs") == past.keys("bulk_shards") == {young}
        assert past.keys("bulk_parts") == past.keys("jobs") == {young} != {old}

    def test_runs_of_many_shards_go_one_after_the_other(self, past: Past, monkeypatch):
        monkeypatch.setattr("storage.database.retention.MOST_SHARDS", 5)
        for shards in (4, 9, 2, 2, 1):
            self._run(past, shards)
            past.clock.pass_ms(1)
            past.succeed(past.submit())
            past.clock.pass_ms(1)
        past.clock.pass_ms(KEPT_MS)
        duty, gone = Retention(), []
        while True:
            counts = duty.run_once(past.database, past.objects)
            past.check()
            gone.append(counts.jobs)
            if not counts.more:
                break
        assert gone == [2, 2, 6]  # the last one takes what has exactly as many as that
        assert past.rows("bulk_runs") == past.rows("bulk_shards") == past.rows("bulk_parts") == 0

    def test_trainings_go_with_their_measures_log_and_checkpoint(self, past: Past):
        old, checkpoint = self._training(past)
        self._end(past, old)
        past.clock.pass_ms(KEPT_MS)
        young, kept = self._training(past)
        assert forget(past).jobs == 1
        assert past.keys("training_runs") == {young.job_id}
        assert past.keys("training_measures") == past.keys("training_log") == {young.job_id}
        assert collect(past) == 1
        assert not past.objects.exists(checkpoint.key)
        assert past.objects.exists(kept.key)

    def test_trainings_of_many_rows_go_one_after_the_other(self, past: Past, monkeypatch):
        monkeypatch.setattr("storage.database.retention.MOST_SHARDS", 5)
        for _ in range(3):
            self._end(past, self._training(past)[0])  # of three rows each
            past.clock.pass_ms(1)
        past.clock.pass_ms(KEPT_MS)
        duty, gone = Retention(), []
        while past.rows("jobs"):
            gone.append(duty.run_once(past.database, past.objects).jobs)
            past.check()
        assert gone == [1, 1, 1]
        assert past.rows("training_runs") == 0

    def test_a_checkpoint_stays_as_long_as_its_run_however_old(self, past: Past):
        owned, checkpoint = self._training(past)
        past.clock.pass_ms(KEPT_MS + 2 * STALE_AFTER_MS)
        assert collect(past) == 0
        self._end(past, owned)
        past.clock.pass_ms(KEPT_MS - 1)
        assert (forget(past).jobs, collect(past)) == (0, 0)
        assert past.objects.exists(checkpoint.key)
        past.clock.pass_ms(1)
        assert (forget(past).jobs, collect(past)) == (1, 1)
        assert not past.objects.exists(checkpoint.key)

    @staticmethod
    def _training(past: Past) -> tuple[Owned, Checkpoint]:
        """One that is running, with a row of measures, two lines and a checkpoint."""
        job_id = submit_training(past.database, id=past.id(), expires_in_ms=100 * DAY_MS)
        session = open_session(past.database, lease_ttl_ms=90 * DAY_MS)
        owned = own_training(past.database, job_id, session)
        assert note(past.database, owned, [steps(1, 10)], ["a", "b"]) is TrainingControl.GO
        pack = past.pack(PackKind.RESULT)
        checkpoint = Checkpoint(pack, past.packs[pack], "c" * 64, 7, epoch=1, step=10)
        assert keep(past.database, owned, checkpoint)
        return owned, checkpoint

    @staticmethod
    def _end(past: Past, owned: Owned) -> None:
        error = JobError("loss_is_nan", "at step 7")
        outcome = Outcome(
            owned.job_id, owned.epoch, Verdict.FAILED, entered_device=True, error=error
        )
        with past.database.begin() as tx:
            assert tx.jobs.commit(owned.session_id, [outcome], packs=[]).settled
            assert tx.models.abandon_orphans() == 1

    @staticmethod
    def _run(past: Past, shards: int) -> str:
        """A bulk job that is over, of so many shards, a part of each but the last."""
        job = past.job(kind=JobKind.BULK, priority=BULK_PRIORITY)
        with past.database.begin() as tx:
            tx.jobs.submit(ALICE, [job])
            tx.bulk.create(ALICE, [job])
        owned = own(past.database, job.id)
        with past.database.begin() as tx:
            cuts = cut(shards)
            assert tx.bulk.plan(job.id, owned.session_id, owned.epoch, plan_of(cuts), cuts)
        for _ in range(shards - 1):
            shard = must_take(past.database, owned.session_id)
            assert commit(past.database, owned.session_id, shard, part(shard))
        with past.database.begin() as tx:
            failed = failure(tx.jobs.get(ALICE, job.id), entered_device=False)
            assert tx.jobs.commit(owned.session_id, [failed]).settled
        return job.id

    def test_tenants_are_all_alike_and_never_meet(self, past: Past):
        alices = past.submit()
        past.succeed(alices)
        past.clock.pass_ms(DAY_MS)
        bobs = past.submit(tenant=BOB)
        past.succeed(bobs, tenant=BOB)
        past.clock.pass_ms(KEPT_MS - DAY_MS)
        assert forget(past).jobs == 1
        assert past.keys("jobs") == set(bobs)
        past.clock.pass_ms(DAY_MS)
        assert forget(past).jobs == 1

    def test_a_group_stays_whole_until_its_last_job_ended_long_ago(self, past: Past):
        group, ids = past.group(3)
        past.succeed(ids[:2])
        past.clock.pass_ms(KEPT_MS)
        past.succeed(ids[2:])
        complete(past)
        past.clock.pass_ms(KEPT_MS - 1)
        counts = forget(past)
        assert (counts.groups, counts.jobs) == (0, 0)
        with past.database.read() as tx:
            assert tx.groups.counts(ALICE, group).done
            assert len(tx.groups.members(ALICE, group, limit=9)) == 3
        past.clock.pass_ms(1)
        counts = forget(past)
        assert (counts.groups, counts.jobs) == (1, 3)

    def test_a_group_that_nobody_found_complete_yet_stays(self, past: Past):
        """Else nobody would ever be told of it."""
        _, ids = past.group(1)
        past.succeed(ids)
        past.clock.pass_ms(2 * KEPT_MS)
        counts = forget(past)
        assert (counts.groups, counts.jobs) == (0, 0)
        complete(past)
        past.clock.pass_ms(KEPT_MS)
        assert forget(past).groups == 1

    def test_a_run_is_bounded_and_goes_on_where_it_was(self, past: Past):
        past.succeed(past.submit(5))
        kept = past.submit(4)  # old, but live
        past.succeed(past.submit(3))
        past.clock.pass_ms(KEPT_MS)
        duty = Retention(RetentionConfig(limit=2))
        gone = []
        while (counts := duty.run_once(past.database, past.objects)).more:
            gone.append(counts.jobs)
            past.check()
        gone.append(counts.jobs)
        assert sum(gone) == 8 and max(gone) == 2 and len(gone) <= 7
        assert past.keys("jobs") == set(kept)


def complete(past: Past) -> None:
    with past.database.begin() as tx:
        tx.webhooks.complete_groups(None, 100)


class TestPacks:
    def test_an_input_pack_goes_with_the_last_job_that_needs_it(self, past: Past):
        first, second = past.submit(2, packed=True)
        (pack,) = past.packs
        result = past.succeed([first])
        past.clock.pass_ms(DAY_MS)
        past.succeed([second])
        past.clock.pass_ms(KEPT_MS - DAY_MS)
        forget(past)
        collect(past)
        assert pack in past.keys("packs")
        past.clock.pass_ms(DAY_MS)
        forget(past)
        assert collect(past) >= 1
        assert pack not in past.keys("packs") and result not in past.keys("packs")

    def test_a_result_pack_goes_when_whatever_is_in_it_ended_long_enough_ago(self, past: Past):
        ids = past.submit()
        session, pack = open_session(past.database, lease_ttl_ms=LONG), past.pack(PackKind.RESULT)
        (job,) = claim(past.database, session, ids)
        past.clock.pass_ms(STALE_AFTER_MS - 1)  # as late as a commit can be
        with past.database.begin() as tx:
            tx.jobs.commit(session, [success(job, pack)], packs=[summary(pack)])
        past.clock.pass_ms(KEPT_MS)
        assert collect(past) == 0
        past.clock.pass_ms(1)
        assert collect(past) == 1

    def test_after_an_hour_a_pack_is_no_longer_written_whoever_looks(self, past: Past):
        ids = past.submit()
        session, pack = open_session(past.database, lease_ttl_ms=LONG), past.pack(PackKind.RESULT)
        (job,) = claim(past.database, session, ids)
        past.clock.pass_ms(STALE_AFTER_MS)
        with (
            pytest.raises(Conflict, match="no longer being written"),
            past.database.begin() as tx,
        ):
            tx.jobs.commit(session, [success(job, pack)], packs=[summary(pack)])
        with past.database.begin() as tx:
            assert not tx.packs.publish(summary(pack))
        assert collect(past) == 1

    def test_a_result_that_is_gone_before_its_job_is_said_to_be_gone(self, past: Past):
        ids = past.submit()
        past.succeed(ids)
        past.clock.pass_ms(KEPT_MS + STALE_AFTER_MS)
        collect(past)
        with past.database.read() as tx:
            job = tx.jobs.get(ALICE, ids[0])
        assert job is not None and job.result is not None
        with pytest.raises(Gone) as gone:
            result_bytes(past.database, past.objects, job.result)
        assert gone.value.stable_code == "result_gone"

    def test_a_pack_that_a_retry_points_to_anew_is_not_collected(self, past: Past):
        """Whoever comes first: the other one sees it."""
        (old,) = past.submit(packed=True)
        (pack,) = past.packs
        past.succeed([old])
        past.clock.pass_ms(KEPT_MS)
        forget(past)
        retried = threading.Event()
        held = threading.Event()

        def retry() -> None:
            with past.database.begin() as tx:
                assert tx.packs.hold([pack]) == {pack}
                held.set()
                if not past.database.has_one_writer:
                    assert retried.wait(60)
                again = past.job(payload=PackSlice(pack, 0, 10, "d" * 64))
                tx.jobs.submit(ALICE, [again])

        thread = threading.Thread(target=retry)
        thread.start()
        assert held.wait(60)
        collect(past)
        retried.set()
        thread.join(60)
        collect(past)
        with past.database.read() as tx:
            found = tx.packs.get(pack)
        assert found is not None and found.state is PackState.LIVE
        past.check()

    def test_a_retry_that_comes_after_the_collector_finds_nothing_to_hold(self, past: Past):
        past.succeed(past.submit(packed=True))
        pack = next(iter(past.packs))
        past.clock.pass_ms(KEPT_MS)
        forget(past)
        with past.database.begin() as tx:
            assert tx.packs.doom_unused(KEPT_MS, after=None, limit=9) == (1, None)
        with past.database.begin() as tx:
            assert tx.packs.hold([pack]) == set()


def deliver(past: Past, endpoint: str) -> None:
    with past.database.begin() as tx:
        for one in tx.webhooks.claim_deliveries(endpoint, 100, 1_000):
            tx.webhooks.settle(
                [
                    Attempt(
                        id=past.id(),
                        event_id=one.event.id,
                        endpoint_id=one.endpoint_id,
                        tenant=one.event.tenant,
                        number=one.attempts + 1,
                        duration_ms=1,
                        result=AttemptResult.DELIVERED,
                        status=200,
                    )
                ]
            )


def listen(past: Past, tenant: str = ALICE) -> str:
    endpoint = past.id()
    with past.database.begin() as tx:
        tx.webhooks.add(tenant, endpoint, "https://example.com/", ["*"])
    return endpoint


class TestWebhooks:
    def test_events_go_with_their_deliveries_and_attempts(self, past: Past):
        endpoint = listen(past)
        past.succeed(past.submit(2))
        deliver(past, endpoint)
        past.clock.pass_ms(KEPT_MS - 1)
        counts = forget(past)
        assert (counts.events, counts.attempts) == (0, 0)
        past.clock.pass_ms(2)
        counts = forget(past)
        assert (counts.events, counts.attempts) == (2, 2)
        for table in ("events", "deliveries", "webhook_attempts"):
            assert past.rows(table) == 0, table
        assert past.keys("webhook_endpoints") == {endpoint}

    def test_an_event_that_somebody_still_waits_for_stays(self, past: Past):
        endpoint = listen(past)
        past.succeed(past.submit())
        past.clock.pass_ms(2 * KEPT_MS)
        counts = forget(past)
        assert (counts.jobs, counts.events) == (1, 0)
        deliver(past, endpoint)
        assert forget(past).events == 1

    def test_what_waits_for_an_endpoint_that_is_gone_is_given_up(self, past: Past):
        endpoint, other = listen(past), listen(past, BOB)
        past.succeed(past.submit())
        bobs = past.submit(tenant=BOB)
        past.succeed(bobs, tenant=BOB)
        with past.database._engines.writing.begin() as connection:  # as if it went meanwhile
            connection.exec_driver_sql(f"DELETE FROM webhook_endpoints WHERE id = '{endpoint}'")
        assert forget(past).deliveries == 1
        with past.database.read() as tx:
            assert tx.webhooks.delivery_load().pending == 1
            assert [one.id for one in tx.webhooks.ready_endpoints()] == [other]
        assert forget(past).deliveries == 0

    def test_an_endpoint_of_jobs_goes_after_the_last_of_them(self, past: Past):
        url = "https://example.com/mine"
        ids = past.submit(webhook=url)
        listed = listen(past)
        (own,) = past.keys("webhook_endpoints") - {listed}
        past.succeed(ids)
        deliver(past, own)
        past.clock.pass_ms(20 * DAY_MS)
        again = past.submit(webhook=url)
        past.succeed(again)
        deliver(past, own)
        past.clock.pass_ms(KEPT_MS - 1)
        forget(past)
        assert past.keys("jobs") == set(again)
        with past.database.read() as tx:
            assert tx.jobs.webhook(ALICE, again[0]) == url
        assert own in past.keys("webhook_endpoints")
        past.clock.pass_ms(1)
        counts = forget(past)
        assert (counts.jobs, counts.endpoints) == (1, 1)
        assert past.keys("webhook_endpoints") == {listed}

    def test_secrets_that_ended_go_and_those_of_an_endpoint_with_it(self, past: Past):
        endpoint = listen(past)
        with past.database.begin() as tx:
            first = tx.webhooks.ensure_secret(ALICE, past.id(), "whsec_1")
            second = tx.webhooks.rotate(ALICE, None, past.id(), "whsec_2", 1_000)
            own = tx.webhooks.rotate(ALICE, endpoint, past.id(), "whsec_3", 1_000)
            bobs = tx.webhooks.ensure_secret(BOB, past.id(), "whsec_4")
        past.clock.pass_ms(999)
        assert forget(past).secrets == 0
        past.clock.pass_ms(1)
        assert forget(past).secrets == 1
        assert past.keys("webhook_secrets") == {second.id, own.id, bobs.id} - {first.id}
        with past.database.begin() as tx:
            tx.webhooks.remove(ALICE, endpoint)
        assert past.keys("webhook_secrets") == {second.id, bobs.id}


class TestFiles:
    def test_they_go_with_their_objects_when_they_are_old(self, past: Past):
        old = past.upload()
        past.clock.pass_ms(KEPT_MS + SLACK_MS - 1)
        young = past.upload(BOB)
        assert forget(past).files == 0
        past.clock.pass_ms(2)
        assert forget(past).files == 1
        assert past.keys("files") == {young}
        assert not past.objects.exists(f"files/{ALICE}/{old}")
        assert past.objects.exists(f"files/{BOB}/{young}")

    def test_one_that_a_live_job_may_point_to_stays(self, past: Past):
        past.upload()
        past.clock.pass_ms(KEPT_MS - 1)  # so late it may be named
        (job,) = past.submit()
        past.clock.pass_ms(20 * DAY_MS)
        assert forget(past).files == 0
        past.succeed([job])
        assert forget(past).files == 1
