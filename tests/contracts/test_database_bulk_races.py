"""Many sessions on the same shards at once: no two get one, none waits for another, and whatever
dies in between, each position is committed once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.records.bulk import BulkProgress, ClaimedShard, ShardNote, ShardState
from tests.support.bulk import (
    Owned,
    commit,
    cut,
    must_take,
    part,
    plan_of,
    planned,
    submit_runs,
    take,
)
from tests.support.database import ALICE, BOB, POOL, database_on, failure, open_session
from tests.support.waiting import wait_until

DEADLINE_S = 120.0

many_writers = database_on("postgresql")  # with SQLite they run one at a time


def at_once(*work: Callable[[], object]) -> list[object]:
    """Run on a thread each, from the same moment; what each said."""
    ready = threading.Barrier(len(work), timeout=DEADLINE_S)

    def run(one: Callable[[], object]) -> object:
        ready.wait()
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [one.result(DEADLINE_S) for one in [pool.submit(run, one) for one in work]]


class TestClaims:
    def test_every_claim_gets_a_shard_of_its_own_while_there_are_any(self, database):
        for tenant in (ALICE, BOB):
            planned(database, cut(12), tenant)
        sessions = [open_session(database, lease_ttl_ms=10**9) for _ in range(6)]

        def claims(session: str) -> Callable[[], list[ClaimedShard | None]]:
            return lambda: [take(database, session) for _ in range(4)]

        got = [one for some in at_once(*map(claims, sessions)) for one in some]
        assert None not in got
        assert len({(one.job_id, one.number) for one in got}) == 24
        assert {one.epoch for one in got} == {1}
        assert take(database, sessions[0]) is None

    def test_the_last_shard_goes_to_one(self, database):
        planned(database, cut(1))
        sessions = [open_session(database) for _ in range(6)]
        got = at_once(*[lambda one=one: take(database, one) for one in sessions])
        assert sum(one is not None for one in got) == 1

    def test_a_claim_that_is_not_over_yet_keeps_nobody_waiting(self, many_writers):
        planned(many_writers, cut(2))
        first, second = open_session(many_writers), open_session(many_writers)
        with many_writers.begin() as tx:
            held = tx.bulk.claim(first, POOL)
            others = at_once(lambda: take(many_writers, second))[0]
            assert {held.number, others.number} == {0, 1}
            assert at_once(lambda: take(many_writers, second)) == [None]


class TestLocks:
    def test_progress_keeps_no_part_waiting_nor_a_part_progress(self, many_writers):
        owned = planned(many_writers, cut(2))
        session = open_session(many_writers)
        first, second = must_take(many_writers, session), must_take(many_writers, session)

        def touch(rows: int) -> bool:
            with many_writers.begin() as tx:
                progress = BulkProgress(rows_done=rows)
                return tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, progress)

        with many_writers.begin() as tx:
            progress = BulkProgress(rows_done=1)
            assert tx.bulk.touch(owned.job_id, owned.session_id, owned.epoch, progress)
            assert at_once(lambda: commit(many_writers, session, first, part(first))) == [True]
        with many_writers.begin() as tx:
            assert tx.bulk.commit(session, second, part(second), ShardState.DONE)
            assert at_once(lambda: touch(2)) == [True]

    def test_a_job_does_not_end_in_the_middle_of_a_commit(self, many_writers):
        owned = planned(many_writers, cut(2))
        session = open_session(many_writers)
        first, second = must_take(many_writers, session), must_take(many_writers, session)
        with ThreadPoolExecutor(1) as pool:
            with many_writers.begin() as tx:
                assert tx.bulk.commit(session, first, part(first), ShardState.DONE)
                ending = pool.submit(end, many_writers, owned)
                wait_until(
                    lambda: waiting(many_writers) == 1,
                    DEADLINE_S,
                    what="the end to wait for the commit",
                )
            ending.result(DEADLINE_S)
            assert not commit(many_writers, session, second, part(second))
        with many_writers.read() as tx:
            assert [one.number for one in tx.bulk.parts(owned.job_id)] == [0]

    def test_a_part_is_not_committed_beside_the_end_of_its_job(self, many_writers):
        owned = planned(many_writers, cut(1))
        session = open_session(many_writers)
        shard = must_take(many_writers, session)
        with ThreadPoolExecutor(1) as pool:
            with many_writers.begin() as tx:
                job = tx.jobs.get(ALICE, owned.job_id)
                tx.jobs.commit(owned.session_id, [failure(job, entered_device=False)])
                late = pool.submit(commit, many_writers, session, shard, part(shard))
                wait_until(
                    lambda: waiting(many_writers) == 1,
                    DEADLINE_S,
                    what="the commit to wait for the end",
                )
            assert late.result(DEADLINE_S) is False
        with many_writers.read() as tx:
            assert tx.bulk.parts(owned.job_id) == []

    def test_two_owners_plan_one_run_once(self, database):
        (job_id,) = submit_runs(database)
        sessions = [open_session(database, lease_ttl_ms=10**9) for _ in range(4)]
        for session in sessions:
            with database.begin() as tx:
                (job,) = tx.jobs.claim(session, [job_id])
                if session != sessions[-1]:
                    tx.jobs.release(session, [(job_id, job.epoch)])

        def plan() -> bool:
            with database.begin() as tx:
                return tx.bulk.plan(job_id, sessions[-1], job.epoch, plan_of(cut(50)), cut(50))

        assert at_once(*[plan] * 4) == [True] * 4
        with database.read() as tx:
            assert tx.bulk.unfinished(job_id) == tx.bulk.count(job_id).shards_total == 50


class Worker:
    """Scores shards until there are none, and dies now and then: then it goes on for a while with
    what it believes to have, and starts again under another session."""

    def __init__(self, database: Database, seed: int, over: Callable[[], bool]) -> None:
        self._database, self._over = database, over
        self._chance = random.Random(seed)
        self.committed = 0
        self.deaths = 0

    def run(self) -> None:
        session = self._open()
        while not self._over():
            shard = take(self._database, session)
            if shard is None:
                threading.Event().wait(0.01)
                continue
            end = self._chance.random()
            if end < 0.15:
                with self._database.begin() as tx:
                    tx.bulk.release(session, [shard.key])
            elif end < 0.4:
                self._die(session, shard)
                session = self._open()
            else:
                self._score(session, shard)

    def _open(self) -> str:
        return open_session(self._database, lease_ttl_ms=10**9)

    def _score(self, session: str, shard: ClaimedShard) -> None:
        at = shard.start
        while at < shard.stop:
            with self._database.begin() as tx:
                tx.bulk.note(session, [ShardNote(*shard.key, rows=1, failed=0, device_ms=0)])
            stop = min(shard.stop, at + self._chance.randint(1, 5))
            back = self._chance.random() < 0.3
            then = ShardState.OPEN if back else ShardState.RUNNING
            then = ShardState.DONE if stop == shard.stop else then
            if not commit(self._database, session, shard, part(shard, at, stop), then):
                return
            self.committed += 1
            at = shard.stop if back else stop

    def _die(self, session: str, shard: ClaimedShard) -> None:
        self.deaths += 1
        with self._database.begin() as tx:
            if self._chance.random() < 0.5:
                tx.bulk.blame(session, [(shard.job_id, shard.number, shard.start, shard.stop)])
            tx.sessions.close(session)
        self._score(session, shard)  # it does not know


class TestDeaths:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_each_position_is_committed_once_whoever_dies(self, database, seed):
        owned = [planned(database, cut(12, 9), tenant) for tenant in (ALICE, BOB)]

        def over() -> bool:
            with database.read() as tx:
                return not sum(tx.bulk.unfinished(one.job_id) for one in owned)

        def reap() -> None:
            while not over():
                with database.begin() as tx:
                    tx.jobs.reap()
                    tx.bulk.reap()
                threading.Event().wait(0.01)

        workers = [Worker(database, 10 * seed + n, over) for n in range(4)]
        at_once(reap, reap, *[one.run for one in workers])
        with database.read() as tx:
            parts = {one.job_id: tx.bulk.parts(one.job_id) for one in owned}
            for one in owned:
                told = tx.bulk.count(one.job_id)
                assert (told.rows_done, told.shards_done, told.shards_running) == (108, 12, 0)
        for some in parts.values():
            positions = Counter(
                position for one in some for position in range(one.part.start, one.part.stop)
            )
            assert positions == Counter(range(108))
            names = [one.part.key for one in some]
            assert len(set(names)) == len(names)
        assert sum(one.committed for one in workers) == sum(map(len, parts.values()))
        assert sum(one.deaths for one in workers) > 0


def end(database: Database, owned: Owned) -> None:
    with database.begin() as tx:
        job = tx.jobs.get(ALICE, owned.job_id)
        assert tx.jobs.commit(owned.session_id, [failure(job, entered_device=False)]).settled


def waiting(database: Database) -> int:
    """How many connections wait for a lock."""
    with database._engines.reading.connect() as connection:
        return connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).scalar_one()
