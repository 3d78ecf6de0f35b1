"""What becomes of versions: edited, deprecated, deleted when nobody needs them, collected last."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from storage.database import Database, Transaction
from storage.database.lifecycle import DueArtifact, Edit
from storage.records.aliases import AliasMove, Why
from storage.records.errors import Conflict, Gone, NotFound
from storage.records.models import ModelFormat, ModelRef, ModelVersion, NewVersion, VersionState
from storage.records.training_runs import TrainedVersion
from storage.records.trials import TrialKind, TrialState
from tests.support.database import (
    ALICE,
    BOB,
    LEASE_MS,
    START_MS,
    ManualClock,
    claim,
    failure,
    finish,
    new_id,
    open_session,
    submit,
)
from tests.support.training import finish_training, own_training, submit_training

HOUR_MS = 3_600_000
KEY = "models/digits"


def push(database: Database, tenant: str = ALICE, name: str = "digits", **fields) -> ModelVersion:
    new = {
        "id": new_id(),
        "name": name,
        "format": ModelFormat.KERAS,
        "digest": "0" * 64,
        "size_bytes": 1,
        "object_key": KEY,
        "signature": {},
    }
    with database.begin() as tx:
        return tx.models.push(tenant, NewVersion(**{**new, **fields}))


def ready(database: Database, **fields: Any) -> ModelVersion:
    version = push(database, **fields)
    with database.begin() as tx:
        assert tx.models.mark_ready(version.id, {})
    return look(database, version)


def look(database: Database, version: ModelVersion) -> ModelVersion:
    with database.read() as tx:
        found = tx.models.by_id(version.id)
    assert found is not None
    return found


def edit(database: Database, version: int = 1, tenant: str = ALICE, **fields: Any) -> ModelVersion:
    with database.begin() as tx:
        return tx.lifecycle.edit(tenant, "digits", version, Edit(**fields))


def delete(database: Database, version: int = 1, tenant: str = ALICE) -> ModelVersion:
    with database.begin() as tx:
        return tx.lifecycle.delete(tenant, "digits", version)


def refused(code: str, act, error: type[Exception] = Conflict) -> Any:
    with pytest.raises(error) as caught:
        act()
    assert caught.value.stable_code == code
    return caught.value


def resolve(database: Database, ref: ModelRef) -> int:
    with database.read() as tx:
        return tx.models.resolve(ALICE, ref).version


def point(tx: Transaction, alias: str, version: int, tenant: str = ALICE) -> AliasMove:
    tx.models.hold_pointable(tenant, "digits", version)
    return tx.aliases.move(tenant, "digits", alias, version, Why(moved_by="fbk_x"))


def start_trial(
    database: Database, base: ModelVersion, candidate: ModelVersion, **fields: Any
) -> str:
    row = {
        "id": new_id(),
        "tenant": base.tenant,
        "name": base.name,
        "alias": "prod",
        "kind": "canary",
        "base_version_id": base.id,
        "base_version": base.version,
        "candidate_version_id": candidate.id,
        "candidate_version": candidate.version,
        "base_arm_id": new_id(),
        "candidate_arm_id": new_id(),
        "shadow_arm_id": new_id(),
        "share": 0.25,
        "limits": "{}",
        "state": "running",
        "reason": None,
        "created_at": START_MS,
        "ended_at": None,
        "repointed": 0,
        "compared": 0,
        "disagreed": 0,
        **fields,
    }
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with database._engines.writing.begin() as connection:
        connection.execute(text(f"INSERT INTO trials ({names}) VALUES ({values})"), row)
    return str(row["id"])


def training_on(database: Database, version: ModelVersion, tenant: str = ALICE) -> str:
    spec = {"training": {"network": {"version": "digits:1", "version_id": version.id}}}
    payload = json.dumps(spec, separators=(",", ":")).encode()
    return submit_training(database, tenant, payload=payload)


class TestEditing:
    def test_what_is_said_stays_until_something_else_is(self, database):
        push(database, licence="MIT", uploader="fbk_12345678")
        assert edit(database, notes="of June").notes == "of June"
        both = edit(database, licence="Apache-2.0")
        assert (both.licence, both.notes, both.uploader) == (
            "Apache-2.0",
            "of June",
            "fbk_12345678",
        )
        assert edit(database, licence="", notes="").licence is None
        assert edit(database).notes is None

    def test_a_ready_version_is_deprecated_and_restored(self, database):
        ready(database), ready(database)
        assert edit(database, 2, deprecated=True).state is VersionState.DEPRECATED
        assert edit(database, 2, deprecated=True).state is VersionState.DEPRECATED
        assert resolve(database, ModelRef("digits")) == 1
        assert resolve(database, ModelRef("digits", version=2)) == 2
        restored = edit(database, 2, deprecated=False)
        assert (restored.state, restored.loaded_at) == (VersionState.READY, START_MS)
        assert resolve(database, ModelRef("digits")) == 2

    def test_what_is_not_ready_cannot_be_deprecated(self, database):
        pending = push(database)
        for deprecated in (True, False):
            refused("version_not_ready", lambda d=deprecated: edit(database, deprecated=d))
        with database.begin() as tx:
            tx.models.mark_broken(pending.id, "no")
        refused("version_not_ready", lambda: edit(database, deprecated=True, notes="x"))
        assert look(database, pending).notes is None

    def test_an_alias_that_stands_for_a_deprecated_one_keeps_working(self, database):
        ready(database), ready(database)
        with database.begin() as tx:
            point(tx, "prod", 1)
        edit(database, deprecated=True)
        assert resolve(database, ModelRef("digits", alias="prod")) == 1
        with database.begin() as tx:
            refused("version_deprecated", lambda: point(tx, "prod", 1))
        edit(database, deprecated=False)
        with database.begin() as tx:
            assert point(tx, "blue", 1).to_version == 1

    def test_a_deprecated_one_still_breaks_when_it_has_to(self, database):
        version = ready(database)
        edit(database, deprecated=True)
        with database.begin() as tx:
            assert not tx.models.mark_ready(version.id, {})
            assert tx.models.mark_broken(version.id, "it kills its workers", even_ready=True)
        assert look(database, version).state is VersionState.BROKEN

    def test_nobody_edits_what_is_not_theirs(self, database):
        ready(database)
        missing = refused("model_not_found", lambda: edit(database, tenant=BOB), NotFound)
        assert "digits" in missing.message
        refused("version_not_found", lambda: edit(database, 2), NotFound)


class TestDeleting:
    def test_a_deleted_version_is_a_record_whose_number_is_not_used_again(self, database, clock):
        first = ready(database, licence="MIT", notes="of June")
        clock.pass_ms(7)
        gone = delete(database)
        assert (gone.state, gone.deleted_at, gone.collected_at) == (
            VersionState.DELETED,
            START_MS + 7,
            None,
        )
        for name in ("digest", "object_key", "licence", "notes", "loaded_at", "signature"):
            assert getattr(gone, name) == getattr(first, name)
        with database.read() as tx:
            assert tx.models.versions(ALICE, "digits") == [gone]
            assert tx.models.by_id(first.id) == gone
        assert push(database).version == 2
        clock.pass_ms(7)
        assert delete(database) == gone, "said again it is the same"

    def test_nobody_can_mean_it(self, database):
        ready(database)
        delete(database)
        refused("version_deleted", lambda: resolve(database, ModelRef("digits", version=1)), Gone)
        missing = refused(
            "version_not_found", lambda: resolve(database, ModelRef("digits")), NotFound
        )
        assert "no version that can be loaded" in missing.message
        with database.begin() as tx:
            refused("version_deleted", lambda: point(tx, "x", 1), Gone)
        for fields in ({"deprecated": False}, {"notes": "x"}):
            refused("version_deleted", lambda f=fields: edit(database, **f), Gone)

    @pytest.mark.parametrize("state", ["pending", "broken", "deprecated"])
    def test_any_other_state_may_end_so_and_nothing_brings_it_back(self, database, state):
        version = push(database) if state != "deprecated" else ready(database)
        with database.begin() as tx:
            if state == "broken":
                tx.models.mark_broken(version.id, "no such layer")
            elif state == "deprecated":
                tx.lifecycle.edit(ALICE, "digits", 1, Edit(deprecated=True))
        gone = delete(database)
        with database.begin() as tx:
            assert not tx.models.mark_ready(version.id, {})
            assert not tx.models.mark_broken(version.id, "late", even_ready=True)
            assert tx.models.pending(9) == []
        assert look(database, version) == gone
        assert gone.error == ("no such layer" if state == "broken" else None)

    def test_one_in_training_is_its_jobs(self, database):
        submit_training(database)
        refused("version_in_training", lambda: delete(database))

    def test_what_a_failed_training_left_can_go(self, database):
        owned = own_training(database)
        with database.begin() as tx:
            (job,) = tx.jobs.get_many(ALICE, [owned.job_id])
            tx.jobs.commit(owned.session_id, [failure(job)])
            tx.models.abandon([job.version_id], "it failed")
        assert delete(database).state is VersionState.DELETED

    def test_everything_that_depends_on_it_is_named(self, database):
        version, other = ready(database), ready(database)
        session = open_session(database)
        with database.begin() as tx:
            point(tx, "prod", 1)
            point(tx, "blue", 1)
            point(tx, "next", 2)
        ids = submit(database, count=3, version_id=version.id)
        submit(database, version_id=other.id)
        claim(database, session, ids[:1])
        trial = start_trial(database, other, version)
        training = training_on(database, version)
        training_on(database, other)
        error = refused("version_in_use", lambda: delete(database))
        assert error.field == "version"
        assert error.details == [
            {"what": "aliases", "count": 2, "names": ["blue", "prod"]},
            {"what": "queued_jobs", "count": 2},
            {"what": "running_jobs", "count": 1},
            {"what": "trials", "count": 1, "names": [trial]},
            {"what": "trainings", "count": 1, "names": [training]},
        ]
        assert (
            "2 aliases (digits@blue, digits@prod); 2 queued jobs; 1 running job;" in error.message
        )
        assert f"1 trial ({trial}); 1 training ({training})" in error.message
        assert look(database, version).state is VersionState.READY

    def test_each_of_them_hinders_by_itself_and_no_longer_than_it_is_there(self, database):
        version, other = ready(database), ready(database)
        session = open_session(database)
        (job,) = submit(database, version_id=version.id)
        refused("version_in_use", lambda: delete(database))
        claim(database, session, [job])
        refused("version_in_use", lambda: delete(database))
        with database.begin() as tx:
            (held,) = tx.jobs.get_many(ALICE, [job])
            tx.jobs.commit(session, [failure(held)])
        trial = start_trial(database, version, other)
        refused("version_in_use", lambda: delete(database))
        with database._engines.writing.begin() as connection:
            connection.execute(
                text("UPDATE trials SET state = 'stopped', reason = 'x', ended_at = 1")
            )
        training = training_on(database, version)
        refused("version_in_use", lambda: delete(database))
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, training)
        with database.begin() as tx:
            point(tx, "prod", 1)
        refused("version_in_use", lambda: delete(database))
        with database.begin() as tx:
            point(tx, "prod", 2)
        gone = delete(database)
        with database.read() as tx:
            (part,) = tx.lifecycle.parts(gone)
        assert (part.trial_id, part.state) == (trial, TrialState.STOPPED)

    def test_another_tenants_work_is_none_of_it(self, database):
        version = ready(database)
        theirs = ready(database, tenant=BOB)
        with database.begin() as tx:
            point(tx, "prod", 1, BOB)
        submit(database, BOB, version_id=theirs.id)
        training_on(database, theirs, BOB)
        start_trial(database, theirs, theirs)
        assert delete(database).id == version.id
        assert look(database, theirs).state is VersionState.READY
        refused("model_not_found", lambda: delete(database, tenant="carol"), NotFound)

    def test_what_was_made_from_it_is_told_and_no_hindrance(self, database):
        parent = ready(database)
        push(database, name="digits")
        other = push(database, name="cats")
        origin = {"job_id": new_id(), "parents": ["digits:1"], "notes": "digits:2"}
        owned = own_training(database)
        made = TrainedVersion("d" * 64, 3, "models/made", {}, origin)
        with database.begin() as tx:
            assert tx.training.finish(owned.job_id, owned.session_id, owned.epoch, {}, made)
            assert tx.lifecycle.dependents(parent).children == ("digits:3",)
            assert tx.lifecycle.dependents(other).children == ()
        assert delete(database).state is VersionState.DELETED

    def test_the_version_that_a_training_made_says_so(self, database):
        owned = own_training(database)
        assert finish_training(database, owned)
        with database.read() as tx:
            (made,) = tx.models.versions(ALICE, "digits")
        assert made.uploader == "training"


class TestHistory:
    def test_where_aliases_stood_is_told_from_their_moves(self, database, clock):
        version = ready(database)
        ready(database), ready(database, tenant=BOB)
        for alias, number in (("prod", 1), ("prod", 2), ("blue", 2), ("prod", 1)):
            with database.begin() as tx:
                point(tx, alias, number)
            clock.pass_ms(10)
        with database.begin() as tx:
            point(tx, "prod", 1, BOB)
            stays = tx.lifecycle.stays(version)
        assert [(one.alias, one.since, one.until, one.then) for one in stays] == [
            ("prod", START_MS, START_MS + 10, 2),
            ("prod", START_MS + 30, None, None),
        ]
        assert (stays[0].why, stays[0].moved_by, stays[0].generation) == ("set", "fbk_x", 1)

    def test_its_trials_are_told_from_either_side(self, database):
        one, two = ready(database), ready(database)
        start_trial(database, one, two)
        with database.read() as tx:
            (as_base,), (as_candidate,) = tx.lifecycle.parts(one), tx.lifecycle.parts(two)
        assert (as_base.is_candidate, as_base.other, as_base.alias) == (False, 2, "prod")
        assert (as_candidate.is_candidate, as_candidate.other) == (True, 1)
        assert (as_candidate.kind, as_candidate.share) == (TrialKind.CANARY, 0.25)


def due(database: Database, limit: int = 10) -> list[DueArtifact]:
    with database.read() as tx:
        return tx.lifecycle.due(HOUR_MS, limit)


def collect(database: Database, version: ModelVersion) -> tuple[bool, bool]:
    with database.begin() as tx:
        return tx.lifecycle.collect(DueArtifact(version.id, version.tenant, version.object_key))


class TestCollecting:
    def test_an_artifact_outlives_its_version_by_an_hour(self, database, clock: ManualClock):
        version = ready(database)
        ready(database)
        with database.begin() as tx:
            assert not tx.lifecycle.hold_deleted(ALICE, KEY)
        delete(database), delete(database, 2)
        clock.pass_ms(HOUR_MS - 1)
        assert due(database) == []
        clock.pass_ms(1)
        assert {one.version_id for one in due(database)} >= {version.id}
        assert len(due(database)) == 2 and len(due(database, limit=1)) == 1
        with database.begin() as tx:
            assert tx.lifecycle.hold_deleted(ALICE, KEY)
            assert not tx.lifecycle.hold_deleted(BOB, KEY)
            assert not tx.lifecycle.hold_deleted(ALICE, "models/other")

    def test_the_last_of_those_that_share_it_takes_it_along(self, database, clock):
        first, second = ready(database), ready(database)
        ready(database, tenant=BOB)  # the key of another tenant is another key
        delete(database)
        clock.pass_ms(HOUR_MS)
        assert collect(database, first) == (True, False), "the second one needs it"
        assert collect(database, first) == (False, False)
        collected = look(database, first)
        assert (collected.collected_at, collected.state) == (clock.now_ms(), VersionState.DELETED)
        delete(database, 2)
        clock.pass_ms(HOUR_MS)
        assert [one.version_id for one in due(database)] == [second.id]
        assert collect(database, second) == (True, True)
        assert due(database) == []

    def test_what_is_not_deleted_is_never_collected(self, database, clock):
        version = ready(database)
        clock.pass_ms(9 * HOUR_MS)
        assert due(database) == []
        assert collect(database, version) == (False, False)
        assert look(database, version).collected_at is None

    def test_a_job_that_was_written_nevertheless_keeps_it(self, database, clock):
        version = ready(database)
        delete(database)
        (job,) = submit(database, version_id=version.id, expires_in_ms=10**9)
        clock.pass_ms(HOUR_MS + LEASE_MS)
        assert due(database) == []
        assert collect(database, version) == (False, False)
        session = open_session(database, lease_ttl_ms=10**9)
        claim(database, session, [job])
        assert due(database) == []
        with database.begin() as tx:
            (held,) = tx.jobs.get_many(ALICE, [job])
            tx.jobs.commit(session, [failure(held)])
        assert collect(database, version) == (True, True)

    def test_a_training_that_is_to_begin_with_it_keeps_it(self, database, clock):
        version = ready(database)
        delete(database)
        job = training_on(database, version)
        clock.pass_ms(HOUR_MS)
        assert due(database) == []
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
        assert [one.version_id for one in due(database)] == [version.id]

    def test_a_version_without_an_artifact_has_none_to_take_away(self, database, clock):
        owned = own_training(database)
        with database.begin() as tx:
            (job,) = tx.jobs.get_many(ALICE, [owned.job_id])
            tx.jobs.commit(owned.session_id, [failure(job)])
            tx.models.abandon([job.version_id], "it failed")
        gone = delete(database)
        clock.pass_ms(HOUR_MS)
        (one,) = due(database)
        assert (one.version_id, one.object_key) == (gone.id, "")
        assert collect(database, gone) == (True, False)


def test_finished_jobs_are_no_hindrance(database):
    version = ready(database)
    session = open_session(database)
    finish(database, session, submit(database, count=2, version_id=version.id))
    assert delete(database).state is VersionState.DELETED
