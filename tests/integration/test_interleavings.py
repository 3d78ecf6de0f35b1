"""Two connections to a real PostgreSQL, stepped through pairs of transitions of one job.

The first is stopped with its work done and not committed; the second runs until it is finished or
waits for the first; then the first commits or rolls back. Whatever the pair: what both report and
what the row says is what one after the other would have given, and exactly one of them took the
job out of its state.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from storage.database import Database, Transaction
from storage.records.jobs import Job, JobError, JobState, Outcome, Verdict
from tests.support.database import (
    ALICE,
    LEASE_MS,
    START_MS,
    ManualClock,
    failure,
    migrated_postgres_url,  # noqa: F401
    new_id,
    new_job,
    new_jobs,
    new_version,
    open_pack,
    open_session,
    success,
    summary,
)
from tests.support.waiting import wait_until

RUN_TIMEOUT_MS = 10_000
EXPIRES_IN_MS = 20_000
DEADLINE_S = 20


@dataclass
class Scene:
    """One job in its state, and who may act on it."""

    job_id: str
    group_id: str
    version_id: str
    better_id: str  # a version that can stand in for it
    owner: str  # the session that holds the job when it runs
    other: str  # a live session that may claim it
    pack_id: str
    epoch: int = 0

    def which(self, version_id: str) -> str:
        """A version, in terms that two runs have in common."""
        return {self.version_id: "old", self.better_id: "new"}[version_id]


Verb = Callable[[Transaction, Scene], object]


@dataclass(frozen=True)
class Act:
    """A verb, and the moment on the database's clock in which it runs."""

    name: str
    verb: Verb
    after_ms: int = 0

    def __str__(self) -> str:
        return self.name


def _claim(tx: Transaction, scene: Scene) -> object:
    claimed = tx.jobs.claim(scene.other, [scene.job_id])
    return [(job.epoch, scene.which(job.version_id)) for job in claimed]


def _commit(tx: Transaction, scene: Scene) -> object:
    (job,) = tx.jobs.get_many(ALICE, [scene.job_id])
    outcome = success(_held(job, scene), scene.pack_id)
    report = tx.jobs.commit(scene.owner, [outcome], packs=[summary(scene.pack_id)])
    return list(report.settled.values())


def _expire_late(tx: Transaction, scene: Scene) -> object:
    late = Outcome(scene.job_id, scene.epoch, Verdict.EXPIRED, entered_device=False)
    return list(tx.jobs.commit(scene.owner, [late]).settled.values())


def _retry(tx: Transaction, scene: Scene) -> object:
    again = JobError("hiccup", "try again")
    outcome = Outcome(scene.job_id, scene.epoch, Verdict.RETRY, entered_device=True, error=again)
    return list(tx.jobs.commit(scene.owner, [outcome]).settled.values())


def _held(job: Job, scene: Scene):
    @dataclass
    class Held:
        id: str = job.id
        epoch: int = scene.epoch

    return Held()


def _cancel(tx: Transaction, scene: Scene) -> object:
    job = tx.jobs.request_cancel(ALICE, scene.job_id)
    assert job is not None
    return (job.state, job.cancel_requested_at is not None)


def _cancel_group(tx: Transaction, scene: Scene) -> object:
    counts = tx.jobs.cancel_group(ALICE, scene.group_id)
    assert counts is not None
    return sorted(counts.by_state)


CLAIM = Act("claim", _claim)
CANCEL = Act("cancel", _cancel)
CANCEL_GROUP = Act("cancel_group", _cancel_group)
EXPIRE = Act("expire", lambda tx, scene: tx.jobs.expire(), EXPIRES_IN_MS)
FAIL_VERSION = Act(
    "fail_version",
    lambda tx, scene: tx.jobs.fail_version(scene.version_id, JobError("model_broken", "no")),
)
MARK = Act("mark_published", lambda tx, scene: len(tx.backlog.mark_published([scene.job_id])))
COMMIT = Act("commit", _commit)
RETRY = Act("retry", _retry)
REAP = Act("reap", lambda tx, scene: tx.jobs.reap(), LEASE_MS)
TIME_OUT = Act("time_out", lambda tx, scene: tx.jobs.time_out(), RUN_TIMEOUT_MS)
RELEASE = Act(
    "release",
    lambda tx, scene: len(tx.jobs.release(scene.owner, [(scene.job_id, scene.epoch)])),
)
EXPIRE_LATE = Act("expire_late", _expire_late)
SUSPECT = Act(
    "suspect",
    lambda tx, scene: list(tx.jobs.blame(scene.owner, [scene.job_id, scene.version_id]).values()),
)
BLAME = Act("blame", lambda tx, scene: list(tx.jobs.blame(scene.owner, [scene.job_id]).values()))


