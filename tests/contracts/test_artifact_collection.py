"""What deleted versions leave in storage goes, and never what somebody may still need."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from producers.registry import digest_of, push_version
from storage.database import Database
from storage.objects import Objects, artifact_key, open_objects
from storage.records.models import ModelVersion, VersionState
from tests.support.archives import archive, input_layer, layer, sequential
from tests.support.database import ALICE, BOB, ManualClock, submit
from tests.support.retention import Interrupted, Stepwise
from tests.support.waiting import wait_until
from workers.keeper.artifact_collection import (
    ArtifactCollection,
    ArtifactCollectionConfig,
    CollectedArtifacts,
)
from workers.keeper.loop import standard_duties

HOUR_MS = 3_600_000


class Shelf:
    """A registry over a folder of objects."""

    def __init__(self, database: Database, objects: Objects, file: Path) -> None:
        self.database, self.objects, self.file = database, objects, file

    def push(self, name: str = "digits", tenant: str = ALICE) -> ModelVersion:
        return push_version(self.database, self.objects, tenant, name, self.file).version

    def delete(self, version: ModelVersion) -> None:
        with self.database.begin() as tx:
            tx.lifecycle.delete(version.tenant, version.name, version.version)

    def look(self, version: ModelVersion) -> ModelVersion:
        with self.database.read() as tx:
            found = tx.models.by_id(version.id)
        assert found is not None
        return found

    def has(self, tenant: str = ALICE) -> bool:
        return self.objects.exists(artifact_key(tenant, digest_of(self.file)))

    def collect(self, limit: int = 100) -> CollectedArtifacts:
        duty = ArtifactCollection(ArtifactCollectionConfig(limit=limit))
        return duty.run_once(self.database, self.objects)

    def check(self) -> None:
        """No version that is not collected points to nothing."""
        with self.database.read() as tx:
            versions = [v for t in (ALICE, BOB) for v in tx.models.versions(t, "digits")]
        for version in versions:
            assert version.collected_at or self.objects.exists(version.object_key)


@pytest.fixture
def shelf(database: Database, tmp_path: Path) -> Shelf:
    file = tmp_path / "m.keras"
    config = sequential(input_layer("x", (None, 4)), layer("Dense", name="d", units=2))
    file.write_bytes(archive(config).getvalue())
    return Shelf(database, open_objects(f"file://{tmp_path}/objects"), file)


def test_an_artifact_goes_an_hour_after_its_version(shelf: Shelf, clock: ManualClock) -> None:
    version = shelf.push()
    shelf.delete(version)
    clock.pass_ms(HOUR_MS - 1)
    assert shelf.collect() == CollectedArtifacts(0, 0, 100)
    clock.pass_ms(1)
    assert shelf.has()
    assert shelf.collect() == CollectedArtifacts(1, 1, 100)
    assert not shelf.has()
    gone = shelf.look(version)
    assert (gone.state, gone.collected_at) == (VersionState.DELETED, clock.now_ms())
    assert shelf.collect() == CollectedArtifacts(0, 0, 100)


def test_one_that_another_version_shares_stays(shelf: Shelf, clock: ManualClock) -> None:
    first, other = shelf.push(), shelf.push("cats")
    theirs = shelf.push(tenant=BOB)
    shelf.delete(first)
    clock.pass_ms(HOUR_MS)
    assert shelf.collect() == CollectedArtifacts(1, 0, 100)
    assert shelf.has()
    shelf.delete(other), shelf.delete(theirs)
    assert shelf.collect() == CollectedArtifacts(0, 0, 100)
    clock.pass_ms(HOUR_MS)
    assert shelf.collect(limit=1).more
    shelf.collect()
    assert not shelf.has() and not shelf.has(BOB)


def test_what_was_queued_before_keeps_it(shelf: Shelf, clock: ManualClock) -> None:
    version = shelf.push()
    shelf.delete(version)
    submit(shelf.database, version_id=version.id, expires_in_ms=10**9)
    clock.pass_ms(2 * HOUR_MS)
    assert shelf.collect() == CollectedArtifacts(0, 0, 100)
    assert shelf.has()


def test_the_same_bytes_can_be_pushed_again_at_any_time(shelf: Shelf, clock: ManualClock) -> None:
    shelf.delete(shelf.push())
    again = shelf.push()
    assert (again.version, again.state) == (2, VersionState.PENDING)
    clock.pass_ms(HOUR_MS)
    assert shelf.collect() == CollectedArtifacts(1, 0, 100)
    shelf.delete(again)
    clock.pass_ms(HOUR_MS)
    assert shelf.collect() == CollectedArtifacts(1, 1, 100)
    assert shelf.push().version == 3
    assert shelf.has()


def test_a_collection_between_the_put_and_the_row_is_made_good(
    shelf: Shelf, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.delete(shelf.push())
    clock.pass_ms(HOUR_MS)
    put_file, puts = shelf.objects.put_file, []

    def put_and_lose(key: str, path: Path) -> None:
        puts.append(key)
        try:
            put_file(key, path)
        finally:
            if len(puts) == 1:
                assert shelf.collect() == CollectedArtifacts(1, 1, 100)

    monkeypatch.setattr(shelf.objects, "put_file", put_and_lose)
    assert shelf.push().version == 2
    assert len(puts) == 2 and shelf.has()


@pytest.mark.parametrize("after", [1, 2])
def test_a_keeper_that_dies_on_its_way_is_followed_by_one_that_ends_its_work(
    shelf: Shelf, clock: ManualClock, after: int
) -> None:
    """After the look, and after the deletion but before the commit."""
    shelf.delete(shelf.push())
    clock.pass_ms(HOUR_MS)

    def die() -> None:
        raise Interrupted

    stepwise = Stepwise(shelf.database, shelf.objects)
    stepwise.then[after] = die
    with pytest.raises(Interrupted):
        ArtifactCollection().run_once(stepwise, stepwise)  # type: ignore[arg-type]
    assert shelf.has() == (after == 1)
    if after == 2:  # the row says nothing of it yet: a push looks for itself
        assert shelf.push().version == 2
        assert shelf.has()
    assert shelf.collect().versions == 1
    shelf.check()


def test_a_push_waits_for_the_collection_that_it_meets(shelf: Shelf, clock: ManualClock) -> None:
    """The keeper has deleted the object and not committed; the push has put nothing, as it was
    there. On PostgreSQL it waits at the held rows, on SQLite for the one writer."""
    old = shelf.push()
    shelf.delete(old)
    clock.pass_ms(HOUR_MS)
    with shelf.database.read() as tx:
        (due,) = tx.lifecycle.due(HOUR_MS)
    putting, pushed = threading.Event(), []

    put_file = shelf.objects.put_file

    def put(key: str, path: Path) -> None:
        try:
            put_file(key, path)
        finally:
            putting.set()

    shelf.objects.put_file = put  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: pushed.append(shelf.push()))
    with shelf.database.begin() as tx:
        assert tx.lifecycle.collect(due) == (True, True)
        thread.start()
        assert putting.wait(20)
        assert not pushed
        shelf.objects.delete([due.object_key])
    wait_until(lambda: bool(pushed), 20, what="the push to go on")
    thread.join(20)
    assert pushed[0].version == 2 and shelf.has()
    shelf.check()


def test_it_is_among_the_standard_duties() -> None:
    assert "artifact_collection" in {duty.name for duty in standard_duties()}
