"""What becomes of shards whose session is over: open again, each position done once, and whatever
was on the device when its process died suspect."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import Database
from storage.objects import open_objects
from storage.records.bulk import BulkProgress, Control, ShardNote, ShardState, Suspect
from storage.records.jobs import MAX_LOSSES, JobState
from tests.support.bulk import commit, cut, must_take, own, part, planned, submit_runs, take
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    POOL,
    ManualClock,
    claim,
    failure,
    new_id,
    open_session,
    submit,
)
from workers.inference.ledger import Ledger, RowSpan
from workers.keeper.reaper import Reaper
from workers.supervisor import LoadingDeaths, settle_death


def reap(database: Database, limit: int = 1000) -> int:
    with database.begin() as tx:
        tx.jobs.reap()
        return tx.bulk.reap(limit)


def close(database: Database, session_id: str) -> None:
    with database.begin() as tx:
        tx.sessions.close(session_id)


def blame(database: Database, session_id: str, *spans, in_company: bool = False) -> int:
    with database.begin() as tx:
        return tx.bulk.blame(session_id, spans, in_company=in_company)


class TestLosses:
    def test_shards_of_a_session_that_ended_are_open_again_with_a_loss(self, database):
        owned = planned(database, cut(2))
        session, other = open_session(database), open_session(database)
        shard, others = must_take(database, session), must_take(database, other)
        assert commit(database, session, shard, part(shard, 0, 4), ShardState.RUNNING)
        with database.begin() as tx:
            tx.bulk.note(session, [ShardNote(*shard.key, rows=2, failed=1, device_ms=3)])
        assert reap(database) == 0
        close(database, session)
        assert reap(database) == 1
        assert reap(database) == 0
        assert not commit(database, session, shard, part(shard, 4, 10))
        again = must_take(database, other)
        assert (again.number, again.start, again.epoch, again.losses) == (0, 4, 2, 1)
        assert again.suspect is None
        assert commit(database, other, others, part(others))
        with database.read() as tx:
            assert tx.bulk.count(owned.job_id).rows_done == 14

    def test_a_lease_that_passed_is_enough(self, database, clock, tmp_path):
        planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        clock.pass_ms(LEASE_MS)
        moved = Reaper().run_once(database, open_objects(f"file://{tmp_path}"))
        assert moved.rows == 1
        assert not commit(database, session, shard, part(shard))
        assert must_take(database, open_session(database)).losses == 1

    def test_only_so_many_at_once(self, database):
        planned(database, cut(5))
        session = open_session(database)
        for _ in range(5):
            must_take(database, session)
        close(database, session)
        assert [reap(database, 2) for _ in range(4)] == [2, 2, 1, 0]

    def test_a_shard_that_is_lost_too_often_fails_its_run(self, database):
        owned, other = planned(database, cut(1)), planned(database, cut(1), BOB)
        for losses in range(MAX_LOSSES + 1):
            session = open_session(database)
            shards = [must_take(database, session) for _ in range(2)]
            assert [one.losses for one in shards if one.job_id == owned.job_id] == [losses]
            with database.begin() as tx:
                tx.bulk.release(session, [one.key for one in shards if one.job_id != owned.job_id])
            with database.read() as tx:
                assert tx.bulk.run(owned.job_id).error is None
            close(database, session)
            assert reap(database) == 1
        with database.read() as tx:
            assert tx.bulk.run(owned.job_id).error.code == "lost"
            assert tx.bulk.run(other.job_id).error is None
            assert tx.bulk.watch([owned.job_id]) == {owned.job_id: Control.STOP}

    def test_a_session_is_remembered_while_it_runs_a_shard(self, database, clock):
        planned(database, cut(1))
        session = open_session(database)
        must_take(database, session)
        close(database, session)
        clock.pass_ms(1)
        with database.begin() as tx:
            assert tx.sessions.forget(0) == 0
        assert reap(database) == 1
        with database.begin() as tx:
            assert tx.sessions.forget(0) == 1

    def test_a_run_whose_job_is_over_is_looked_at_no_more(self, database):
        owned, (unplanned,) = planned(database, cut(2)), submit_runs(database)
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, unplanned)
            tx.jobs.commit(
                owned.session_id,
                [failure(tx.jobs.get(ALICE, owned.job_id), entered_device=False)],
            )
        assert take(database, open_session(database)) is None
        assert closed(database) == {owned.job_id: False, unplanned: False}
        assert reap(database) == 0
        assert closed(database) == {owned.job_id: True, unplanned: False}


def closed(database: Database) -> dict[str, bool]:
    with database._engines.reading.connect() as connection:
        rows = connection.exec_driver_sql("SELECT job_id, closed_at FROM bulk_runs").fetchall()
    return {job_id: at is not None for job_id, at in rows}


class TestBlame:
    def test_the_same_positions_again_are_one_death_more(self, database):
        owned = planned(database, cut(1))
        for deaths in (1, 2, 3):
            session = open_session(database)
            must_take(database, session)
            assert blame(database, session, (owned.job_id, 0, 2, 6)) == 1
            close(database, session)
            assert reap(database) == 0
            shard = must_take(database, session := open_session(database))
            assert (shard.suspect, shard.losses) == (Suspect(2, 6, deaths), 0)
            with database.begin() as tx:
                tx.bulk.release(session, [shard.key])

    def test_fewer_positions_are_a_new_suspicion(self, database):
        owned = planned(database, cut(1))
        for start, stop in ((0, 8), (0, 4), (2, 4), (2, 3)):
            session = open_session(database)
            must_take(database, session)
            blame(database, session, (owned.job_id, 0, start, stop))
            shard = must_take(database, session)
            assert shard.suspect == Suspect(start, stop, 1)
            blame(database, session, (owned.job_id, 0, start, stop), in_company=True)

    def test_in_company_nobody_knows_who_did_it(self, database):
        owned = planned(database, cut(2))
        session = open_session(database)
        for _ in range(2):
            must_take(database, session)
        spans = [(owned.job_id, 0, 0, 10), (owned.job_id, 1, 10, 15)]
        assert blame(database, session, *spans) == 2
        assert must_take(database, session).suspect == Suspect(0, 10, 0)
        assert must_take(database, session).suspect == Suspect(10, 15, 0)
        assert blame(database, session, spans[1]) == 1
        assert must_take(database, session).suspect == Suspect(10, 15, 1)
        # What is known of it stays when it dies in company once more.
        assert blame(database, session, spans[1], in_company=True) == 1
        assert must_take(database, session).suspect == Suspect(10, 15, 1)

    def test_two_blocks_of_one_shard_are_one_suspicion(self, database):
        owned = planned(database, cut(1))
        session = open_session(database)
        must_take(database, session)
        assert blame(database, session, (owned.job_id, 0, 4, 6), (owned.job_id, 0, 1, 2)) == 1
        assert must_take(database, session).suspect == Suspect(1, 6, 1)

    def test_what_is_in_a_part_is_not_suspect(self, database):
        owned = planned(database, cut(1))
        session = open_session(database)
        shard = must_take(database, session)
        assert commit(database, session, shard, part(shard, 0, 4), ShardState.RUNNING)
        assert blame(database, session, (owned.job_id, 0, 0, 4)) == 1
        assert must_take(database, session).suspect is None
        assert blame(database, session, (owned.job_id, 0, 2, 99)) == 1
        assert must_take(database, session).suspect == Suspect(4, 10, 1)

    def test_a_part_that_passed_it_clears_it(self, database):
        owned = planned(database, cut(1))
        session = open_session(database)
        must_take(database, session)
        blame(database, session, (owned.job_id, 0, 2, 6))
        shard = must_take(database, session)
        assert commit(database, session, shard, part(shard, 0, 5), ShardState.OPEN)
        shard = must_take(database, session)
        assert shard.suspect == Suspect(2, 6, 1)
        assert commit(database, session, shard, part(shard, 5, 6), ShardState.OPEN)
        assert must_take(database, session).suspect is None

    def test_only_what_the_session_runs_is_blamed(self, database):
        owned = planned(database, cut(2))
        session, other = open_session(database), open_session(database)
        must_take(database, session)
        must_take(database, other)
        assert blame(database, session, (owned.job_id, 1, 10, 20), (new_id(), 0, 0, 1)) == 0
        assert blame(database, new_id(), (owned.job_id, 0, 0, 10)) == 0
        assert blame(database, session) == 0
        assert blame(database, session, (owned.job_id, 0, 0, 10)) == 1
        assert blame(database, session, (owned.job_id, 0, 0, 10)) == 0


class TestDeathsOfProcesses:
    """What the supervisor makes of the ledger that its child left."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "ledger"

    def test_rows_alone_on_the_device_did_it(self, database, path):
        owned = planned(database, cut(2))
        session = open_session(database)
        for _ in range(2):
            must_take(database, session)
        ledger = Ledger(path)
        ledger.session(session)
        ledger.publish_rows(0, session, [RowSpan(owned.job_id, 0, 3, 5)])
        assert settle_death(database, path, LoadingDeaths())
        assert not path.exists()
        assert reap(database) == 1  # the one that was not on the device
        first, second = (must_take(database, open_session(database)) for _ in range(2))
        assert (first.number, first.suspect, first.losses) == (0, Suspect(3, 5, 1), 0)
        assert (second.number, second.suspect, second.losses) == (1, None, 1)

    @pytest.mark.parametrize("company", ["job", "load", "other session"])
    def test_rows_in_company_are_suspects(self, database, path, company):
        owned = planned(database, cut(2))
        session, other = open_session(database), open_session(database)
        must_take(database, session)
        must_take(database, other)
        ledger = Ledger(path, slots=2)
        ledger.session(session)
        ledger.publish_rows(0, session, [RowSpan(owned.job_id, 0, 3, 5)])
        ids = submit(database)
        claim(database, session, ids)
        if company == "job":
            ledger.publish(1, session, ids)
        elif company == "load":
            ledger.loading(new_id())
        else:
            ledger.publish_rows(1, other, [RowSpan(owned.job_id, 1, 13, 15)])
        assert settle_death(database, path, LoadingDeaths())
        assert must_take(database, open_session(database)).suspect == Suspect(3, 5, 0)
        with database.begin() as tx:
            if company == "job":
                assert tx.jobs.get(ALICE, ids[0]).state is JobState.QUEUED
                (again,) = tx.jobs.claim(tx.sessions.live()[0].id, ids)
                assert (again.suspicions, again.attempts) == (1, 0)
            else:
                assert tx.jobs.get(ALICE, ids[0]).state is JobState.RUNNING

    def test_what_the_owner_itself_ran_is_nobodys_fault(self, database, path):
        owned = planned(database, cut(1))
        session = owned.session_id
        must_take(database, session)
        ledger = Ledger(path)
        ledger.session(session)
        ledger.publish_rows(0, session, [RowSpan(owned.job_id, 0, 0, 10)])
        assert settle_death(database, path, LoadingDeaths())
        reap(database)
        again = own(database, owned.job_id)
        with database.begin() as tx:
            job = tx.jobs.get(ALICE, owned.job_id)
            assert (job.attempts, job.losses) == (0, 0)
            progress = BulkProgress(rows_done=1)
            assert tx.bulk.touch(again.job_id, again.session_id, again.epoch, progress)

    def test_rows_may_kill_more_owners_than_a_job_may_lose(self, database, path):
        """A row among many takes so many deaths to be found."""
        owned = planned(database, cut(1))
        for _ in range(MAX_LOSSES + 2):
            must_take(database, owned.session_id)
            ledger = Ledger(path)
            ledger.session(owned.session_id)
            ledger.publish_rows(0, owned.session_id, [RowSpan(owned.job_id, 0, 0, 10)])
            assert settle_death(database, path, LoadingDeaths())
            reap(database)
            owned = own(database, owned.job_id)
        with database.read() as tx:
            job = tx.jobs.get(ALICE, owned.job_id)
        assert (job.state, job.losses) == (JobState.RUNNING, 0)

    @pytest.mark.parametrize("is_planned", [True, False])
    def test_an_owner_that_dies_of_nothing_known_counts(self, database, path, is_planned):
        (job_id,) = submit_runs(database)
        owned = planned(database, cut(1)) if is_planned else own(database, job_id)
        ledger = Ledger(path)
        ledger.session(owned.session_id)
        if not is_planned:  # while it is planned nobody knows whether that did it
            ledger.publish(0, owned.session_id, [new_id()])
        assert settle_death(database, path, LoadingDeaths())
        reap(database)
        with database.read() as tx:
            assert tx.jobs.get(ALICE, owned.job_id).losses == 1

    def test_parts_make_up_for_lost_owners(self, database):
        owned = planned(database, cut(2))
        losses = []
        for size_bytes in (0, 0, 10, 10, 20):
            close(database, owned.session_id)
            reap(database)
            owned = own(database, owned.job_id)
            progress = BulkProgress(size_bytes=size_bytes, rows_done=1 + len(losses))
            with database.begin() as tx:
                assert tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, progress)
                losses.append(tx.jobs.get(ALICE, owned.job_id).losses)
        assert losses == [1, 2, 0, 1, 0]


