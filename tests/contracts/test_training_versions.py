"""A version that a training is to fill in: nobody can mean it before, none stays so for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.database import Database
from storage.objects import open_objects
from storage.records.errors import Conflict, NotFound
from storage.records.jobs import JobError, JobState
from storage.records.models import ModelFormat, ModelRef, ModelVersion, NewVersion, VersionState
from tests.support.database import (
    ALICE,
    BOB,
    START_MS,
    ManualClock,
    database_on,
    new_id,
    open_session,
)
from tests.support.training import MADE, finish_training, own_training, submit_training
from workers.keeper.abandoned_trainings import AbandonedTrainings, AbandonedTrainingsConfig

NAME = "digits"

postgresql = database_on("postgresql")  # with SQLite they run one at a time


def reserve(database: Database, tenant: str = ALICE, name: str = NAME) -> ModelVersion:
    with database.begin() as tx:
        return tx.models.reserve(tenant, new_id(), name)


def push(database: Database, name: str = NAME) -> ModelVersion:
    version = NewVersion(new_id(), name, ModelFormat.KERAS, "0" * 64, 1, f"models/{name}", {})
    with database.begin() as tx:
        return tx.models.push(ALICE, version)


def version_of(database: Database, job_id: str) -> ModelVersion:
    with database.read() as tx:
        run = tx.training.run(job_id)
        assert run is not None
        version = tx.models.by_id(run.version_id)
    assert version is not None
    return version


def resolve(database: Database, ref: ModelRef, *, only_shown: bool = False) -> ModelVersion:
    with database.read() as tx:
        return tx.models.resolve(ALICE, ref, only_shown=only_shown)


class TestReserving:
    def test_it_takes_the_next_number_of_its_name_and_tenant(self, database: Database) -> None:
        assert [push(database).version, reserve(database).version] == [1, 2]
        assert (push(database).version, reserve(database, BOB).version) == (3, 1)
        reserved = reserve(database)
        assert (reserved.version, reserved.name, reserved.tenant) == (4, NAME, ALICE)
        assert (reserved.state, reserved.format) == (VersionState.TRAINING, ModelFormat.KERAS)
        assert (reserved.digest, reserved.size_bytes, reserved.object_key) == ("", 0, "")
        assert (reserved.signature, reserved.origin, reserved.trusted) == ({}, None, False)
        assert (reserved.created_at, reserved.loaded_at, reserved.error) == (START_MS, None, None)
        with database.read() as tx:
            assert tx.models.versions(ALICE, NAME)[0] == reserved
            model = tx.models.model(ALICE, NAME)
        assert model is not None and (model.latest_version, model.versions) == (4, 4)

    def test_a_submit_that_is_taken_back_takes_no_number(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.begin() as tx:
            tx.models.reserve(ALICE, new_id(), NAME)
            raise ZeroDivisionError
        with database.read() as tx:
            assert tx.models.model(ALICE, NAME) is None
        assert reserve(database).version == 1

    def test_nobody_means_it_before_it_is_filled_in(self, database: Database) -> None:
        owned = own_training(database)
        with pytest.raises(NotFound) as missing:
            resolve(database, ModelRef(NAME))
        assert missing.value.stable_code == "version_not_found"
        pushed = push(database)
        owned = own_training(database)
        assert resolve(database, ModelRef(NAME)) == pushed
        reserved = version_of(database, owned.job_id)
        with pytest.raises(Conflict, match="digits:3 is still in training") as refused:
            resolve(database, ModelRef(NAME, version=3))
        assert (refused.value.stable_code, refused.value.field) == ("version_in_training", "model")
        assert resolve(database, ModelRef(NAME, version=3), only_shown=True) == reserved
        with pytest.raises(Conflict) as refused, database.begin() as tx:
            tx.models.hold_pointable(ALICE, NAME, 3)
        assert refused.value.stable_code == "version_in_training"
        with database.read() as tx:
            assert tx.models.pending(10) == [pushed]

    def test_when_it_is_filled_in_it_is_as_any_other(
        self, database: Database, clock: ManualClock
    ) -> None:
        push(database)
        owned = own_training(database)
        assert finish_training(database, owned)
        made = version_of(database, owned.job_id)
        assert made.state is VersionState.PENDING
        assert resolve(database, ModelRef(NAME)) == resolve(database, ModelRef(NAME, 2)) == made
        with database.begin() as tx:
            assert [one.version for one in tx.models.pending(10)] == [1, 2]
            assert tx.models.hold_pointable(ALICE, NAME, 2).id == made.id
            clock.pass_ms(5)
            assert tx.models.mark_ready(made.id, {"outputs": []})
        ready = version_of(database, owned.job_id)
        assert (ready.state, ready.origin) == (VersionState.READY, MADE.origin)
        with database.begin() as tx:
            assert not tx.models.fill_in(ready.id, MADE)

    def test_nobody_loads_or_breaks_it_while_it_is_in_training(self, database: Database) -> None:
        reserved = reserve(database)
        with database.begin() as tx:
            assert not tx.models.mark_ready(reserved.id, {})
            assert not tx.models.mark_broken(reserved.id, "no")
            assert not tx.models.mark_broken(reserved.id, "no", even_ready=True)
            assert tx.models.by_id(reserved.id) == reserved


class TestGivingUp:
    def test_only_what_is_in_training_is_given_up(self, database: Database) -> None:
        first, second, pushed = reserve(database), reserve(database), push(database)
        with database.begin() as tx:
            ids = [first.id, pushed.id, new_id(), "no id"]
            assert tx.models.abandon(ids, "training failed: \x00 loss") == 1
            assert tx.models.abandon(ids, "again") == 0
            broken, still = tx.models.by_id(first.id), tx.models.by_id(second.id)
            assert tx.models.by_id(pushed.id) == pushed
        assert broken is not None and still == second
        assert (broken.state, broken.digest) == (VersionState.BROKEN, "")
        assert broken.error == "training failed: \ufffd loss"
        assert resolve(database, ModelRef(NAME, version=1)).state is VersionState.BROKEN

    def test_a_version_whose_job_ended_unseen_breaks_and_names_the_job(
        self, database: Database, tmp_path: Path, clock: ManualClock
    ) -> None:
        expired, cancelled, queued, timed_out = (
            submit_training(database, expires_in_ms=1_000),
            submit_training(database, BOB),
            submit_training(database),
            submit_training(database, run_timeout_ms=2_000),
        )
        own_training(database, timed_out)
        running, finished = own_training(database), own_training(database)
        assert finish_training(database, finished)
        objects, duty = open_objects(f"file://{tmp_path}"), AbandonedTrainings()
        assert duty.run_once(database, objects).rows == 0
        clock.pass_ms(10_000)
        with database.begin() as tx:
            assert tx.jobs.expire() == 1
            assert tx.jobs.time_out() == 1
            assert tx.jobs.request_cancel(BOB, cancelled) is not None
        counts = duty.run_once(database, objects)
        assert (counts.rows, counts.more) == (3, False)
        assert duty.run_once(database, objects).rows == 0
        for job_id in (expired, cancelled, timed_out):
            version = version_of(database, job_id)
            assert version.state is VersionState.BROKEN
            assert version.error == f"training job {job_id} is over and left no model"
        for job_id in (queued, running.job_id):
            assert version_of(database, job_id).state is VersionState.TRAINING
        assert version_of(database, finished.job_id).state is VersionState.PENDING

    def test_a_job_that_is_queued_again_keeps_its_version(self, database: Database) -> None:
        owned = own_training(database)
        with database.begin() as tx:
            tx.sessions.close(owned.session_id)
            assert tx.jobs.reap() == 1
        with database.begin() as tx:
            assert tx.models.abandon_orphans() == 0
        again = own_training(database, owned.job_id)
        assert finish_training(database, again)

    def test_a_job_that_was_lost_too_often_loses_its_version(self, database: Database) -> None:
        job_id = submit_training(database)
        while True:
            session = open_session(database)
            owned = own_training(database, job_id, session)
            with database.begin() as tx:
                tx.sessions.close(owned.session_id)
                tx.jobs.reap()
            with database.read() as tx:
                job = tx.jobs.get(ALICE, job_id)
            assert job is not None
            if job.state is JobState.FAILED:
                break
        with database.begin() as tx:
            assert tx.models.abandon_orphans() == 1
        assert version_of(database, job_id).state is VersionState.BROKEN

    def test_one_without_any_run_is_given_up_too(self, database: Database) -> None:
        reserved = reserve(database)
        with database.begin() as tx:
            assert tx.models.abandon_orphans() == 1
            broken = tx.models.by_id(reserved.id)
        assert broken is not None
        assert broken.error == "the training job that was to fill it in is gone"

    def test_a_run_gives_up_as_many_as_its_limit_says(
        self, database: Database, tmp_path: Path
    ) -> None:
        for _ in range(3):
            reserve(database)
        objects = open_objects(f"file://{tmp_path}")
        duty = AbandonedTrainings(AbandonedTrainingsConfig(limit=2))
        runs = [duty.run_once(database, objects) for _ in range(2)]
        assert [(one.rows, one.more) for one in runs] == [(2, True), (1, False)]

    def test_a_submit_that_is_under_way_is_not_hit(self, postgresql: Database) -> None:
        """Version, run and live job become visible together."""
        with postgresql.begin() as tx:
            reserved = tx.models.reserve(ALICE, new_id(), NAME)
            with postgresql.begin() as keeper:
                assert keeper.models.abandon_orphans() == 0
            assert tx.models.by_id(reserved.id) == reserved

    def test_a_queued_job_of_a_broken_version_fails_with_it(self, database: Database) -> None:
        """Its owner was lost between filling it in and ending the job, and it did not load."""
        owned = own_training(database)
        assert finish_training(database, owned)
        version = version_of(database, owned.job_id)
        with database.begin() as tx:
            tx.sessions.close(owned.session_id)
            assert tx.jobs.reap() == 1
            assert tx.models.mark_broken(version.id, "no")
            assert tx.jobs.fail_version(version.id, JobError("version_broken", "no")) == 1
        with database.read() as tx:
            job = tx.jobs.get(ALICE, owned.job_id)
        assert job is not None and job.state is JobState.FAILED