def _bury(tx: Transaction, scene: Scene) -> object:
    """What a supervisor does in one transaction when it sees its device process die."""
    blamed = tx.jobs.blame(scene.owner, [scene.job_id])
    tx.sessions.close(scene.owner)
    return list(blamed.values())


def _repoint(tx: Transaction, scene: Scene) -> object:
    better = tx.models.by_id(scene.better_id)
    assert better is not None
    return tx.jobs.repoint(ALICE, scene.version_id, better)


def _claim_as_owner(tx: Transaction, scene: Scene) -> object:
    return [job.epoch for job in tx.jobs.claim(scene.owner, [scene.job_id])]


BURY = Act("bury", _bury)
CLAIM_AS_OWNER = Act("claim_as_owner", _claim_as_owner)
REPOINT = Act("repoint", _repoint)

OF_A_QUEUED_JOB = [CLAIM, CANCEL, CANCEL_GROUP, EXPIRE, FAIL_VERSION, REPOINT]
OF_A_RUNNING_JOB = [
    *(COMMIT, EXPIRE_LATE, RETRY, REAP, TIME_OUT, RELEASE, BLAME, SUSPECT),
    *(CANCEL, CANCEL_GROUP, CLAIM, REPOINT),
]


class Stage:
    """One database, seen at several moments: two actors' times may differ by a lease."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.observer = psycopg.connect(url, autocommit=True)
        self.in_turn: dict[object, tuple[object, ...]] = {}
        self._opened: dict[int, Database] = {}

    def at(self, after_ms: int = 0) -> Database:
        """The database at that moment; always the same object, so connections are made once."""
        if after_ms not in self._opened:
            clock = ManualClock(START_MS + after_ms)
            self._opened[after_ms] = Database.open(self.url, clock=clock)
        return self._opened[after_ms]

    def empty(self) -> Database:
        """The database without rows."""
        for table in (
            *("jobs", "live", "ends", "payloads", "groups", "sessions", "packs"),
            *("versions", "models"),
        ):
            self.observer.execute(f"DELETE FROM {table}")
        return self.at()

    def somebody_waits(self) -> bool:
        """Whether a backend waits for a lock."""
        found = self.observer.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return found is not None and found[0] > 0

    def close(self) -> None:
        self.observer.close()
        for database in self._opened.values():
            database.close()


@pytest.fixture(scope="module")
def stage(migrated_postgres_url: str) -> Iterator[Stage]:  # noqa: F811
    made = Stage(migrated_postgres_url)
    yield made
    made.close()


def set_up(database: Database, running: bool) -> Scene:
    """A job that is queued, or runs under a session whose lease ends first of all."""
    scene = Scene(
        job_id=new_id(),
        group_id=new_id(),
        version_id=new_version(database),
        better_id=new_version(database),
        owner=open_session(database),
        other=open_session(database, lease_ttl_ms=10**9),
        pack_id=open_pack(database),
    )
    job = new_job(
        id=scene.job_id,
        version_id=scene.version_id,
        run_timeout_ms=RUN_TIMEOUT_MS,
        expires_in_ms=EXPIRES_IN_MS,
    )
    with database.begin() as tx:
        tx.groups.create(ALICE, scene.group_id, 1)
        tx.jobs.submit(ALICE, [job], group_id=scene.group_id)
        if running:
            (claimed,) = tx.jobs.claim(scene.owner, [scene.job_id])
            scene.epoch = claimed.epoch
    return scene


def row_of(database: Database, scene: Scene) -> tuple[object, ...]:
    """What became of the job, in terms that two runs have in common."""
    with database.read() as tx:
        job = tx.jobs.get(ALICE, scene.job_id)
        pack = tx.packs.get(scene.pack_id)
    assert job is not None
    owner = {scene.owner: "owner", scene.other: "other", None: None}[job.session_id]
    return (
        *(job.state, job.seq, job.epoch, job.attempts, job.losses, owner),
        *(job.cancel_requested_at is not None, job.result is not None),
        job.error.code if job.error else None,
        pack.state,
        scene.which(job.version_id),
    )


def one_after_the_other(stage: Stage, running: bool, acts: list[Act]) -> tuple[object, ...]:
    """What the acts report, and the row, when each begins after the one before has ended."""
    played = (running, *acts)
    if played not in stage.in_turn:
        database = stage.empty()
        scene = set_up(database, running)
        reports: list[object] = []
        for act in acts:
            with stage.at(act.after_ms).begin() as tx:
                reports.append(act.verb(tx, scene))
        stage.in_turn[played] = (*reports, row_of(database, scene))
    return stage.in_turn[played]


def interleaved(
    stage: Stage, running: bool, first: Act, second: Act, *, commits: bool
) -> tuple[object, object, tuple[object, ...]]:
    """The same with the second beginning before the first has ended."""
    database = stage.empty()
    scene = set_up(database, running)
    reports: dict[str, object] = {}

    def run_second() -> None:
        try:
            with stage.at(second.after_ms).begin() as tx:
                reports["second"] = second.verb(tx, scene)
        except BaseException as error:
            reports["second"] = error

    thread = threading.Thread(target=run_second)
    with contextlib.suppress(_RolledBack), stage.at(first.after_ms).begin() as tx:
        reports["first"] = first.verb(tx, scene)
        thread.start()
        wait_until(
            lambda: not thread.is_alive() or stage.somebody_waits(),
            DEADLINE_S,
            what=f"{second} to finish or to wait for {first}",
            every_s=0.002,
        )
        if not commits:
            raise _RolledBack
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), f"{second} still waits for {first}"
    if isinstance(reports["second"], BaseException):
        raise reports["second"]
    return reports["first"], reports["second"], row_of(database, scene)


class _RolledBack(Exception):
    pass


PAIRS = [
    *((True, first, second) for first, second in [(BURY, CLAIM_AS_OWNER), (CLAIM_AS_OWNER, BURY)]),
    *((False, first, second) for first, second in [(BURY, CLAIM_AS_OWNER), (CLAIM_AS_OWNER, BURY)]),
    *((True, first, second) for first in [BURY] for second in [COMMIT, REAP, CANCEL, BLAME]),
    *((False, first, second) for first in OF_A_QUEUED_JOB for second in [*OF_A_QUEUED_JOB, MARK]),
    *((True, first, second) for first in OF_A_RUNNING_JOB for second in OF_A_RUNNING_JOB),
]


@pytest.mark.parametrize(
    ("running", "first", "second"),
    PAIRS,
    ids=[f"{'running' if running else 'queued'}-{a}-{b}" for running, a, b in PAIRS],
)
class TestTwoAtOnce:
    def test_the_first_commits_and_the_outcome_is_that_of_one_after_the_other(
        self, stage, running, first, second
    ):
        got = interleaved(stage, running, first, second, commits=True)
        in_turn = one_after_the_other(stage, running, [first, second])
        alone = one_after_the_other(stage, running, [first])
        skipped = (got[0], got[2]) == alone and not got[1]
        assert got == in_turn or skipped, "the second either waited, or left the job alone"

    def test_the_first_rolls_back_and_the_second_is_alone_or_did_nothing(
        self, stage, running, first, second
    ):
        _, report, row = interleaved(stage, running, first, second, commits=False)
        untouched = one_after_the_other(stage, running, [])
        assert (report, row) == one_after_the_other(stage, running, [second]) or (
            not report and row == untouched[-1]
        )


EXCLUSIVE = {
    False: [CLAIM, EXPIRE, FAIL_VERSION],
    True: [COMMIT, EXPIRE_LATE, RETRY, REAP, TIME_OUT, RELEASE, BLAME, SUSPECT],
}


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
def test_exactly_one_of_two_that_exclude_each_other_wins(stage, running):
    for first in EXCLUSIVE[running]:
        for second in EXCLUSIVE[running]:
            won, lost, _ = interleaved(stage, running, first, second, commits=True)
            assert won, f"{first} before {second}"
            assert not lost, f"{second} after {first}"


@pytest.mark.parametrize("order", ["repoint first", "claim first"])
def test_a_job_is_claimed_for_the_version_that_it_records(stage, order):
    acts = [REPOINT, CLAIM] if order == "repoint first" else [CLAIM, REPOINT]
    *reports, row = interleaved(stage, False, *acts, commits=True)
    claimed, moved = reports if order == "claim first" else reports[::-1]
    version = "old" if order == "claim first" else "new"
    assert (claimed, moved, row[-1]) == ([(1, version)], int(version == "new"), version)


@pytest.mark.parametrize("order", ["cancel first", "commit first"])
def test_of_cancel_and_commit_whoever_commits_first_wins(stage, order):
    acts = [CANCEL, COMMIT] if order == "cancel first" else [COMMIT, CANCEL]
    *_, row = interleaved(stage, True, *acts, commits=True)
    assert row[0] is (JobState.CANCELLED if order == "cancel first" else JobState.SUCCEEDED)


def test_bulk_verbs_in_different_orders_never_wait_in_a_circle(stage):
    """Two at a time over the same two hundred rows, their ids shuffled differently."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    database = stage.empty()
    group_id, session = new_id(), open_session(database, lease_ttl_ms=10**9)
    pushed = [new_version(database) for _ in range(2)]
    with database.read() as tx:
        old, new = map(tx.models.by_id, pushed)
    jobs = new_jobs(200, version_id=old.id)
    ids = [job.id for job in jobs]
    with database.begin() as tx:
        tx.groups.create(ALICE, group_id, len(jobs))
        tx.jobs.submit(ALICE, jobs, group_id=group_id)

    def shuffled() -> list[str]:
        return chance.sample(ids, len(ids))

    def stale_commit(tx: Transaction) -> None:
        outcomes = [failure(_Claim(one, 10**6)) for one in shuffled()]
        tx.jobs.commit(session, outcomes)

    verbs: list[Callable[[Transaction], object]] = [
        lambda tx: tx.jobs.claim(session, shuffled()),
        lambda tx: tx.jobs.release(session, [(one, 10**6) for one in shuffled()]),
        stale_commit,
        lambda tx: tx.jobs.blame(new_id(), shuffled()),
        lambda tx: tx.backlog.mark_published(shuffled()),
        lambda tx: tx.backlog.unmark(shuffled()),
        lambda tx: tx.jobs.reap(),
        lambda tx: tx.jobs.sweep(-1),
        lambda tx: _release_all(tx, session, shuffled()),
        lambda tx: tx.jobs.repoint(ALICE, old.id, new),
        lambda tx: tx.jobs.repoint(ALICE, new.id, old, limit=50),
    ]
    errors: list[BaseException] = []
    rounds = [[chance.choice(verbs) for _ in range(40)] for _ in range(4)]
    together = threading.Barrier(len(rounds))

    def run(mine: list[Callable[[Transaction], object]]) -> None:
        try:
            for verb in mine:
                together.wait(DEADLINE_S)
                with stage.at().begin() as tx:
                    verb(tx)
        except BaseException as error:
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=run, args=(mine,)) for mine in rounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == [], f"seed {seed}"
    with database.begin() as tx:
        counts = tx.jobs.cancel_group(ALICE, group_id)
    assert sum(counts.by_state.values()) == 200


