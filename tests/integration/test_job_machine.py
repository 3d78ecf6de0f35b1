"""The job state machine through the stores, against a model of twenty lines per verb.

Hypothesis plays submit, claim, commit, cancel, reap and the rest in any order and at any time on
SQLite. After every step each row must be what the model says, so nothing happens that no arrow
allows; and whatever the order: a terminal job never changes again, ``seq`` rises by one with each
transition and never without one, and a job has one effect.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage.database import Database
from storage.records.jobs import (
    MAX_LOSSES,
    TERMINAL,
    TRANSITIONS,
    Job,
    JobError,
    JobState,
    Outcome,
    PackSlice,
    Verdict,
)
from tests.support.database import (
    ALICE,
    LEASE_MS,
    START_MS,
    VERSION_ID,
    ManualClock,
    new_id,
    new_jobs,
    new_version,
    open_pack,
    open_session,
    summary,
)

PUBLISH_TTL_MS = 15_000
RUN_TIMEOUT_MS = 20_000
EXPIRES_IN_MS = 60_000
JOBS = st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True)


@dataclass(frozen=True)
class Expected:
    """A job as the model has it."""

    state: JobState = JobState.QUEUED
    seq: int = 1
    epoch: int = 0
    attempts: int = 0
    losses: int = 0
    suspicions: int = 0
    max_attempts: int = 2
    session: str | None = None
    published: int | None = None
    not_before: int = START_MS
    expires_at: int = START_MS
    deadline: int | None = None
    asked: bool = False
    error: str | None = None

    def moves(self, state: JobState, **fields) -> Expected:
        return replace(self, state=state, seq=self.seq + 1, **fields)

    def leaves(self, state: JobState, now: int, *, error: str | None = None, **fields) -> Expected:
        """Out of ``running``; whoever was asked to stop is cancelled whatever else was said."""
        if self.asked:
            return self.moves(JobState.CANCELLED, **fields)
        if state is not JobState.QUEUED:
            return self.moves(state, error=error if state is JobState.FAILED else None, **fields)
        fields = {"not_before": now, "session": None, "published": None, "deadline": None} | fields
        return self.moves(JobState.QUEUED, **fields)


class JobMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="forebay-machine-")
        self.clock = ManualClock()
        path = Path(self.folder.name) / "forebay.db"
        self.database = Database.open(f"sqlite:///{path}", clock=self.clock, pool_size=1)
        self.database.migrate()
        new_version(self.database, version_id=VERSION_ID)
        self.endpoint = new_id()
        with self.database.begin() as tx:
            tx.webhooks.add(ALICE, self.endpoint, "https://example.com/hook", ("*",))
        self.ids: list[str] = []
        self.jobs: dict[str, Expected] = {}
        self.sessions: dict[str, int | None] = {}  # lease_until; None when it was ended
        self.seen: dict[str, Job] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def live(self, session: str) -> bool:
        until = self.sessions[session]
        return until is not None and until > self.now

    def picked(self, indexes: list[int]) -> list[str]:
        return [self.ids[index % len(self.ids)] for index in dict.fromkeys(indexes)]

    def some_session(self, index: int) -> str:
        """Mostly the newest, which is mostly live; now and then any."""
        return list(self.sessions)[-1 if index < 4 else index % len(self.sessions)]

    def some_run(self, which: int, indexes: list[int]) -> tuple[str, list[str]]:
        """A session and jobs it may speak for: mostly one that runs something, and that."""
        running = [one for one, job in self.jobs.items() if job.state is JobState.RUNNING]
        if not running or which == 7:
            return self.some_session(which), self.picked(indexes)
        chosen = running[indexes[0] % len(running)]
        session = self.jobs[chosen].session
        assert session is not None
        return session, list(dict.fromkeys([chosen, *self.picked(indexes)]))

    @initialize()
    def begin(self) -> None:
        self.submit(2, 2)
        self.start_session()

    @rule(count=st.integers(1, 2), max_attempts=st.integers(1, 2))
    def submit(self, count: int, max_attempts: int) -> None:
        if len(self.ids) > 10:
            return
        jobs = new_jobs(
            count,
            max_attempts=max_attempts,
            run_timeout_ms=RUN_TIMEOUT_MS,
            expires_in_ms=EXPIRES_IN_MS,
        )
        with self.database.begin() as tx:
            tx.jobs.submit(ALICE, jobs)
        for job in jobs:
            self.ids.append(job.id)
            self.jobs[job.id] = Expected(
                max_attempts=max_attempts,
                not_before=self.now,
                expires_at=self.now + EXPIRES_IN_MS,
            )

    @rule(which=st.integers(0, 30), early=st.booleans())
    def time_passes(self, which: int, early: bool) -> None:
        """To a moment that means something to a job or a lease, or to just before it."""
        moments = {self.now + 1}
        moments |= {until for until in self.sessions.values() if until is not None}
        for job in self.jobs.values():
            if job.state is JobState.QUEUED:
                moments |= {job.not_before, job.expires_at}
            elif job.state is JobState.RUNNING:
                moments.add(job.deadline)
            if job.published is not None:
                moments.add(job.published + PUBLISH_TTL_MS)
        ahead = sorted(moment for moment in moments if moment > self.now)
        self.clock.pass_ms(max(0, ahead[which % len(ahead)] - self.now - early))

    def start_session(self) -> None:
        session = open_session(self.database)
        self.sessions[session] = self.now + LEASE_MS

    @rule(which=st.integers(0, 7))
    def renew(self, which: int) -> None:
        session = self.some_session(which)
        with self.database.begin() as tx:
            assert tx.sessions.renew(session, LEASE_MS, 1.0) == self.live(session)
        if self.live(session):
            self.sessions[session] = self.now + LEASE_MS

    @rule(which=st.integers(0, 7))
    def close_session(self, which: int) -> None:
        session = self.some_session(which)
        with self.database.begin() as tx:
            tx.sessions.close(session)
        self.sessions[session] = None

    @rule(indexes=JOBS)
    def publish(self, indexes: list[int]) -> None:
        ids = self.picked(indexes)
        wanted = {
            one
            for one in ids
            if self.jobs[one].state is JobState.QUEUED and self.jobs[one].published is None
        }
        with self.database.begin() as tx:
            assert tx.backlog.mark_published(ids) == wanted
        for one in wanted:
            self.jobs[one] = replace(self.jobs[one], published=self.now)

    @rule(indexes=JOBS)
    def unpublish(self, indexes: list[int]) -> None:
        ids = self.picked(indexes)
        wanted = {
            one
            for one in ids
            if self.jobs[one].state is JobState.QUEUED and self.jobs[one].published is not None
        }
        with self.database.begin() as tx:
            assert tx.backlog.unmark(ids) == len(wanted)
        for one in wanted:
            self.jobs[one] = replace(self.jobs[one], published=None)

    @rule(which=st.integers(0, 7), indexes=JOBS)
    def claim(self, which: int, indexes: list[int]) -> None:
        if which < 3 and not any(map(self.live, self.sessions)):
            self.start_session()
        session, ids = self.some_session(which), self.picked(indexes)
        if which % 2:
            ids = [one for one, job in self.jobs.items() if job.state is not JobState.RUNNING]
        with self.database.begin() as tx:
            claimed = {job.id: job for job in tx.jobs.claim(session, ids)}
        for one in ids:
            job = self.jobs[one]
            ready = job.not_before <= self.now < job.expires_at
            if self.live(session) and job.state is JobState.QUEUED and ready:
                taken = claimed.pop(one)
                assert (taken.epoch, taken.claimed_at) == (job.epoch + 1, self.now)
                assert (taken.attempts, taken.suspicions) == (job.attempts, job.suspicions)
                self.jobs[one] = job.moves(
                    JobState.RUNNING,
                    epoch=job.epoch + 1,
                    session=session,
                    deadline=self.now + RUN_TIMEOUT_MS,
                )
        assert claimed == {}

    @rule(
        which=st.integers(0, 7),
        indexes=JOBS,
        verdict=st.sampled_from(list(Verdict)),
        entered=st.booleans(),
        stale=st.sampled_from([0, 0, 1]),
    )
    def commit(
        self, which: int, indexes: list[int], verdict: Verdict, entered: bool, stale: int
    ) -> None:
        session, ids = self.some_run(which, indexes)
        pack_id = open_pack(self.database)
        outcomes = [
            Outcome(
                one,
                self.jobs[one].epoch - stale,
                verdict,
                entered,
                result=PackSlice(pack_id, 0, 1, "d") if verdict is Verdict.SUCCEEDED else None,
                error=JobError("bad", "bad"),
                retry_in_ms=500,
            )
            for one in ids
        ]
        with self.database.begin() as tx:
            report = tx.jobs.commit(session, outcomes, packs=[summary(pack_id)])
        settled = {}
        for one in ids:
            job = self.jobs[one]
            if job.state is JobState.RUNNING and job.session == session and not stale:
                self.jobs[one] = self._settled(job, verdict, entered)
                settled[one] = self.jobs[one].state
        assert report.settled == settled
        assert report.lost == set(ids) - set(settled)

    def _settled(self, job: Expected, verdict: Verdict, entered: bool) -> Expected:
        if verdict is Verdict.RELEASED:
            return job.leaves(JobState.QUEUED, self.now, not_before=self.now + 500)
        if verdict is Verdict.EXPIRED:
            return job.leaves(JobState.EXPIRED, self.now)
        attempts = job.attempts + entered
        if verdict is Verdict.SUCCEEDED:
            return job.leaves(JobState.SUCCEEDED, self.now, attempts=attempts)
        if verdict is Verdict.RETRY and attempts < job.max_attempts:
            return job.leaves(
                JobState.QUEUED, self.now, attempts=attempts, not_before=self.now + 500
            )
        return job.leaves(JobState.FAILED, self.now, attempts=attempts, error="bad")

    @rule(which=st.integers(0, 7), indexes=JOBS, in_company=st.booleans())
    def blame(self, which: int, indexes: list[int], in_company: bool) -> None:
        session, ids = self.some_run(which, indexes)
        with self.database.begin() as tx:
            blamed = tx.jobs.blame(session, ids, in_company=in_company)
        for one in ids:
            job = self.jobs[one]
            if job.state is JobState.RUNNING and job.session == session:
                self.jobs[one] = (
                    self._spent(job, "poison")
                    if len(set(ids)) == 1 and not in_company
                    else job.leaves(JobState.QUEUED, self.now, suspicions=job.suspicions + 1)
                )
                assert blamed.pop(one) is self.jobs[one].state
        assert blamed == {}

    def _spent(self, job: Expected, error: str) -> Expected:
        attempts = job.attempts + 1
        state = JobState.FAILED if attempts >= job.max_attempts else JobState.QUEUED
        return job.leaves(state, self.now, attempts=attempts, error=error)

    @rule(index=st.integers(0, 11))
    def cancel(self, index: int) -> None:
        (one,) = self.picked([index])
        with self.database.begin() as tx:
            assert tx.jobs.request_cancel(ALICE, one) is not None
        job = self.jobs[one]
        if job.state is JobState.QUEUED:
            self.jobs[one] = job.moves(JobState.CANCELLED, asked=True)
        elif job.state is JobState.RUNNING and not job.asked:
            self.jobs[one] = job.moves(JobState.RUNNING, asked=True)

    @rule()
    def expire(self) -> None:
        with self.database.begin() as tx:
            moved = tx.jobs.expire()
        for one, job in self.jobs.items():
            if job.state is JobState.QUEUED and job.expires_at <= self.now:
                self.jobs[one] = job.moves(JobState.EXPIRED)
                moved -= 1
        assert moved == 0

    @rule()
    def time_out(self) -> None:
        with self.database.begin() as tx:
            moved = tx.jobs.time_out()
        for one, job in self.jobs.items():
            if job.state is JobState.RUNNING and job.deadline <= self.now:
                self.jobs[one] = self._spent(job, "run_timeout")
                moved -= 1
        assert moved == 0

    @rule()
    def sweep(self) -> None:
        with self.database.begin() as tx:
            moved = tx.jobs.sweep(PUBLISH_TTL_MS)
        for one, job in self.jobs.items():
            waited = job.published is not None and job.published <= self.now - PUBLISH_TTL_MS
            if job.state is JobState.QUEUED and waited:
                self.jobs[one] = replace(job, published=None)
                moved -= 1
        assert moved == 0

    @rule()
    def reap(self) -> None:
        with self.database.begin() as tx:
            moved = tx.jobs.reap()
        for session, until in self.sessions.items():
            if until is not None and until <= self.now:
                self.sessions[session] = None
        for one, job in self.jobs.items():
            if job.state is JobState.RUNNING and self.sessions[job.session] is None:
                losses = job.losses + 1
                state = JobState.FAILED if losses > MAX_LOSSES else JobState.QUEUED
                self.jobs[one] = job.leaves(state, self.now, losses=losses, error="lost")
                moved -= 1
        assert moved == 0

    @rule(chance=st.integers(0, 9))
    def fail_version(self, chance: int) -> None:
        version = VERSION_ID if chance == 0 else new_id()  # seldom: it ends everything
        with self.database.begin() as tx:
            moved = tx.jobs.fail_version(version, JobError("model_broken", "no"))
        for one, job in self.jobs.items():
            if version == VERSION_ID and job.state is JobState.QUEUED:
                self.jobs[one] = job.moves(JobState.FAILED, error="model_broken")
                moved -= 1
        assert moved == 0

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        with self.database.read() as tx:
            found = {job.id: job for job in tx.jobs.get_many(ALICE, self.ids)}
        assert found.keys() == self.jobs.keys()
        for one, row in found.items():
            self._check_row(row, self.jobs[one])
            if one in self.seen:
                self._check_step(self.seen[one], row)
        self.seen = found

    @invariant()
    def every_end_is_told_once(self) -> None:
        over = {one: job for one, job in self.jobs.items() if job.state in TERMINAL}
        with self.database.read() as tx:
            told = tx.webhooks.events(self.ids)
            waiting = tx.webhooks.delivery_load().pending
        assert {one: (event.type, event.seq) for one, event in told.items()} == {
            one: (f"job.{job.state}", job.seq) for one, job in over.items()
        }
        assert waiting == len(over)

    def _check_row(self, row: Job, job: Expected) -> None:
        assert (row.state, row.seq, row.epoch) == (job.state, job.seq, job.epoch)
        assert (row.attempts, row.losses) == (job.attempts, job.losses)
        assert row.session_id == job.session
        assert (row.cancel_requested_at is not None) == job.asked
        assert (row.error.code if row.error else None) == job.error
        assert (row.result is not None) == (job.state is JobState.SUCCEEDED)
        if job.state is JobState.QUEUED:
            assert (row.published_at, row.not_before) == (job.published, job.not_before)

    def _check_step(self, before: Job, after: Job) -> None:
        if before.state in TERMINAL:
            assert after == before, "a terminal job never changes"
        elif after.state is not before.state:
            assert after.state in TRANSITIONS[before.state]
            assert after.seq == before.seq + 1
        else:
            assert after.seq in (before.seq, before.seq + 1)


JobMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)
TestJobMachine = JobMachine.TestCase
