"""A version's deletion meets what would depend on it, on two connections to a real PostgreSQL: the
second begins before the first has committed, and either waits for it or does without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from storage.database import Database, Transaction
from storage.database.lifecycle import Edit
from storage.records.aliases import Why
from storage.records.errors import ForebayError
from storage.records.models import ModelFormat, ModelRef, ModelVersion, NewVersion, VersionState
from tests.support.database import (
    ALICE,
    ManualClock,
    claim,
    emptied,
    finish,
    migrated_postgres_url,  # noqa: F401
    new_id,
    new_job,
    open_session,
)
from tests.support.waiting import wait_until

DEADLINE_S = 20
HOUR_MS = 3_600_000
Verb = Callable[[Transaction], object]


@dataclass
class Stage:
    """Two clients of one database, and one who watches them."""

    database: Database
    observer: psycopg.Connection[tuple[int]]
    clock: ManualClock

    def push(self) -> ModelVersion:
        new = NewVersion(new_id(), "digits", ModelFormat.KERAS, "d" * 64, 1, "models/d", {})
        with self.database.begin() as tx:
            version = tx.models.push(ALICE, new)
            tx.models.mark_ready(version.id, {})
        return version

    def look(self, version: ModelVersion) -> ModelVersion:
        with self.database.read() as tx:
            found = tx.models.by_id(version.id)
        assert found is not None
        return found

    def overlapping(self, first: Verb, second: Verb) -> tuple[object, object, bool]:
        """What both report, errors by their code, and whether the second waited for the first."""
        told: dict[str, object] = {}
        waited = False

        def run() -> None:
            try:
                with self.database.begin() as tx:
                    told["second"] = second(tx)
            except ForebayError as error:
                told["second"] = error.stable_code

        thread = threading.Thread(target=run)
        with self.database.begin() as tx:
            told["first"] = first(tx)
            thread.start()
            wait_until(lambda: not thread.is_alive() or self._waits(), DEADLINE_S, every_s=0.002)
            waited = thread.is_alive()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        return told["first"], told["second"], waited

    def _waits(self) -> bool:
        found = self.observer.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return found is not None and found[0] > 0


@pytest.fixture
def stage(migrated_postgres_url: str) -> Iterator[Stage]:  # noqa: F811
    clock = ManualClock()
    database = emptied(Database.open(migrated_postgres_url, clock=clock))
    plain = migrated_postgres_url.replace("postgresql+psycopg://", "postgresql://")
    observer = psycopg.connect(plain, autocommit=True)
    yield Stage(database, observer, clock)
    observer.close()
    database.close()


def delete(tx: Transaction) -> object:
    return tx.lifecycle.delete(ALICE, "digits", 1).state


def point(tx: Transaction) -> object:
    tx.models.hold_pointable(ALICE, "digits", 1)
    return tx.aliases.move(ALICE, "digits", "prod", 1, Why()).to_version


def test_an_alias_that_is_being_pointed_at_it_keeps_a_version(stage: Stage) -> None:
    version = stage.push()
    assert stage.overlapping(point, delete) == (1, "version_in_use", True)
    assert stage.look(version).state is VersionState.READY


def test_no_alias_is_pointed_at_a_version_that_is_being_deleted(stage: Stage) -> None:
    stage.push()
    assert stage.overlapping(delete, point) == (VersionState.DELETED, "version_deleted", True)
    with stage.database.read() as tx:
        assert tx.aliases.of_model(ALICE, "digits") == []


def test_no_alias_is_pointed_at_a_version_that_is_being_deprecated(stage: Stage) -> None:
    stage.push()

    def deprecate(tx: Transaction) -> object:
        return tx.lifecycle.edit(ALICE, "digits", 1, Edit(deprecated=True)).state

    told = stage.overlapping(deprecate, point)
    assert told == (VersionState.DEPRECATED, "version_deprecated", True)


@pytest.mark.parametrize("order", ["submit first", "delete first"])
def test_a_job_that_meets_the_deletion_of_its_version_is_answered(stage: Stage, order: str) -> None:
    """The submit has looked the version up; neither waits for the other, and the artifact stays
    until the job is over."""
    version = stage.push()
    with stage.database.read() as tx:
        assert tx.models.resolve(ALICE, ModelRef("digits")).id == version.id
    job = new_job(version_id=version.id, expires_in_ms=10**9)

    def submit(tx: Transaction) -> object:
        tx.jobs.submit(ALICE, [job])
        return job.id

    verbs = (submit, delete) if order == "submit first" else (delete, submit)
    *told, waited = stage.overlapping(*verbs)
    assert set(told) == {job.id, VersionState.DELETED} and not waited
    stage.clock.pass_ms(HOUR_MS)
    with stage.database.read() as tx:
        assert tx.lifecycle.due(HOUR_MS) == []
    session = open_session(stage.database)
    finish(stage.database, session, [job.id])
    with stage.database.read() as tx:
        assert [one.version_id for one in tx.lifecycle.due(HOUR_MS)] == [version.id]


def test_two_that_delete_it_at_once_do_it_once(stage: Stage) -> None:
    version = stage.push()
    told = stage.overlapping(delete, delete)
    assert told == (VersionState.DELETED, VersionState.DELETED, True)
    assert stage.look(version).deleted_at == stage.clock.now_ms()


def test_of_two_keepers_that_collect_versions_of_one_artifact_one_deletes_it(stage: Stage) -> None:
    versions = [stage.push(), stage.push()]
    with stage.database.begin() as tx:
        for number in (1, 2):
            tx.lifecycle.delete(ALICE, "digits", number)
    stage.clock.pass_ms(HOUR_MS)
    with stage.database.read() as tx:
        one, two = tx.lifecycle.due(HOUR_MS)
    told = stage.overlapping(
        lambda tx: tx.lifecycle.collect(one), lambda tx: tx.lifecycle.collect(two)
    )
    assert told == ((True, False), (True, True), True)
    assert all(stage.look(version).collected_at for version in versions)


def test_of_two_keepers_that_collect_one_version_one_does(stage: Stage) -> None:
    stage.push()
    with stage.database.begin() as tx:
        delete(tx)
    stage.clock.pass_ms(HOUR_MS)
    with stage.database.read() as tx:
        (due,) = tx.lifecycle.due(HOUR_MS)
    collect: Verb = lambda tx: tx.lifecycle.collect(due)  # noqa: E731
    assert stage.overlapping(collect, collect) == ((True, True), (False, False), True)


def test_a_push_that_holds_the_artifact_is_seen_by_the_collection_that_waits(stage: Stage) -> None:
    stage.push()
    with stage.database.begin() as tx:
        delete(tx)
    stage.clock.pass_ms(HOUR_MS)
    with stage.database.read() as tx:
        (due,) = tx.lifecycle.due(HOUR_MS)

    def push(tx: Transaction) -> object:
        assert tx.lifecycle.hold_deleted(ALICE, "models/d")
        new = NewVersion(new_id(), "digits", ModelFormat.KERAS, "d" * 64, 1, "models/d", {})
        return tx.models.push(ALICE, new).version

    told = stage.overlapping(push, lambda tx: tx.lifecycle.collect(due))
    assert told == (2, (True, False), True)


def test_a_claim_does_not_wait_for_a_deletion(stage: Stage) -> None:
    version = stage.push()
    job = new_job(version_id=version.id)
    session = open_session(stage.database)
    with stage.database.begin() as tx:
        tx.jobs.submit(ALICE, [job])

    def refused(tx: Transaction) -> object:
        with pytest.raises(ForebayError):
            delete(tx)
        return None

    *_, waited = stage.overlapping(refused, lambda tx: len(tx.jobs.claim(session, [job.id])))
    assert not waited
    assert claim(stage.database, session, [job.id]) == []