@dataclass
class _Claim:
    id: str
    epoch: int


def _release_all(tx: Transaction, session: str, ids: list[str]) -> None:
    held = [(job.id, job.epoch) for job in tx.jobs.get_many(ALICE, ids)]
    tx.jobs.release(session, held)


@pytest.mark.parametrize("rounds", [12])
def test_a_cancelled_group_and_a_commit_of_its_jobs_meet_without_harm(stage, rounds):
    """Both wait for rows in id order: one of them waits, neither is shot down."""
    chance = random.Random(7)
    database = stage.empty()
    for _ in range(rounds):
        group_id = new_id()
        session = open_session(database, lease_ttl_ms=10**9)
        pack_id = open_pack(database)
        jobs = new_jobs(100)
        with database.begin() as tx:
            tx.groups.create(ALICE, group_id, len(jobs))
            tx.jobs.submit(ALICE, jobs, group_id=group_id)
            claimed = tx.jobs.claim(session, [job.id for job in jobs])
        chance.shuffle(claimed)
        outcomes = [success(job, pack_id, index) for index, job in enumerate(claimed)]
        start, errors = threading.Barrier(2), []

        def commit(session=session, outcomes=outcomes, pack_id=pack_id, start=start) -> None:
            start.wait(DEADLINE_S)
            with stage.at().begin() as tx:
                tx.jobs.commit(session, outcomes, packs=[summary(pack_id, 100)])

        def cancel(group_id=group_id, start=start) -> None:
            start.wait(DEADLINE_S)
            with stage.at().begin() as tx:
                tx.jobs.cancel_group(ALICE, group_id)

        def guarded(act: Callable[[], None], errors: list[BaseException] = errors) -> None:
            try:
                act()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(act,)) for act in (commit, cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        with database.read() as tx:
            counts = tx.groups.counts(ALICE, group_id)
        assert counts.done
        assert set(counts.by_state) <= {JobState.SUCCEEDED, JobState.CANCELLED}
