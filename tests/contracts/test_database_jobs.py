"""Submitting and reading jobs: what went in comes out, and only for its own tenant."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from storage.database import Database
from storage.records.errors import Conflict, InvalidInput
from storage.records.jobs import (
    Job,
    JobFilter,
    JobKind,
    JobState,
    PackSlice,
    backlog_rank,
)
from tests.support.database import (
    ALICE,
    BOB,
    REAL,
    START_MS,
    WITH_FAKE,
    ManualClock,
    claim,
    database_on,
    failure,
    finish,
    new_id,
    new_job,
    new_jobs,
    open_pack,
    open_session,
    submit,
    success,
)

database = database_on(*WITH_FAKE)


def get(database: Database, job_id: str, tenant: str = ALICE) -> Job | None:
    with database.read() as tx:
        return tx.jobs.get(tenant, job_id)


def ids_of(database: Database, tenant: str = ALICE, limit: int = 100, after=None, **where):
    with database.read() as tx:
        found = tx.jobs.list(tenant, JobFilter(**where), limit=limit, after=after)
        return [job.id for job in found]


def test_a_submitted_job_is_read_back_as_it_was_asked_for(database, clock):
    earlier = new_id()
    asked = new_job(
        priority=7,
        custom_id="row-1 ✓",
        metadata={"team": "vision", "ключ": "värde"},
        expires_in_ms=60_000,
        run_timeout_ms=5_000,
        max_attempts=2,
        retry_of=earlier,
    )
    with database.begin() as tx:
        tx.jobs.submit(ALICE, [asked])

    job = get(database, asked.id)

    assert job == Job(
        id=asked.id,
        tenant=ALICE,
        kind=JobKind.INFERENCE,
        state=JobState.QUEUED,
        model_name="digits",
        version=1,
        version_id=asked.version_id,
        pool=asked.pool,
        priority=7,
        group_id=None,
        custom_id="row-1 ✓",
        metadata={"team": "vision", "ключ": "värde"},
        seq=1,
        epoch=0,
        attempts=0,
        max_attempts=2,
        losses=0,
        session_id=None,
        created_at=START_MS,
        expires_at=START_MS + 60_000,
        not_before=START_MS,
        published_at=None,
        started_at=None,
        run_deadline_at=None,
        run_timeout_ms=5_000,
        cancel_requested_at=None,
        finished_at=None,
        error=None,
        result=None,
        retry_of=earlier,
    )


def test_inputs_come_back_byte_for_byte_inline_or_as_a_place_in_a_pack(database):
    every_byte = bytes(range(256)) * 130
    place = PackSlice(new_id(), 7, 1 << 40, "ab" * 32)
    jobs = [new_job(payload=every_byte), new_job(payload=b""), new_job(payload=place)]
    with database.begin() as tx:
        tx.jobs.submit(ALICE, jobs)
    with database.read() as tx:
        assert [tx.jobs.payload(ALICE, job.id) for job in jobs] == [every_byte, b"", place]
        assert tx.jobs.payload(BOB, jobs[0].id) is None
        assert tx.jobs.payload(ALICE, new_id()) is None
        several = [new_id(), *(job.id for job in jobs)]
        assert tx.jobs.payloads(ALICE, several) == {
            job.id: found for job, found in zip(jobs, [every_byte, b"", place], strict=True)
        }
        assert tx.jobs.payloads(BOB, several) == {}


def test_a_thousand_jobs_are_submitted_all_or_none(database):
    jobs = new_jobs(1000)
    with pytest.raises(Conflict) as refused, database.begin() as tx:
        tx.jobs.submit(ALICE, jobs)
        tx.jobs.submit(ALICE, [new_job(), jobs[500]])
    assert refused.value.stable_code == "already_exists"
    assert ids_of(database) == []

    with database.begin() as tx:
        tx.jobs.submit(ALICE, jobs)
    assert ids_of(database, limit=2000) == [job.id for job in reversed(jobs)]


def test_an_error_inside_a_transaction_takes_everything_back(database):
    with pytest.raises(ZeroDivisionError), database.begin() as tx:
        tx.jobs.submit(ALICE, new_jobs(3))
        raise ZeroDivisionError
    assert ids_of(database) == []


def test_submitting_nothing_does_nothing(database):
    with database.begin() as tx:
        tx.jobs.submit(ALICE, [])
        tx.jobs.submit_each([])


def test_jobs_of_several_tenants_are_submitted_at_once_each_its_own_tenants(database):
    mine, theirs = new_job(metadata={"k": "v"}), new_job(metadata={"k": "v"}, payload=b"theirs")
    packed = new_job(payload=PackSlice(new_id(), 0, 1, "d"))
    with database.begin() as tx:
        tx.jobs.submit_each([(ALICE, mine), (BOB, theirs), (BOB, packed)])
    assert ids_of(database, metadata={"k": "v"}) == [mine.id]
    assert ids_of(database, BOB) == [packed.id, theirs.id]
    assert ids_of(database, BOB, metadata={"k": "v"}) == [theirs.id]
    with database.read() as tx:
        assert tx.jobs.payload(BOB, theirs.id) == b"theirs"
        assert tx.jobs.payload(BOB, packed.id) == packed.payload
        assert tx.jobs.payload(ALICE, theirs.id) is None
        assert tx.jobs.get(ALICE, packed.id) is None
        assert tx.jobs.get(BOB, theirs.id).group_id is None


def test_one_taken_id_refuses_the_submissions_of_every_tenant(database):
    (taken,) = submit(database, BOB)
    with pytest.raises(Conflict), database.begin() as tx:
        tx.jobs.submit_each([(ALICE, new_job()), (ALICE, new_job(id=taken))])
    assert ids_of(database) == []


def test_jobs_may_enter_the_ready_window_as_they_are_submitted(database):
    grouped, (first, second) = new_jobs(2), new_jobs(2)
    group_id = new_id()
    with database.begin() as tx:
        tx.groups.create(ALICE, group_id, 2)
        tx.jobs.submit(ALICE, grouped, group_id=group_id, published=True)
        tx.jobs.submit_each([(BOB, first), (BOB, second)], published={second.id})
    with database.read() as tx:
        assert tx.backlog.window("default") == {ALICE: 2, BOB: 1}
        assert [head.id for head in tx.backlog.heads("default", BOB, 9)] == [first.id]
        assert tx.jobs.get(BOB, second.id).published_at == START_MS
        assert [job.id for job in tx.groups.members(ALICE, group_id, limit=9)] == [
            job.id for job in grouped
        ]
    with database.begin() as tx:
        tx.jobs.submit_each([(ALICE, new_job())], published=True)
        assert tx.backlog.window("default") == {ALICE: 3, BOB: 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_id": "a\x00b"},
        {"metadata": {"k\x00": "v"}},
        {"metadata": {"k": "\x00"}},
        {"metadata": {"k": "é" * 1001}},
    ],
)
def test_text_that_one_engine_cannot_hold_is_refused_by_both(database, fields):
    with pytest.raises(InvalidInput), database.begin() as tx:
        tx.jobs.submit(ALICE, [new_job(**fields)])


def test_a_foreign_tenants_job_is_not_there(database):
    (job_id,) = submit(database, ALICE, metadata={"k": "v"})
    with database.read() as tx:
        assert tx.jobs.get(BOB, job_id) is None
        assert tx.jobs.get_many(BOB, [job_id]) == []
        assert tx.jobs.list(BOB, JobFilter(), limit=10, after=None) == []
        assert tx.jobs.list(BOB, JobFilter(metadata={"k": "v"}), limit=10, after=None) == []
    with database.begin() as tx:
        assert tx.jobs.request_cancel(BOB, job_id) is None
    assert get(database, job_id).state is JobState.QUEUED


@pytest.mark.parametrize("not_an_id", ["", "x", "0190", "'; DROP TABLE jobs; --", "A" * 36])
def test_what_is_not_an_id_names_nothing(database, not_an_id):
    session = open_session(database)
    with database.begin() as tx:
        assert tx.jobs.get(ALICE, not_an_id) is None
        assert tx.jobs.payload(ALICE, not_an_id) is None
        assert tx.jobs.glimpse([not_an_id]) == []
        assert tx.jobs.claim(session, [not_an_id]) == []
        assert tx.jobs.request_cancel(ALICE, not_an_id) is None
        assert tx.jobs.cancel_group(ALICE, not_an_id) is None
        assert tx.groups.counts(ALICE, not_an_id) is None
        assert tx.groups.members(ALICE, not_an_id, limit=5) == []
        assert tx.packs.get(not_an_id) is None
        assert tx.models.by_id(not_an_id) is None
        assert tx.files.get(ALICE, not_an_id) is None
        assert tx.jobs.list(ALICE, JobFilter(group_id=not_an_id), limit=5, after=None) == []


def test_many_are_read_in_the_order_asked_for(database):
    ids = submit(database, count=3)
    asked = [ids[2], new_id(), ids[0], ids[2]]
    with database.read() as tx:
        assert [job.id for job in tx.jobs.get_many(ALICE, asked)] == [ids[2], ids[0]]


def test_a_glimpse_shows_every_transition(database):
    (job_id,) = submit(database)
    session = open_session(database)
    seen = []

    def look() -> None:
        with database.read() as tx:
            seen.extend((one.state, one.seq) for one in tx.jobs.glimpse([job_id, new_id()]))

    look()
    (claimed,) = claim(database, session, [job_id])
    look()
    with database.begin() as tx:
        tx.jobs.commit(session, [failure(claimed)])
    look()
    assert seen == [(JobState.QUEUED, 1), (JobState.RUNNING, 2), (JobState.FAILED, 3)]


class TestPages:
    def test_pages_are_newest_first_and_never_overlap(self, database):
        ids = submit(database, count=7)
        submit(database, BOB, count=3)
        first = ids_of(database, limit=3)
        second = ids_of(database, limit=3, after=first[-1])
        third = ids_of(database, limit=3, after=second[-1])
        assert first + second + third == ids[::-1]

    @pytest.fixture
    def mixed(self, database: Database, clock: ManualClock) -> dict[str, list[str]]:
        """Jobs in every state; ``all`` in order of submission."""
        session = open_session(database, lease_ttl_ms=10**9)
        every = submit(database, count=12)
        states = {
            "succeeded": every[0::6],
            "failed": every[1::6],
            "cancelled": every[2::6],
            "running": every[4::6],
            "queued": every[5::6],
        }
        finish(database, session, states["succeeded"])
        for job in claim(database, session, states["failed"]):
            with database.begin() as tx:
                tx.jobs.commit(session, [failure(job)])
        with database.begin() as tx:
            for job_id in states["cancelled"]:
                tx.jobs.request_cancel(ALICE, job_id)
        claim(database, session, states["running"])
        states["queued"] += every[3::6]
        states["expired"] = submit(database, count=2, expires_in_ms=1)
        clock.pass_ms(2)
        with database.begin() as tx:
            assert tx.jobs.expire() == 2
        return states

    @pytest.mark.parametrize("state", list(JobState))
    def test_by_one_state(self, database, mixed, state):
        wanted = sorted(mixed[state.value], reverse=True)
        assert len(wanted) >= 2
        assert ids_of(database, states=frozenset({state})) == wanted

    def test_by_several_states_merged_in_order(self, database, mixed):
        states = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED})
        wanted = sorted(mixed["succeeded"] + mixed["failed"] + mixed["expired"], reverse=True)
        assert ids_of(database, states=states) == wanted
        assert ids_of(database, states=states, limit=4) == wanted[:4]
        assert ids_of(database, states=states, limit=4, after=wanted[3]) == wanted[4:]

    def test_by_metadata_all_keys_must_match(self, database):
        (both,) = submit(database, metadata={"team": "a", "run": "1"})
        (other,) = submit(database, metadata={"team": "a", "run": "2"})
        submit(database, metadata={"team": "b", "run": "1"})
        submit(database)
        submit(database, BOB, metadata={"team": "a", "run": "1"})
        assert ids_of(database, metadata={"team": "a"}) == [other, both]
        assert ids_of(database, metadata={"team": "a", "run": "1"}) == [both]
        assert ids_of(database, metadata={"team": "c"}) == []

    def test_by_model_version_and_kind(self, database):
        (old,) = submit(database, model_name="digits", version=1)
        (new,) = submit(database, model_name="digits", version=2)
        submit(database, model_name="cats", version=1)
        assert ids_of(database, model_name="digits") == [new, old]
        assert ids_of(database, model_name="digits", version=2) == [new]
        assert ids_of(database, kind=JobKind.BULK) == []
        assert len(ids_of(database, kind=JobKind.INFERENCE)) == 3

    def test_by_group_and_state_and_metadata_at_once(self, database):
        group_id = new_id()
        jobs = new_jobs(3, metadata={"k": "v"})
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, 3)
            tx.jobs.submit(ALICE, jobs, group_id=group_id)
        submit(database, metadata={"k": "v"})
        where = {
            "group_id": group_id,
            "states": frozenset({JobState.QUEUED}),
            "metadata": {"k": "v"},
        }
        assert ids_of(database, **where) == [job.id for job in reversed(jobs)]

    def test_a_filter_with_nul_finds_out_what_is_wrong(self, database):
        with pytest.raises(InvalidInput):
            ids_of(database, metadata={"k": "\x00"})


class TestGroups:
    def test_counts_follow_the_states(self, database):
        group_id, session = new_id(), open_session(database)
        jobs = new_jobs(5)
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, 5)
            tx.jobs.submit(ALICE, jobs, group_id=group_id)
        finish(database, session, [job.id for job in jobs[:2]])
        claim(database, session, [jobs[2].id])
        with database.read() as tx:
            counts = tx.groups.counts(ALICE, group_id)
            assert tx.groups.counts(BOB, group_id) is None
        assert counts.by_state == {
            JobState.SUCCEEDED: 2,
            JobState.RUNNING: 1,
            JobState.QUEUED: 2,
        }
        assert (counts.total, counts.tenant, counts.created_at) == (5, ALICE, START_MS)
        assert not counts.done

    def test_a_group_without_jobs_has_counts_all_the_same(self, database):
        group_id = new_id()
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, 0)
        with database.read() as tx:
            counts = tx.groups.counts(ALICE, group_id)
        assert counts.by_state == {}
        assert counts.done

    def test_members_come_in_the_order_of_submission(self, database):
        group_id = new_id()
        jobs = [new_job() for _ in range(7)]
        jobs.reverse()  # the order of submission is not the order of ids
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, 7)
            tx.jobs.submit(ALICE, jobs[:4], group_id=group_id)
            tx.jobs.submit(ALICE, jobs[4:], group_id=group_id, first_index=4)
        with database.read() as tx:
            first = tx.groups.members(ALICE, group_id, limit=3)
            rest = tx.groups.members(ALICE, group_id, after_index=2, limit=10)
            assert tx.groups.members(BOB, group_id, limit=3) == []
        assert [job.id for job in first + rest] == [job.id for job in jobs]

    def test_cancelling_a_group_ends_what_waits_and_asks_what_runs(self, database):
        group_id, session = new_id(), open_session(database)
        jobs = new_jobs(4)
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, 4)
            tx.jobs.submit(ALICE, jobs, group_id=group_id)
        finish(database, session, [jobs[0].id])
        claim(database, session, [jobs[1].id])
        with database.begin() as tx:
            assert tx.jobs.cancel_group(BOB, group_id) is None
        with database.begin() as tx:
            counts = tx.jobs.cancel_group(ALICE, group_id)
        assert counts.by_state == {
            JobState.SUCCEEDED: 1,
            JobState.RUNNING: 1,
            JobState.CANCELLED: 2,
        }
        running = get(database, jobs[1].id)
        assert running.cancel_requested_at == START_MS
        with database.begin() as tx:
            tx.jobs.cancel_group(ALICE, group_id)
        assert get(database, jobs[1].id) == running, "asking twice changes nothing"


def test_ranks_are_ordered_by_priority_then_by_age_and_nothing_starves():
    assert backlog_rank(1_000, 9) < backlog_rank(1_000, 5) < backlog_rank(1_000, 0)
    assert backlog_rank(0, 0) < backlog_rank(270_001, 9)


@pytest.mark.parametrize("database", REAL, indirect=True)
def test_the_size_of_a_batch_is_not_in_its_sql(database):
    """One constant text per statement and a constant number of them, for 1 job or for 1,000."""
    session = open_session(database)
    pack_id = open_pack(database)
    engine, said = database._engines.writing, []

    def note(_connection, _cursor, sql, *_):
        said[-1].append(sql)

    event.listen(engine, "before_cursor_execute", note)
    for count in (1, 7, 300):
        said.append([])
        jobs = new_jobs(count, metadata={"k": "v"})
        ids = [job.id for job in jobs]
        with database.begin() as tx:
            tx.jobs.submit(ALICE, jobs)
            tx.backlog.mark_published(ids)
            claimed = tx.jobs.claim(session, ids)
            tx.jobs.commit(session, [success(job, pack_id) for job in claimed])
            assert len(tx.jobs.glimpse(ids)) == count
    event.remove(engine, "before_cursor_execute", note)
    assert said[0] == said[1] == said[2]
    assert len(said[0]) < 15
