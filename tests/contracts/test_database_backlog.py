"""The backlog and the ready window: what the relay sees and marks."""

from __future__ import annotations

from storage.database import Database
from storage.records.jobs import AGEING_MS_PER_PRIORITY, BULK_PRIORITY, JobState
from storage.records.latency import QueuedLoad
from tests.support.database import (
    ALICE,
    BOB,
    POOL,
    START_MS,
    VERSION_ID,
    WITH_FAKE,
    claim,
    database_on,
    failure,
    new_id,
    open_session,
    retry,
    submit,
)

database = database_on(*WITH_FAKE)


def heads(database: Database, tenant: str = ALICE, pool: str = POOL, limit: int = 100) -> list[str]:
    with database.read() as tx:
        return [head.id for head in tx.backlog.heads(pool, tenant, limit)]


def mark(database: Database, ids: list[str]) -> frozenset[str]:
    with database.begin() as tx:
        return tx.backlog.mark_published(ids)


def test_pools_and_tenants_with_a_backlog_are_found(database):
    submit(database, ALICE, 3)
    submit(database, BOB, 2)
    submit(database, BOB, 1, pool="gpu")
    (published,) = submit(database, "carol", 1, pool="idle")
    mark(database, [published])
    with database.read() as tx:
        assert tx.backlog.pools() == [POOL, "gpu"]
        assert list(tx.backlog.tenants(POOL)) == [ALICE, BOB]
        assert list(tx.backlog.tenants("gpu")) == [BOB]
        assert list(tx.backlog.tenants("idle")) == []


def test_a_tenants_highest_waiting_priority_is_known(database):
    submit(database, ALICE, 2, priority=BULK_PRIORITY)
    (online,) = submit(database, ALICE, 1, priority=7)
    submit(database, BOB, 1, priority=0)
    with database.read() as tx:
        assert tx.backlog.tenants(POOL) == {ALICE: 7, BOB: 0}
    mark(database, [online])
    with database.read() as tx:
        assert tx.backlog.tenants(POOL) == {ALICE: BULK_PRIORITY, BOB: 0}


def test_an_empty_backlog_has_no_pools(database):
    with database.read() as tx:
        assert tx.backlog.pools() == []
        assert tx.backlog.tenants(POOL) == {}
        assert tx.backlog.window(POOL) == {}
        assert tx.backlog.depth(ALICE, 10) == 0


def test_heads_come_by_priority_and_age(database, clock):
    (low,) = submit(database, priority=4)
    (plain,) = submit(database, priority=5)
    clock.pass_ms(AGEING_MS_PER_PRIORITY - 1)
    (late,) = submit(database, priority=6)
    (latest,) = submit(database, priority=5)
    clock.pass_ms(2)
    (overtakes_nobody,) = submit(database, priority=6)
    assert heads(database) == [late, plain, overtakes_nobody, latest, low]
    assert heads(database, limit=2) == [late, plain]


def test_jobs_of_one_millisecond_keep_their_order(database):
    ids = submit(database, count=50)
    assert heads(database) == ids


def test_a_head_says_what_the_relay_weighs(database):
    (job_id,) = submit(database, priority=8, version_id=(version := new_id()), pool="gpu")
    with database.read() as tx:
        (head,) = tx.backlog.heads("gpu", ALICE, 5)
        job = tx.jobs.get(ALICE, job_id)
    assert (head.id, head.tenant, head.pool, head.version_id) == (job_id, ALICE, "gpu", version)
    assert (head.priority, head.expires_at) == (8, job.expires_at)
    assert head.rank == job.created_at - 8 * AGEING_MS_PER_PRIORITY


def test_tenants_and_pools_do_not_see_each_other(database):
    mine, theirs = submit(database, ALICE, 2), submit(database, BOB, 2)
    elsewhere = submit(database, ALICE, 1, pool="gpu")
    assert heads(database, ALICE) == mine
    assert heads(database, BOB) == theirs
    assert heads(database, ALICE, "gpu") == elsewhere


def test_what_may_not_start_yet_or_no_more_is_no_head(database, clock):
    (retried,) = submit(database)
    (dying,) = submit(database, expires_in_ms=1_000)
    session = open_session(database)
    (job,) = claim(database, session, [retried])
    with database.begin() as tx:
        tx.jobs.commit(session, [retry(job, in_ms=2_000)])
    assert heads(database) == [dying]
    clock.pass_ms(1_000)
    assert heads(database) == []
    clock.pass_ms(1_000)
    assert heads(database) == [retried]


def test_marking_takes_a_job_out_of_the_backlog_once(database):
    ids = submit(database, count=3)
    assert mark(database, ids[:2]) == set(ids[:2])
    assert mark(database, ids) == {ids[2]}
    assert heads(database) == []
    with database.read() as tx:
        assert tx.backlog.window(POOL) == {ALICE: 3}
    assert mark(database, [*ids, new_id(), "no id"]) == frozenset()


def test_unmarking_puts_back_what_was_not_claimed_meanwhile(database):
    ids = submit(database, count=3)
    mark(database, ids)
    claim(database, open_session(database), ids[:1])
    with database.begin() as tx:
        assert tx.backlog.unmark(ids) == 2
        assert tx.backlog.unmark(ids) == 0
    assert heads(database) == ids[1:]


def test_only_queued_jobs_are_marked(database):
    running, done = submit(database, count=2)
    session = open_session(database)
    jobs = claim(database, session, [running, done])
    with database.begin() as tx:
        tx.jobs.commit(session, [failure(jobs[1])])
    assert mark(database, [running, done]) == frozenset()


