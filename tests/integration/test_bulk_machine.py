"""Shards through the stores, against a model of a few lines per verb.

Hypothesis plays claim, commit, release, blame, reap and the rest in any order on SQLite, with
workers that go on after they lost everything. After every step each shard must be what the model
says; and whatever the order: parts cover what is before a shard's start, each position once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage.database import Database
from storage.records.bulk import BulkProgress, ClaimedShard, Control, ShardNote, ShardState, Suspect
from storage.records.jobs import MAX_LOSSES
from tests.support.bulk import cut, part, planned
from tests.support.database import ALICE, BOB, LEASE_MS, POOL, ManualClock, failure, open_session

EACH = 6  # positions of a shard
SHARDS = 3  # of a run


@dataclass(frozen=True)
class Expected:
    """A shard as the model has it."""

    start: int
    stop: int
    state: ShardState = ShardState.OPEN
    epoch: int = 0
    session: str | None = None
    losses: int = 0
    suspect: Suspect | None = None
    noted: int = 0

    def reopened(self, **fields) -> Expected:
        return replace(self, state=ShardState.OPEN, session=None, noted=0, **fields)


@dataclass
class Run:
    """A run as the model has it."""

    tenant: str
    session: str  # the owner's
    place: int
    live: bool = True
    paused: bool = False
    cancelled: bool = False
    failed: bool = False

    @property
    def control(self) -> Control:
        if not self.live or self.cancelled or self.failed:
            return Control.STOP
        return Control.PAUSE if self.paused else Control.GO


class BulkMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="forebay-machine-")
        self.clock = ManualClock()
        path = Path(self.folder.name) / "forebay.db"
        self.database = Database.open(f"sqlite:///{path}", clock=self.clock, pool_size=1)
        self.database.migrate()
        self.runs: dict[str, Run] = {}
        self.shards: dict[tuple[str, int], Expected] = {}
        self.sessions: dict[str, int | None] = {}  # lease_until; None when it was ended
        self.held: list[tuple[str, ClaimedShard]] = []  # what workers believe to have, ever
        self.parts: dict[tuple[str, int], list[tuple[int, int]]] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def live(self, session: str) -> bool:
        until = self.sessions[session]
        return until is not None and until > self.clock.now_ms()

    def some_run(self, which: int) -> str:
        return list(self.runs)[which % len(self.runs)]

    def some_claim(self, which: int) -> tuple[str, ClaimedShard] | None:
        """Mostly of those that are still true; now and then any."""
        true = [one for one in self.held if self.is_true(*one)]
        among = true if true and which % 4 else self.held
        return among[which // 4 % len(among)] if among else None

    def is_true(self, session: str, shard: ClaimedShard) -> bool:
        now = self.shards[(shard.job_id, shard.number)]
        return (now.state, now.session, now.epoch) == (ShardState.RUNNING, session, shard.epoch)

    @initialize()
    def begin(self) -> None:
        self.submit(ALICE)
        self.submit(BOB)
        self.start_session()

    @rule(tenant=st.sampled_from([ALICE, BOB]))
    def submit(self, tenant: str) -> None:
        if len(self.runs) > 3:
            return
        self.clock.pass_ms(1)
        owned = planned(self.database, cut(SHARDS, EACH), tenant)
        self.runs[owned.job_id] = Run(tenant, owned.session_id, len(self.runs))
        for one in cut(SHARDS, EACH):
            self.shards[(owned.job_id, one.number)] = Expected(one.start, one.stop)
            self.parts[(owned.job_id, one.number)] = []

    @rule()
    def start_session(self) -> None:
        session = open_session(self.database)
        self.sessions[session] = self.clock.now_ms() + LEASE_MS

    @rule(which=st.integers(0, 9))
    def close_session(self, which: int) -> None:
        session = list(self.sessions)[which % len(self.sessions)]
        with self.database.begin() as tx:
            tx.sessions.close(session)
        self.sessions[session] = None

    @rule(lease=st.booleans())
    def time_passes(self, lease: bool) -> None:
        self.clock.pass_ms(LEASE_MS // 2 if lease else 1)

    @rule(which=st.integers(0, 7))
    def claim(self, which: int) -> None:
        session = list(self.sessions)[-1 if which < 5 else which % len(self.sessions)]
        expected = self.next_shard() if self.live(session) else None
        with self.database.begin() as tx:
            assert tx.bulk.work_waits(POOL) == (self.next_shard() is not None)
            shard = tx.bulk.claim(session, POOL)
        assert (shard and (shard.job_id, shard.number)) == expected
        if shard is None:
            return
        before = self.shards[expected]
        assert (shard.start, shard.stop, shard.epoch) == (
            before.start,
            before.stop,
            before.epoch + 1,
        )
        assert (shard.losses, shard.suspect) == (before.losses, before.suspect)
        self.shards[expected] = replace(
            before, state=ShardState.RUNNING, session=session, epoch=shard.epoch
        )
        self.held.append((session, shard))

    def next_shard(self) -> tuple[str, int] | None:
        """Of the tenant that has the least running, in the order of runs and numbers."""
        running = Counter(
            self.runs[job_id].tenant
            for (job_id, _), one in self.shards.items()
            if one.state is ShardState.RUNNING
        )
        waiting = [
            (running[run.tenant], run.place, number, job_id)
            for (job_id, number), one in self.shards.items()
            for run in [self.runs[job_id]]
            if one.state is ShardState.OPEN and run.control is Control.GO
        ]
        return (min(waiting)[3], min(waiting)[2]) if waiting else None

    @rule(
        which=st.integers(0, 99),
        take=st.integers(1, EACH),
        then=st.sampled_from([ShardState.OPEN, ShardState.RUNNING, ShardState.DONE]),
    )
    def commit(self, which: int, take: int, then: ShardState) -> None:
        claim = self.some_claim(which)
        if claim is None:
            return
        session, shard = claim
        key = (shard.job_id, shard.number)
        stop = shard.stop if then is ShardState.DONE else min(shard.start + take, shard.stop)
        if stop == shard.stop and then is ShardState.RUNNING:
            then = ShardState.DONE
        true = self.is_true(*claim) and self.shards[key].start == shard.start
        with self.database.begin() as tx:
            done = tx.bulk.commit(session, shard, part(shard, shard.start, stop), then)
        assert done == (true and self.runs[shard.job_id].live)
        if not done:
            return
        self.parts[key].append((shard.start, stop))
        before = self.shards[key]
        suspect = before.suspect
        state = ShardState.DONE if stop == shard.stop else then
        self.shards[key] = replace(
            before,
            start=stop,
            state=state,
            session=session if state is ShardState.RUNNING else None,
            suspect=suspect if suspect and suspect.stop > stop else None,
            noted=0,
        )
        if state is ShardState.RUNNING:  # whoever goes on begins where the part ended
            self.held.append((session, replace(shard, start=stop)))

    @rule(which=st.integers(0, 99), rows=st.integers(0, 3))
    def note(self, which: int, rows: int) -> None:
        claim = self.some_claim(which)
        if claim is None:
            return
        session, shard = claim
        key = (shard.job_id, shard.number)
        with self.database.begin() as tx:
            ours = tx.bulk.note(session, [ShardNote(*shard.key, rows, 0, 0)])
        assert ours == ({key} if self.is_true(*claim) else frozenset())
        if ours:
            self.shards[key] = replace(self.shards[key], noted=rows)

    @rule(which=st.integers(0, 99), all_of_it=st.booleans())
    def release(self, which: int, all_of_it: bool) -> None:
        claim = self.some_claim(which)
        if claim is None:
            return
        session = claim[0]
        claims = [one for one in self.held if one[0] == session] if all_of_it else [claim]
        true = {(s.job_id, s.number) for _, s in claims if self.is_true(session, s)}
        with self.database.begin() as tx:
            released = tx.bulk.release(session, [shard.key for _, shard in claims])
        assert released == len(true)
        for key in true:
            self.shards[key] = self.shards[key].reopened()

    @rule(
        which=st.integers(0, 99),
        first=st.integers(-1, EACH),
        rows=st.integers(1, EACH),
        in_company=st.booleans(),
    )
    def blame(self, which: int, first: int, rows: int, in_company: bool) -> None:
        claim = self.some_claim(which)
        if claim is None:
            return
        session, shard = claim
        key = (shard.job_id, shard.number)
        before = self.shards[key]
        start = max(0, shard.start + first)
        stop = start + rows
        with self.database.begin() as tx:
            blamed = tx.bulk.blame(session, [(*key, start, stop)], in_company=in_company)
        true = before.state is ShardState.RUNNING and before.session == session
        assert blamed == true
        if not true:
            return
        suspect = before.suspect
        start, stop = max(start, before.start), min(stop, before.stop)
        if start < stop:
            same = suspect is not None and (suspect.start, suspect.stop) == (start, stop)
            suspect = Suspect(start, stop, same * (suspect.deaths if suspect else 0))
            suspect = replace(suspect, deaths=suspect.deaths + (not in_company))
        self.shards[key] = before.reopened(suspect=suspect)

    @rule()
    def reap(self) -> None:
        with self.database.begin() as tx:
            tx.jobs.reap()
            moved = tx.bulk.reap()
        for session, until in self.sessions.items():
            if until is not None and until <= self.clock.now_ms():
                self.sessions[session] = None
        for key, one in self.shards.items():
            if one.session is not None and self.sessions[one.session] is None:
                self.shards[key] = one.reopened(losses=one.losses + 1)
                self.runs[key[0]].failed |= one.losses + 1 > MAX_LOSSES
                moved -= 1
        assert moved == 0

    @rule(which=st.integers(0, 3), paused=st.booleans())
    def steer(self, which: int, paused: bool) -> None:
        job_id = self.some_run(which)
        run = self.runs[job_id]
        with self.database.begin() as tx:
            verb = tx.bulk.pause if paused else tx.bulk.resume
            assert verb(run.tenant, job_id) == run.live
        run.paused = paused

    @rule(which=st.integers(0, 99))
    def stop(self, which: int) -> None:
        """Seldom: nothing happens to a run after it."""
        job_id = self.some_run(which)
        run = self.runs[job_id]
        with self.database.begin() as tx:
            if which % 10 == 0:
                tx.jobs.request_cancel(run.tenant, job_id)
                run.cancelled = True
            elif which % 10 == 1 and run.live:
                job = tx.jobs.get(run.tenant, job_id)
                assert tx.jobs.commit(run.session, [failure(job, entered_device=False)]).settled
                run.live = False

    @invariant()
    def shards_are_what_the_model_says(self) -> None:
        with self.database._engines.reading.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT job_id, number, start, stop, state, epoch, session_id, losses,"
                " suspect_start, suspect_stop, suspect_deaths, live_rows FROM bulk_shards"
            ).fetchall()
        found = {}
        for job_id, number, start, stop, state, epoch, session, losses, *suspect, noted in rows:
            found[(job_id, number)] = Expected(
                start,
                stop,
                ShardState(state),
                epoch,
                session,
                losses,
                None if suspect[0] is None else Suspect(*suspect),
                noted,
            )
        assert found == self.shards

    @invariant()
    def each_position_is_in_one_part(self) -> None:
        with self.database.read() as tx:
            for job_id in self.runs:
                parts = {}
                for one in tx.bulk.parts(job_id):
                    parts.setdefault((job_id, one.number), []).append(
                        (one.part.start, one.part.stop)
                    )
                for key in self.shards:
                    if key[0] != job_id:
                        continue
                    told = parts.get(key, [])
                    assert told == self.parts[key]
                    covered = [position for start, stop in told for position in range(start, stop)]
                    assert covered == list(range(key[1] * EACH, self.shards[key].start))

    @invariant()
    def sums_are_of_what_there_is(self) -> None:
        with self.database.read() as tx:
            controls = tx.bulk.watch(list(self.runs))
            for job_id, run in self.runs.items():
                mine = [one for (its, _), one in self.shards.items() if its == job_id]
                states = Counter(one.state for one in mine)
                done = EACH * SHARDS - sum(one.stop - one.start for one in mine)
                assert tx.bulk.count(job_id) == BulkProgress(
                    rows_done=done + sum(one.noted for one in mine),
                    rows_total=EACH * SHARDS,
                    units_done=done,
                    units_total=EACH * SHARDS,
                    shards_done=states[ShardState.DONE],
                    shards_running=states[ShardState.RUNNING],
                    shards_total=SHARDS,
                    device_ms=done,
                    size_bytes=10 * done,
                )
                assert tx.bulk.unfinished(job_id) == SHARDS - states[ShardState.DONE]
                assert controls[job_id] is run.control


BulkMachine.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)
TestBulkMachine = BulkMachine.TestCase