class TestAdoption:
    def test_a_run_goes_on_where_another_one_stopped(self, database, clock: ManualClock):
        old = planned(database, cut(3))
        session = open_session(database)
        first, second = must_take(database, session), must_take(database, session)
        assert commit(database, session, first, part(first))
        assert commit(database, session, second, part(second, 10, 14), ShardState.RUNNING)
        with database.begin() as tx:
            tx.jobs.commit(
                old.session_id, [failure(tx.jobs.get(ALICE, old.job_id), entered_device=False)]
            )
        (job_id,) = submit_runs(database)
        owned = own(database, job_id)
        clock.pass_ms(5)
        for _ in range(2):  # the second time nothing happens
            with database.begin() as tx:
                assert tx.bulk.adopt(job_id, old.job_id, owned.session_id, owned.epoch)
        with database.read() as tx:
            assert tx.bulk.run(job_id).plan == tx.bulk.run(old.job_id).plan
            assert tx.bulk.parts(job_id) == tx.bulk.parts(old.job_id)
            assert tx.bulk.unfinished(job_id) == 2
            assert tx.bulk.count(job_id).units_done == 14
        # Under another epoch than whoever may still work on the old one, of which nothing comes.
        again = must_take(database, open_session(database))
        assert (again.job_id, again.number, again.start, again.epoch) == (job_id, 1, 14, 2)
        assert not commit(database, session, second, part(second, 14, 20))

    def test_there_must_be_something_to_go_on_with(self, database):
        live, (unplanned, mine) = planned(database, cut(1)), submit_runs(database, count=2)
        theirs = planned(database, cut(1), BOB)
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, unplanned)
            tx.jobs.commit(
                theirs.session_id, [failure(tx.jobs.get(BOB, theirs.job_id), entered_device=False)]
            )
        owned = own(database, mine)
        for old in (live.job_id, unplanned, theirs.job_id, new_id(), "no id", mine):
            with database.begin() as tx:
                assert not tx.bulk.adopt(mine, old, owned.session_id, owned.epoch), old
        with database.read() as tx:
            assert tx.bulk.run(mine).plan is None

    def test_only_the_owner_adopts(self, database):
        old, (mine,) = planned(database, cut(1)), submit_runs(database)
        with database.begin() as tx:
            tx.jobs.commit(
                old.session_id, [failure(tx.jobs.get(ALICE, old.job_id), entered_device=False)]
            )
        owned = own(database, mine)
        with database.begin() as tx:
            assert not tx.bulk.adopt(mine, old.job_id, owned.session_id, owned.epoch + 1)
            assert not tx.bulk.adopt(mine, old.job_id, new_id(), owned.epoch)
            assert tx.bulk.adopt(mine, old.job_id, owned.session_id, owned.epoch)
            assert tx.bulk.work_waits(POOL)