def test_the_window_counts_published_and_unclaimed_by_tenant(database):
    mine, theirs = submit(database, ALICE, 3), submit(database, BOB, 2)
    elsewhere = submit(database, BOB, 1, pool="gpu")
    mark(database, mine + theirs + elsewhere)
    claim(database, open_session(database), mine[:1])
    with database.begin() as tx:
        tx.jobs.request_cancel(BOB, theirs[0])
    with database.read() as tx:
        assert tx.backlog.window(POOL) == {ALICE: 2, BOB: 1}
        assert tx.backlog.window("gpu") == {BOB: 1}


def test_the_window_is_counted_by_version_and_class_too(database):
    other = new_id()
    mine = submit(database, ALICE, 2) + submit(database, ALICE, 3, version_id=other)
    mine += submit(database, ALICE, 4, priority=2)
    theirs, waiting = submit(database, BOB, 1, version_id=other), submit(database, BOB, 2)
    elsewhere = submit(database, BOB, 1, pool="gpu")
    mark(database, mine + theirs + elsewhere)
    claim(database, open_session(database), mine[4:5])
    with database.read() as tx:
        assert tx.backlog.window_by_class(POOL) == {
            (ALICE, VERSION_ID, False): 2,
            (ALICE, VERSION_ID, True): 4,
            (ALICE, other, False): 2,
            (BOB, other, False): 1,
        }
        assert tx.backlog.window_by_class("gpu") == {(BOB, VERSION_ID, False): 1}
        assert tx.backlog.window_by_class("tpu") == {}
    assert heads(database, BOB) == waiting


def test_an_aged_bulk_backlog_hides_no_online_job(database, clock):
    bulk = submit(database, count=5, priority=BULK_PRIORITY)
    clock.pass_ms(10 * AGEING_MS_PER_PRIORITY)
    online = submit(database, count=3)
    with database.read() as tx:
        found = [head.id for head in tx.backlog.heads(POOL, ALICE, 2)]
        assert found == bulk[:2] + online[:2]  # by rank, but so many of each class
        assert [head.id for head in tx.backlog.heads(POOL, ALICE, 3, 1)] == [bulk[0], *online]


def test_what_expires_soon_is_found_however_deep_it_lies(database, clock):
    submit(database, count=20)
    (later,) = submit(database, expires_in_ms=4_000)
    (soon,) = submit(database, BOB, expires_in_ms=3_000)
    submit(database, expires_in_ms=3_000, priority=BULK_PRIORITY)
    submit(database, expires_in_ms=3_000, pool="gpu")
    (published,) = submit(database, expires_in_ms=3_000)
    mark(database, [published])

    def urgent(within_ms: int, limit: int = 100) -> list[str]:
        with database.read() as tx:
            return [head.id for head in tx.backlog.urgent(POOL, within_ms, limit)]

    assert urgent(4_000) == [soon, later]
    assert urgent(3_999) == [soon]
    assert urgent(2_999) == []
    clock.pass_ms(3_000)
    assert urgent(4_000) == [later]


def test_the_load_is_every_queued_job_by_tenant_and_version(database, clock):
    old = submit(database, ALICE, 1)
    clock.pass_ms(50)
    mark(database, submit(database, ALICE, 3))
    other = new_id()
    (later, running) = submit(database, BOB, 2, version_id=other, version=7, model_name="cats")
    submit(database, BOB, 5, pool="gpu")
    claim(database, open_session(database), [running])
    with database.read() as tx:
        assert tx.backlog.load(POOL) == [
            QueuedLoad(ALICE, "digits", 1, VERSION_ID, 4, START_MS),
            QueuedLoad(BOB, "cats", 7, other, 1, START_MS + 50),
        ]
        assert tx.backlog.load("tpu") == []
    assert {*old, later} == set(heads(database) + heads(database, BOB))


def test_the_load_tells_priorities_apart_in_the_window_and_before_it(database):
    submit(database, ALICE, 3, priority=5)
    urgent = submit(database, ALICE, 2, priority=9)
    mark(database, submit(database, ALICE, 4, priority=1))
    mark(database, urgent[:1])
    with database.read() as tx:
        counted = {one.priority: one.jobs for one in tx.backlog.load(POOL)}
    assert counted == {1: 4, 5: 3, 9: 2}


def test_the_load_counts_no_further_than_its_cap_and_hides_no_tenant(database):
    submit(database, ALICE, 90)
    submit(database, BOB, 5)
    mark(database, submit(database, "carol", 4))
    with database.read() as tx:
        counted = {one.tenant: one.jobs for one in tx.backlog.load(POOL, cap=24)}
        assert counted == {ALICE: 10, BOB: 5, "carol": 4}
        assert sum(one.jobs for one in tx.backlog.load(POOL, cap=3)) == 3
        assert sum(one.jobs for one in tx.backlog.load(POOL)) == 99


def test_depth_never_counts_past_its_cap(database):
    ids = submit(database, ALICE, 7)
    submit(database, BOB, 2)
    mark(database, ids[:2])
    claim(database, open_session(database), ids[:1])
    with database.read() as tx:
        assert tx.backlog.depth(ALICE, 100) == 6
        assert tx.backlog.depth(ALICE, 4) == 4
        assert tx.backlog.depth(BOB, 100) == 2
        assert tx.jobs.get(ALICE, ids[0]).state is JobState.RUNNING
