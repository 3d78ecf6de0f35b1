"""Two who move one alias of a real PostgreSQL: the second begins before the first has committed,
and decides by where the alias stands once it has it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from producers.promotion import Promotion, promote, requeue, roll_back
from storage.database import Database, Transaction
from storage.records.aliases import MoveReason, Why
from storage.records.errors import ForebayError
from storage.records.evaluations import Evaluation
from storage.records.jobs import JobState
from storage.records.models import ModelFormat, ModelRef, ModelVersion, NewVersion
from storage.records.trials import TrialState
from tests.support.database import (
    ALICE,
    claim,
    emptied,
    migrated_postgres_url,  # noqa: F401
    new_id,
    open_session,
    submit,
)
from tests.support.trials import ALIAS, NAME, SIGNATURE, new_trial
from tests.support.waiting import wait_until

DEADLINE_S = 20


@dataclass
class Stage:
    """Three versions of a model, the first of which ``prod`` stands for; and who watches."""

    database: Database
    observer: psycopg.Connection[Any]

    def __post_init__(self) -> None:
        self.trial = new_trial(self.database)  # of the second beside the first, if it is started
        with self.database.begin() as tx:
            new = NewVersion(new_id(), NAME, ModelFormat.KERAS, "d", 1, "k", SIGNATURE)
            tx.models.mark_ready(tx.models.push(ALICE, new).id, SIGNATURE)

    def version(self, number: int) -> ModelVersion:
        with self.database.read() as tx:
            return tx.models.resolve(ALICE, ModelRef(NAME, version=number))

    def measure(self, number: int, accuracy: float) -> None:
        version, metrics = self.version(number), {"accuracy": accuracy}
        with self.database.begin() as tx:
            tx.evaluations.record(
                Evaluation(new_id(), ALICE, version.id, NAME, number, "d", 10, metrics, {}, 0)
            )

    def promote(self, number: int, **asked: Any) -> Callable[[], object]:
        """Where that leads."""

        def go() -> object:
            wanted = Promotion(number, **asked)
            moved = promote(self.database, ALICE, NAME, ALIAS, wanted, moved_by=None)
            assert moved.move is not None
            return moved.move.to_version

        return go

    def roll_back(self, **asked: Any) -> Callable[[], object]:
        def go() -> object:
            moved = roll_back(self.database, ALICE, NAME, ALIAS, moved_by=None, **asked)
            assert moved.move is not None
            return moved.move.to_version

        return go

    def moves(self) -> list[tuple[int | None, int]]:
        """From where to where, the first move first; and the alias stands where the last led."""
        with self.database.read() as tx:
            found = tx.aliases.history(ALICE, NAME, ALIAS, limit=99)
            (stands,) = tx.aliases.of_model(ALICE, NAME)
        assert (stands.version, stands.generation) == (found[0].to_version, found[0].generation)
        assert [one.generation for one in found] == list(range(len(found), 0, -1))
        return [(one.from_version, one.to_version) for one in reversed(found)]

    def meet(self, first: Callable[[Transaction], object], second: Callable[[], object]) -> object:
        """What the second says, an error by its code; it began before the first committed, and
        waited for it."""
        told: list[object] = []

        def run() -> None:
            try:
                told.append(second())
            except ForebayError as error:
                told.append(error.stable_code)

        thread = threading.Thread(target=run)
        with self.database.begin() as tx:
            first(tx)
            thread.start()
            wait_until(lambda: not thread.is_alive() or self._waits(), DEADLINE_S, every_s=0.002)
            assert thread.is_alive(), "it did not wait"
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "it waits still"
        return told[0]

    def _waits(self) -> bool:
        found = self.observer.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return found is not None and found[0] > 0


@pytest.fixture
def stage(migrated_postgres_url: str) -> Iterator[Stage]:  # noqa: F811
    database = emptied(Database.open(migrated_postgres_url))
    plain = migrated_postgres_url.replace("postgresql+psycopg://", "postgresql://")
    observer = psycopg.connect(plain, autocommit=True)
    yield Stage(database, observer)
    observer.close()
    database.close()


def move_to(version: int) -> Callable[[Transaction], object]:
    def go(tx: Transaction) -> object:
        tx.models.hold_pointable(ALICE, NAME, version)
        return tx.aliases.move(ALICE, NAME, ALIAS, version, Why(MoveReason.PROMOTE))

    return go


def take_back(tx: Transaction) -> None:
    undone = tx.aliases.undoable(ALICE, NAME, ALIAS)
    assert undone.from_version is not None
    why = Why(MoveReason.ROLLBACK, undone.generation)
    tx.aliases.move(ALICE, NAME, ALIAS, undone.from_version, why)


def test_who_comes_second_knows_where_the_first_led(stage: Stage) -> None:
    assert stage.meet(move_to(2), stage.promote(3)) == 3
    assert stage.moves() == [(None, 1), (1, 2), (2, 3)]
    assert stage.roll_back()() == 2


def test_who_expected_it_where_it_was_changes_nothing(stage: Stage) -> None:
    assert stage.meet(move_to(2), stage.promote(3, expected=1)) == "alias_moved"
    assert stage.meet(move_to(3), stage.roll_back(expected=2)) == "alias_moved"
    assert stage.moves() == [(None, 1), (1, 2), (2, 3)]


def test_a_gate_is_decided_by_where_the_alias_stands_when_it_would_move(stage: Stage) -> None:
    """The third version is better than the first, and not than the second, which came between."""
    for number, accuracy in ((1, 0.7), (2, 0.9), (3, 0.8)):
        stage.measure(number, accuracy)
    gate = "accuracy > @prod.accuracy"
    assert stage.meet(move_to(2), stage.promote(3, gate=gate)) == "gate_failed"
    assert stage.moves() == [(None, 1), (1, 2)]
    assert stage.meet(take_back, stage.promote(3, gate=gate)) == 3
    with stage.database.read() as tx:
        last = tx.aliases.history(ALICE, NAME, ALIAS, limit=1)[0]
    assert last.why.seen is not None
    assert last.why.seen["values"] == {"accuracy": 0.8, "@prod.accuracy": 0.7}


def test_a_rollback_takes_back_what_was_committed_before_it(stage: Stage) -> None:
    assert stage.meet(move_to(2), stage.roll_back()) == 1
    assert stage.moves() == [(None, 1), (1, 2), (2, 1)]


def test_two_rollbacks_are_two_steps(stage: Stage) -> None:
    stage.promote(2)()
    stage.promote(3)()
    assert stage.meet(take_back, stage.roll_back()) == 1
    assert stage.moves() == [(None, 1), (1, 2), (2, 3), (3, 2), (2, 1)]


def test_of_a_rollback_that_comes_first_a_promotion_starts_out(stage: Stage) -> None:
    stage.promote(2)()
    assert stage.meet(take_back, stage.promote(3)) == 3
    assert stage.moves() == [(None, 1), (1, 2), (2, 1), (1, 3)]


def test_a_version_that_breaks_meanwhile_is_not_promoted(stage: Stage) -> None:
    def broken(tx: Transaction) -> None:
        candidate = tx.models.resolve(ALICE, ModelRef(NAME, version=2))
        assert tx.models.mark_broken(candidate.id, "it kills its workers", even_ready=True)

    assert stage.meet(broken, stage.promote(2)) == "version_broken"
    assert stage.moves() == [(None, 1)]


def test_a_rollback_that_takes_jobs_along_meets_a_claim_of_them(stage: Stage) -> None:
    """What was claimed first is answered by the version it was claimed for; all else goes back."""
    stage.promote(2)()
    left, session = stage.version(2), open_session(stage.database, lease_ttl_ms=10**9)
    ids = submit(stage.database, count=6, version_id=left.id, version=2)

    def claimed(tx: Transaction) -> None:
        assert len(tx.jobs.claim(session, ids[:4])) == 4

    assert stage.meet(claimed, stage.roll_back(with_queued=True)) == 1
    with stage.database.read() as tx:
        jobs = [tx.jobs.get(ALICE, one) for one in ids]
    assert [job.version for job in jobs if job] == [2, 2, 2, 2, 1, 1]
    (fifth, sixth) = claim(stage.database, session, ids[4:])
    assert {fifth.version_id, sixth.version_id} == {stage.version(1).id}


def test_requeues_of_two_cross_without_harm(stage: Stage) -> None:
    """From one version to the other and back at once, again and again: each job has one version,
    in both places that say so, and none is lost."""
    versions = [stage.version(number) for number in (1, 2)]
    ids = submit(stage.database, count=200, version_id=versions[0].id, version=1)
    go, errors = threading.Barrier(2), []

    def move(old: ModelVersion, new: ModelVersion) -> None:
        try:
            go.wait(DEADLINE_S)
            for _ in range(20):
                requeue(stage.database, old, new)
        except Exception as error:
            errors.append(error)

    ways = [threading.Thread(target=move, args=way) for way in (versions, versions[::-1])]
    for one in ways:
        one.start()
    for one in ways:
        one.join(DEADLINE_S)
    assert errors == []
    rows = stage.observer.execute(
        "SELECT l.state, l.version_id = j.version_id, j.version, j.version_id::text"
        " FROM jobs AS j JOIN live AS l ON l.id = j.id"
    ).fetchall()
    assert len(rows) == len(ids)
    ids_of = {one.version: one.id for one in versions}
    assert {(state, agree) for state, agree, *_ in rows} == {("queued", True)}
    assert all(ids_of[number] == version_id for *_, number, version_id in rows)


def test_a_promotion_of_a_candidate_meets_its_return(stage: Stage) -> None:
    """Whichever comes first ends the trial; no job stays behind with a version that is not
    tried any more, and none leaves what was promoted."""
    with stage.database.begin() as tx:
        trial = tx.trials.start(stage.trial)
    tried = submit(
        *(stage.database, ALICE, 3),
        version_id=trial.candidate_version_id,
        version=2,
        arm_id=trial.candidate_arm_id,
    )

    def returned(tx: Transaction) -> None:
        held = tx.trials.hold(trial.id)
        assert held is not None
        assert tx.trials.end(held, TrialState.RETURNED, "too many errors")

    assert stage.meet(returned, stage.promote(2)) == 2
    with stage.database.read() as tx:
        ended = tx.trials.get(trial.id)
        jobs = tx.jobs.get_many(ALICE, tried)
    assert ended is not None and ended.state is TrialState.RETURNED
    assert {(job.state, job.version) for job in jobs} == {(JobState.QUEUED, 1)}
