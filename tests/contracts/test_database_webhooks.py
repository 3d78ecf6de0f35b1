"""Webhooks in SQL: one event for one end, told to whoever wanted it, until it is delivered."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.records.jobs import BULK_PRIORITY, TERMINAL, JobError, JobState, Outcome, Verdict
from storage.records.webhooks import (
    BATCH_LABEL,
    BATCH_TYPES,
    BREAKS_AFTER,
    EVENT_TYPES,
    FIRST_PAUSE_MS,
    Attempt,
    AttemptResult,
    Delivery,
)
from tests.support.database import (
    ALICE,
    BOB,
    START_MS,
    ManualClock,
    claim,
    failure,
    new_id,
    new_jobs,
    open_pack,
    open_session,
    submit,
    success,
    summary,
)

LEASE_MS = 20_000
URL = "https://example.com/hook"


def add(database: Database, *types: str, tenant: str = ALICE, url: str = URL) -> str:
    endpoint_id = new_id()
    with database.begin() as tx:
        tx.webhooks.add(tenant, endpoint_id, url, types or ("*",))
    return endpoint_id


def due(database: Database, endpoint_id: str, limit: int = 100) -> list[Delivery]:
    with database.begin() as tx:
        return tx.webhooks.claim_deliveries(endpoint_id, limit, LEASE_MS)


def told(database: Database, endpoint_id: str) -> list[tuple[str, str]]:
    """(type, id) of what an endpoint is due to be told."""
    return sorted((one.event.type, one.event.id) for one in due(database, endpoint_id))


def attempt(delivery: Delivery, result: AttemptResult, **fields) -> Attempt:
    plain = {
        "id": new_id(),
        "event_id": delivery.event.id,
        "endpoint_id": delivery.endpoint_id,
        "tenant": delivery.event.tenant,
        "number": delivery.attempts + 1,
        "duration_ms": 7,
        "result": result,
    }
    return Attempt(**plain | fields)


def settle(database: Database, *attempts: Attempt) -> None:
    with database.begin() as tx:
        tx.webhooks.settle(attempts)


def run(database: Database, ids: list[str]) -> None:
    """Claim and succeed."""
    session, pack_id = open_session(database), open_pack(database)
    jobs = claim(database, session, ids)
    with database.begin() as tx:
        tx.jobs.commit(
            session, [success(job, pack_id) for job in jobs], packs=[summary(pack_id, len(ids))]
        )


class TestEvents:
    def test_each_way_to_end_is_told_once_and_with_the_end(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        late = submit(database, count=2, expires_in_ms=1)
        clock.pass_ms(1)
        with database.begin() as tx:
            tx.jobs.expire()
        assert told(database, endpoint) == [("job.expired", one) for one in late]

        done, failed, cancelled = submit(database, count=3)
        run(database, [done])
        session = open_session(database)
        (job,) = claim(database, session, [failed])
        with database.begin() as tx:
            tx.jobs.commit(session, [failure(job)])
            tx.jobs.request_cancel(ALICE, cancelled)
        assert told(database, endpoint) == [
            ("job.cancelled", cancelled),
            ("job.failed", failed),
            ("job.succeeded", done),
        ]

    def test_a_batch_is_told_by_the_words_of_its_own_shape(
        self, database: Database, clock: ManualClock
    ):
        """And jobs of its priority, or with its label at another one, are not."""
        endpoint = add(database)
        labels = dict([BATCH_LABEL])
        batch = {"priority": BULK_PRIORITY, "metadata": labels}
        done, failed, late, cancelled = submit(database, count=4, **batch)
        (never,) = submit(database, expires_in_ms=1, **batch)
        (plain,) = submit(database, priority=BULK_PRIORITY)
        (other,) = submit(database, priority=BULK_PRIORITY + 1, metadata=labels)
        clock.pass_ms(1)
        run(database, [done, plain, other])
        session = open_session(database)
        slow = JobError("run_timeout", "too slow")
        with database.begin() as tx:
            tx.jobs.expire()
            for job in tx.jobs.claim(session, [failed, late]):
                error = slow if job.id == late else JobError("bad_input", "no")
                outcome = Outcome(job.id, job.epoch, Verdict.FAILED, True, error=error)
                tx.jobs.commit(session, [outcome])
            tx.jobs.request_cancel(ALICE, cancelled)
        assert {id_: kind for kind, id_ in told(database, endpoint)} == {
            done: "batch.completed",
            failed: "batch.failed",
            late: "batch.expired",
            never: "batch.expired",
            cancelled: "batch.cancelled",
            plain: "job.succeeded",
            other: "job.succeeded",
        }

    def test_who_asks_for_batches_is_told_of_no_job(self, database: Database):
        wants = {kind: add(database, kind) for kind in ("batch.cancelled", "job.cancelled")}
        (batch,) = submit(database, priority=BULK_PRIORITY, metadata=dict([BATCH_LABEL]))
        (job,) = submit(database)
        with database.begin() as tx:
            for one in (batch, job):
                tx.jobs.request_cancel(ALICE, one)
        assert told(database, wants["batch.cancelled"]) == [("batch.cancelled", batch)]
        assert told(database, wants["job.cancelled"]) == [("job.cancelled", job)]

    def test_a_rolled_back_end_tells_nothing(self, database: Database):
        endpoint = add(database)
        (job,) = submit(database)
        with pytest.raises(ZeroDivisionError), database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
            1 / 0  # noqa: B018
        assert told(database, endpoint) == []

    def test_a_filter_lets_through_what_it_names(self, database: Database):
        only = add(database, "job.cancelled")
        done, cancelled = submit(database, count=2)
        run(database, [done])
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, cancelled)
        assert told(database, only) == [("job.cancelled", cancelled)]

    def test_nobody_is_told_of_another_tenants_jobs(self, database: Database):
        alices, bobs = add(database), add(database, tenant=BOB)
        job, bobs_job = submit(database)[0], submit(database, tenant=BOB)[0]
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
            tx.jobs.request_cancel(BOB, bobs_job)
        assert told(database, alices) == [("job.cancelled", job)]
        assert told(database, bobs) == [("job.cancelled", bobs_job)]

    def test_a_jobs_own_webhook_is_told_of_this_job_alone(self, database: Database):
        mine, other = new_jobs(1, webhook=URL), new_jobs(1)
        with database.begin() as tx:
            tx.jobs.submit(ALICE, mine)
            tx.jobs.submit(ALICE, other)
            own = tx.webhooks.bring_along([(ALICE, URL)])[(ALICE, URL)]
            assert tx.jobs.webhook(ALICE, mine[0].id) == URL
            assert tx.jobs.webhook(BOB, mine[0].id) is None
            assert tx.jobs.webhook(ALICE, other[0].id) is None
        run(database, [mine[0].id, other[0].id])
        assert told(database, own) == [("job.succeeded", mine[0].id)]
        with database.read() as tx:
            assert tx.webhooks.endpoints(ALICE, limit=10) == []

    def test_a_group_is_complete_once_and_with_its_last_job(self, database: Database):
        endpoint = add(database, "group.completed")
        group, jobs = new_id(), new_jobs(3)
        with database.begin() as tx:
            tx.groups.create(ALICE, group, 3, webhook="https://example.com/group")
            tx.jobs.submit(ALICE, jobs, group_id=group)
            own = tx.webhooks.bring_along([(ALICE, "https://example.com/group")])
        first, second, third = [job.id for job in jobs]
        for ids, complete in (([second, first], 0), ([third], 1), ([], 0)):
            if ids:
                run(database, ids)
            with database.begin() as tx:
                assert tx.webhooks.complete_groups(None, 100) == (complete, None)
        assert told(database, endpoint) == [("group.completed", group)]
        assert told(database, *own.values()) == [("group.completed", group)]

    def test_groups_are_looked_at_in_pages(self, database: Database):
        groups = [new_id() for _ in range(5)]
        with database.begin() as tx:
            for group in groups:
                tx.groups.create(ALICE, group, 1)
                tx.jobs.submit(ALICE, new_jobs(1), group_id=group)
        seen, after = 0, None
        while True:
            with database.begin() as tx:
                complete, after = tx.webhooks.complete_groups(after, 2)
            assert complete == 0
            seen += 1
            if after is None:
                break
        assert seen == 3


class TestDeliveries:
    def test_what_is_claimed_is_due_again_after_its_lease(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        jobs = submit(database, count=3)
        with database.begin() as tx:
            for one in jobs:
                tx.jobs.request_cancel(ALICE, one)
        first = due(database, endpoint, limit=2)
        assert len(first) == 2
        assert len(due(database, endpoint)) == 1
        assert due(database, endpoint) == []
        clock.pass_ms(LEASE_MS)
        assert len(due(database, endpoint)) == 3

    def test_several_endpoints_are_claimed_for_at_once_each_with_its_own_places(
        self, database: Database, clock: ManualClock
    ):
        first, second, third = add(database), add(database), add(database, tenant=BOB)
        jobs = submit(database, count=5) + submit(database, tenant=BOB, count=2)
        with database.begin() as tx:
            for one in jobs:
                tx.jobs.request_cancel(ALICE if one in jobs[:5] else BOB, one)

        def claim_for(**places: int) -> dict[str, list[Delivery]]:
            names = {"first": first, "second": second, "third": third}
            with database.begin() as tx:
                wanted = {names[name]: most for name, most in places.items()}
                found = tx.webhooks.claim_for(wanted, LEASE_MS)
            return {
                name: [one for one in found if one.endpoint_id == endpoint]
                for name, endpoint in names.items()
            }

        claimed = claim_for(first=2, second=10, third=1)
        assert {name: len(found) for name, found in claimed.items()} == {
            "first": 2,
            "second": 5,
            "third": 1,
        }
        for found in claimed.values():
            assert all(one.event.type == "job.cancelled" and one.attempts == 0 for one in found)
        assert {one.event.tenant for one in claimed["third"]} == {BOB}
        claimed = claim_for(first=10, second=10)
        assert {name: len(found) for name, found in claimed.items()} == {
            "first": 3,
            "second": 0,
            "third": 0,
        }
        assert claim_for() == {"first": [], "second": [], "third": []}
        clock.pass_ms(LEASE_MS)
        claimed = claim_for(first=10, second=10, third=10)
        assert sum(map(len, claimed.values())) == 12

    def test_delivered_is_the_end_and_a_retry_comes_when_it_is_due(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        for one in submit(database, count=2):
            with database.begin() as tx:
                tx.jobs.request_cancel(ALICE, one)
        good, bad = due(database, endpoint)
        settle(
            database,
            attempt(good, AttemptResult.DELIVERED, status=204),
            attempt(bad, AttemptResult.RETRY, status=500, retry_in_ms=5_000),
        )
        clock.pass_ms(4_999)
        assert due(database, endpoint) == []
        clock.pass_ms(1)
        (again,) = due(database, endpoint)
        assert (again.event, again.attempts) == (bad.event, 1)
        settle(database, attempt(again, AttemptResult.GIVEN_UP, error="timeout"))
        clock.pass_ms(10**9)
        assert due(database, endpoint) == []
        with database.read() as tx:
            log = tx.webhooks.attempts(ALICE, endpoint, limit=10)
            assert tx.webhooks.attempts(BOB, endpoint, limit=10) == []
            assert tx.webhooks.attempts(ALICE, endpoint, limit=10, after=log[0].id) == log[1:]
        assert [(one.number, one.result, one.status, one.error) for one in log] == [
            (2, "given_up", None, "timeout"),
            (1, "retry", 500, None),
            (1, "delivered", 204, None),
        ]

    def test_of_two_who_attempted_the_same_one_counts(self, database: Database, clock: ManualClock):
        endpoint = add(database)
        (job,) = submit(database)
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
        (first,) = due(database, endpoint)
        clock.pass_ms(LEASE_MS)
        (second,) = due(database, endpoint)
        settle(database, attempt(second, AttemptResult.DELIVERED, status=200))
        settle(database, attempt(first, AttemptResult.RETRY, error="late", retry_in_ms=0))
        assert due(database, endpoint) == []

    def test_an_endpoint_that_keeps_failing_is_left_alone_for_a_while(
        self, database: Database, clock: ManualClock
    ):
        endpoint, other = add(database), add(database)
        for one in submit(database, count=BREAKS_AFTER + 1):
            with database.begin() as tx:
                tx.jobs.request_cancel(ALICE, one)
        claimed = due(database, endpoint, limit=BREAKS_AFTER)
        for one in claimed:
            settle(database, attempt(one, AttemptResult.RETRY, retry_in_ms=1))
        clock.pass_ms(10)
        with database.read() as tx:
            assert [one.id for one in tx.webhooks.ready_endpoints()] == [other]
        clock.pass_ms(FIRST_PAUSE_MS)
        with database.read() as tx:
            ready = {one.id: one.failures for one in tx.webhooks.ready_endpoints()}
            assert tx.webhooks.ready_endpoints(after=max(ready)) == []
        assert ready == {endpoint: BREAKS_AFTER, other: 0}
        (probe, *_) = due(database, endpoint, limit=1)
        settle(database, attempt(probe, AttemptResult.DELIVERED))
        with database.read() as tx:
            assert tx.webhooks.endpoint(ALICE, endpoint).failures == 0

    def test_one_that_is_gone_is_told_nothing_more_but_can_catch_up(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        first, second, third = submit(database, count=3)
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, first)
        (delivery,) = due(database, endpoint)
        settle(database, attempt(delivery, AttemptResult.GONE, status=410))
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, second)
        assert due(database, endpoint) == []
        with database.begin() as tx:
            seen = tx.webhooks.endpoint(ALICE, endpoint)
            assert (seen.enabled, seen.disabled_reason) == (False, "gone")
            assert tx.webhooks.change(ALICE, endpoint, enabled=True).enabled
            tx.jobs.request_cancel(ALICE, third)
        assert told(database, endpoint) == [("job.cancelled", third)]
        with database.begin() as tx:
            now = clock.now_ms()
            replay = tx.webhooks.replay
            assert replay(BOB, endpoint, 0, now + 1, limit=100) == (0, None)
            assert replay(ALICE, endpoint, now + 1, now + 2, limit=100) == (0, None)
            assert replay(ALICE, endpoint, START_MS, now + 1, limit=100) == (3, None)
        assert [one for _, one in told(database, endpoint)] == sorted([first, second, third])

    def test_a_long_range_is_replayed_in_parts_that_neither_skip_nor_stay(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database, "job.cancelled")
        jobs = submit(database, count=9)
        run(database, jobs[8:])  # which the endpoint does not want
        for many in (2, 1, 4, 1):  # together in one millisecond each
            with database.begin() as tx:
                for one in jobs[:many]:
                    tx.jobs.request_cancel(ALICE, one)
            jobs = jobs[many:]
            clock.pass_ms(1)
        assert len(due(database, endpoint)) == 8
        since, parts = START_MS, []
        while since is not None:
            with database.begin() as tx:
                count, since = tx.webhooks.replay(
                    ALICE, endpoint, since, clock.now_ms() + 1, limit=3
                )
            parts.append((count, len(due(database, endpoint))))
        assert parts == [(3, 3), (4, 4), (1, 1)]

    def test_one_event_can_be_replayed_and_a_test_sent_by_its_owner(self, database: Database):
        endpoint, bobs = add(database, "job.failed"), add(database, tenant=BOB)
        (job,) = submit(database)
        quiet = add(database, "job.cancelled")
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
        assert len(due(database, quiet)) == 1
        with database.begin() as tx:
            assert not tx.webhooks.replay_one(BOB, bobs, job)
            assert not tx.webhooks.replay_one(BOB, endpoint, job)
            assert not tx.webhooks.replay_one(ALICE, endpoint, new_id())
            assert tx.webhooks.replay_one(ALICE, endpoint, job)
            assert not tx.webhooks.send_test(BOB, endpoint, new_id())
            ping = new_id()
            assert tx.webhooks.send_test(ALICE, endpoint, ping)
        assert told(database, endpoint) == [("job.cancelled", job), ("webhook.test", ping)]

    def test_a_changed_filter_and_a_removed_endpoint(self, database: Database):
        endpoint = add(database)
        first, second, third = submit(database, count=3)
        with database.begin() as tx:
            assert tx.webhooks.change(BOB, endpoint, types=("*",)) is None
            changed = tx.webhooks.change(ALICE, endpoint, types=("job.failed",), description="d")
            assert (changed.types, changed.description) == (("job.failed",), "d")
            tx.jobs.request_cancel(ALICE, first)
        assert due(database, endpoint) == []
        with database.begin() as tx:
            tx.webhooks.change(ALICE, endpoint, types=("*",))
            tx.jobs.request_cancel(ALICE, second)
            assert not tx.webhooks.remove(BOB, endpoint)
            assert tx.webhooks.remove(ALICE, endpoint)
            assert not tx.webhooks.remove(ALICE, endpoint)
            tx.jobs.request_cancel(ALICE, third)
        assert due(database, endpoint) == []
        with database.read() as tx:
            assert tx.webhooks.endpoint(ALICE, endpoint) is None
            load = tx.webhooks.delivery_load()
        assert (load.due, load.pending, load.oldest_due_at) == (0, 0, None)

    def test_the_load_says_how_much_is_due_and_since_when(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        for one in submit(database, count=3):
            with database.begin() as tx:
                tx.jobs.request_cancel(ALICE, one)
            clock.pass_ms(100)
        due(database, endpoint, limit=1)
        with database.read() as tx:
            load = tx.webhooks.delivery_load()
        assert (load.due, load.pending, load.oldest_due_at) == (2, 3, START_MS + 100)


class TestSecrets:
    def test_two_are_good_while_one_takes_the_others_place(
        self, database: Database, clock: ManualClock
    ):
        endpoint = add(database)
        with database.begin() as tx:
            first = tx.webhooks.ensure_secret(ALICE, new_id(), "whsec_first")
            assert tx.webhooks.ensure_secret(ALICE, new_id(), "whsec_other") == first
            tx.webhooks.rotate(ALICE, endpoint, new_id(), "whsec_own", 1_000)
            tx.webhooks.rotate(ALICE, None, new_id(), "whsec_second", 1_000)
            tx.webhooks.rotate(BOB, None, new_id(), "whsec_bobs", 1_000)

        def good(tenant: str, endpoint_id: str | None) -> list[str]:
            with database.read() as tx:
                found = tx.webhooks.secrets([tenant, tenant])
            assert {key[0] for key in found} <= {tenant}
            return [one.secret for one in found.get((tenant, endpoint_id), [])]

        assert good(ALICE, None) == ["whsec_second", "whsec_first"]
        assert good(ALICE, endpoint) == ["whsec_own"]
        with database.begin() as tx:  # a third: the first is over at once
            tx.webhooks.rotate(ALICE, None, new_id(), "whsec_third", 1_000)
        assert good(ALICE, None) == ["whsec_third", "whsec_second"]
        clock.pass_ms(1_000)
        assert good(ALICE, None) == ["whsec_third"]
        assert good(BOB, None) == ["whsec_bobs"]

    def test_the_newest_is_known_by_what_it_replaced_and_not_by_its_id(self, database: Database):
        ids = sorted((new_id() for _ in range(3)), reverse=True)
        with database.begin() as tx:  # all in one moment
            for number, one in enumerate(ids):
                tx.webhooks.rotate(ALICE, None, one, f"whsec_{number}", 1_000)
            found = tx.webhooks.secrets([ALICE])[(ALICE, None)]
        assert [one.secret for one in found] == ["whsec_2", "whsec_1"]

    def test_an_endpoint_takes_its_own_secrets_along(self, database: Database):
        endpoint, other = add(database), add(database)
        with database.begin() as tx:
            tx.webhooks.ensure_secret(ALICE, new_id(), "whsec_tenants")
            for one in (endpoint, other):
                tx.webhooks.rotate(ALICE, one, new_id(), "whsec_own", 1_000)
            assert tx.webhooks.remove(ALICE, endpoint)
            assert set(tx.webhooks.secrets([ALICE])) == {(ALICE, None), (ALICE, other)}

    def test_a_secret_is_not_in_its_repr(self, database: Database):
        with database.begin() as tx:
            secret = tx.webhooks.ensure_secret(ALICE, new_id(), "whsec_hidden")
        assert "hidden" not in repr(secret)


class TestDuties:
    def test_a_duty_that_never_catches_up_lags(self, database: Database, clock: ManualClock):
        with database.begin() as tx:
            tx.duties.note("sweep", 5_000, clear=True)
        clock.pass_ms(60_000)
        with database.begin() as tx:
            tx.duties.note("sweep", 5_000, clear=False)
            tx.duties.note("new", 1_000, clear=True)
        with database.read() as tx:
            lags = {one.name: one.lag_ms(clock.now_ms()) for one in tx.duties.notes()}
        assert lags == {"sweep": 55_000, "new": 0}


def test_states_that_are_told_are_the_terminal_ones():
    jobs = {f"job.{state.value}" for state in TERMINAL}
    assert jobs | {"group.completed"} | set(BATCH_TYPES) == set(EVENT_TYPES)
    assert JobState.QUEUED not in TERMINAL
