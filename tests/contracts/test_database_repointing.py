"""Queued jobs go to another version, and record it; whatever runs stays with its own."""

from __future__ import annotations

import pytest

from storage.database import Database
from storage.records.jobs import JobKind
from storage.records.models import ModelVersion
from tests.support.database import (
    ALICE,
    BOB,
    claim,
    finish,
    new_id,
    new_version,
    open_session,
    submit,
)


@pytest.fixture
def old(database: Database) -> str:
    return new_version(database)


@pytest.fixture
def new(database: Database) -> ModelVersion:
    return version(database, new_version(database))


def version(database: Database, version_id: str) -> ModelVersion:
    with database.read() as tx:
        found = tx.models.by_id(version_id)
    assert found is not None
    return found


def moved(database: Database, ids: list[str], tenant: str = ALICE) -> list[tuple[str, int]]:
    with database.read() as tx:
        jobs = [tx.jobs.get(tenant, one) for one in ids]
    return [(job.version_id, job.version) for job in jobs]


def test_only_what_is_queued_of_the_version_moves(
    database: Database, old: str, new: ModelVersion
) -> None:
    session = open_session(database)
    queued, running, over = (submit(database, count=2, version_id=old) for _ in range(3))
    other = submit(database, version_id=new_id())
    theirs = submit(database, BOB, version_id=old)
    bulk = submit(database, version_id=old, kind=JobKind.BULK)
    shadow = submit(database, version_id=old, arm_id=new_id(), shadow_of=over[0])
    claim(database, session, running)
    finish(database, session, over)
    with database.begin() as tx:
        assert tx.jobs.repoint(ALICE, old, new) == 2
        assert tx.jobs.repoint(ALICE, old, new) == 0
    assert moved(database, queued) == [(new.id, new.version)] * 2
    for ids, tenant in ((running, ALICE), (over, ALICE), (bulk, ALICE), (theirs, BOB)):
        assert {found for found, _ in moved(database, ids, tenant)} == {old}
    assert new.id not in {found for found, _ in moved(database, other)}
    with database.read() as tx:
        heads = tx.backlog.heads("default", ALICE, 99)
    assert {head.id: head.version_id for head in heads}[shadow[0]] == old


def test_they_are_claimed_for_the_version_that_they_record(
    database: Database, old: str, new: ModelVersion
) -> None:
    ids = submit(database, count=3, version_id=old)
    with database.begin() as tx:
        assert tx.backlog.mark_published(ids) == set(ids)
        before = {one.id: one.seq for one in tx.jobs.glimpse(ids)}
        assert tx.jobs.repoint(ALICE, old, new) == 3
    with database.read() as tx:
        assert {one.seq - before[one.id] for one in tx.jobs.glimpse(ids)} == {1}
        heads = tx.backlog.heads("default", ALICE, 9)  # to be published anew
    assert {(head.id, head.version_id) for head in heads} == {(one, new.id) for one in ids}
    claimed = claim(database, open_session(database), ids)
    assert {job.version_id for job in claimed} == {new.id}


def test_as_many_as_are_asked_for_move_at_once(
    database: Database, old: str, new: ModelVersion
) -> None:
    ids = submit(database, count=5, version_id=old)
    with database.begin() as tx:
        assert [tx.jobs.repoint(ALICE, old, new, limit=2) for _ in range(3)] == [2, 2, 1]
    assert moved(database, ids) == [(new.id, new.version)] * 5


def test_those_of_an_arm_leave_it(database: Database, old: str, new: ModelVersion) -> None:
    arm, session = new_id(), open_session(database)
    mine = submit(database, count=2, version_id=old, arm_id=arm)
    running = submit(database, version_id=old, arm_id=arm)
    apart = submit(database, version_id=old, arm_id=new_id()) + submit(database, version_id=old)
    claim(database, session, running)
    with database.begin() as tx:
        assert tx.jobs.repoint_arm(arm, old, new.id, new.version) == 2
        assert tx.jobs.repoint_arm(arm, old, new.id, new.version) == 0
    assert moved(database, mine) == [(new.id, new.version)] * 2
    assert {found for found, _ in moved(database, running + apart)} == {old}
    # One that comes back of what ran goes as well.
    with database.begin() as tx:
        assert tx.jobs.release(session, [(running[0], 1)])
        assert tx.jobs.repoint_arm(arm, old, new.id, new.version) == 1
