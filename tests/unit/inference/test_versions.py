"""The loader: what it loads when, whom it drives out, and whom it tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.clock import SystemClock
from storage.database.lifecycle import DueArtifact
from storage.records.models import ModelVersion, VersionState
from tests.support.household import Household
from tests.support.numpy_runtime import Behaviour, NumpyRuntime
from tests.support.waiting import wait_until
from workers.inference.artifacts import Artifacts
from workers.inference.ports import DeviceOutOfMemory
from workers.inference.versions import Standing, Versions, Watchers


class HandClock(SystemClock):
    """Stands still until a test turns it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic_s(self) -> float:
        return self.now_s


class Looks:
    """Says whose jobs wait, and knows how often the loader asked."""

    def __init__(self, waiting: set[str]) -> None:
        self.waiting, self.asked = waiting, 0

    def __call__(self) -> set[str]:
        self.asked += 1
        return self.waiting

    def wait_for_more(self) -> None:
        until = self.asked + 3
        wait_until(lambda: self.asked >= until, what="the loader to look for room again")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    house = Household.on_sqlite(tmp_path)
    yield house
    house.database.close()


@contextmanager
def loading(
    house: Household, folder: Path, behaviour: Behaviour, watchers: Watchers, **given: Any
) -> Iterator[Versions]:
    versions = Versions(
        house.database,
        Artifacts(house.objects, folder / "cache"),
        NumpyRuntime(behaviour),
        on_news=lambda: None,
        watchers=watchers,
        **{"clock": SystemClock(), "max_models": 8, **given},
    )
    stop = threading.Event()
    thread = threading.Thread(target=versions.run, args=(stop,))
    thread.start()
    try:
        yield versions
    finally:
        stop.set()
        thread.join(10)
        versions.forget_all()


def loaded(versions: Versions, version: ModelVersion) -> None:
    wait_until(lambda: versions.is_loaded(version.id), what="the version to be loaded")


def test_measured_memory_decides_who_leaves(house: Household, tmp_path: Path) -> None:
    three = [house.push(f"m{n}") for n in range(3)]
    behaviour = Behaviour(memory_bytes=400, memory_budget_bytes=1_000)
    gone: list[str] = []
    with loading(house, tmp_path, behaviour, Watchers(evicted=gone.append)) as versions:
        for version in three:
            versions.want(version.id)
            loaded(versions, version)
        assert gone == [three[0].id]
        assert versions.standing(three[0].id) is Standing.UNKNOWN
        versions.want(three[0].id)
        loaded(versions, three[0])
        assert gone == [three[0].id, three[1].id]


def test_who_watches_is_told_before_and_after(house: Household, tmp_path: Path) -> None:
    told: list[object] = []
    inside: list[object] = []
    watchers = Watchers(loading=told.append, loaded=lambda model: told.append(model.version_id))
    behaviour = Behaviour(load=lambda version, _: inside.extend(told))
    with loading(house, tmp_path, behaviour, watchers) as versions:
        versions.want(house.version.id)
        loaded(versions, house.version)
    assert inside == [house.version.id], "the one that is loading is named before it begins"
    assert told == [house.version.id, None, house.version.id]


def test_a_version_with_work_keeps_its_turn(house: Household, tmp_path: Path) -> None:
    other, clock, looks = house.push("other"), HandClock(), Looks({house.version.id})
    watchers = Watchers(waiting=looks)
    with loading(house, tmp_path, Behaviour(), watchers, clock=clock, max_models=1) as versions:
        versions.want(house.version.id)
        loaded(versions, house.version)
        lease = versions.acquire(house.version.id)
        assert lease is not None
        versions.want(other.id)
        looks.wait_for_more()
        assert versions.is_loaded(house.version.id) and not versions.is_loaded(other.id)
        clock.now_s += 60
        wait_until(lambda: not versions.is_loaded(house.version.id), what="the end of its turn")
        looks.wait_for_more()
        assert not versions.is_loaded(other.id), "not before the last pass of the other is over"
        lease.release()
        loaded(versions, other)


def test_a_probe_waits_for_room_and_work_does_not_wait_for_a_probe(
    house: Household, tmp_path: Path
) -> None:
    tried, needed = house.push("tried", ready=False), house.push("needed")
    clock, looks = HandClock(), Looks({needed.id})
    watchers = Watchers(waiting=looks)
    with loading(house, tmp_path, Behaviour(), watchers, clock=clock, max_models=1) as versions:
        versions.want(needed.id)
        loaded(versions, needed)
        versions.want(tried.id, urgent=False)
        looks.wait_for_more()
        clock.now_s += 8
        looks.wait_for_more()
        assert versions.is_loaded(needed.id)
        assert house.version_now(tried).state is VersionState.PENDING
        clock.now_s += 8  # it was patient for long enough
        house.wait_ready(tried)
        versions.want(needed.id)
        loaded(versions, needed)


def test_a_load_that_runs_out_of_memory_is_tried_again_without_the_idle(
    house: Household, tmp_path: Path
) -> None:
    large = house.push("large")
    tries: list[str] = []

    def load(version: ModelVersion, _: Path) -> None:
        tries.append(version.id)
        if version.id == large.id and tries.count(large.id) == 1:
            raise DeviceOutOfMemory("no room")

    with loading(house, tmp_path, Behaviour(load=load), Watchers()) as versions:
        versions.want(house.version.id)
        loaded(versions, house.version)
        versions.want(large.id)
        loaded(versions, large)
        assert not versions.is_loaded(house.version.id)
    assert tries.count(large.id) == 2


def test_a_ready_version_whose_artifact_was_altered_is_broken_for_good(
    house: Household, tmp_path: Path
) -> None:
    house.objects.delete([house.version.object_key])
    house.objects.put(house.version.object_key, b"something else")
    behaviour = Behaviour()
    with loading(house, tmp_path, behaviour, Watchers()) as versions:
        versions.want(house.version.id)
        wait_until(
            lambda: versions.standing(house.version.id) is Standing.BROKEN, what="the verdict"
        )
        now = house.version_now(house.version)
        assert now.state is VersionState.BROKEN
        assert now.error is not None and now.error.startswith("digest_mismatch")
        versions.reconsider(house.version.id)
        wait_until(
            lambda: versions.standing(house.version.id) is Standing.BROKEN, what="it once more"
        )
    assert behaviour.loads == 0


def deleted(house: Household) -> None:
    """A second thought: after a submit has looked its version up."""
    version = house.version
    with house.database.begin() as tx:
        tx.lifecycle.delete(version.tenant, version.name, version.version)


def test_a_deleted_version_is_loaded_for_whoever_was_queued_for_it(
    house: Household, tmp_path: Path
) -> None:
    deleted(house)
    with loading(house, tmp_path, Behaviour(), Watchers()) as versions:
        versions.want(house.version.id)
        loaded(versions, house.version)
    assert house.version_now(house.version).state is VersionState.DELETED


def test_a_deleted_version_that_cannot_be_loaded_stays_deleted(
    house: Household, tmp_path: Path
) -> None:
    deleted(house)
    house.objects.delete([house.version.object_key])
    house.objects.put(house.version.object_key, b"something else")
    with loading(house, tmp_path, Behaviour(), Watchers()) as versions:
        versions.want(house.version.id)
        wait_until(
            lambda: versions.standing(house.version.id) is Standing.BROKEN, what="the verdict"
        )
    now = house.version_now(house.version)
    assert (now.state, now.error) == (VersionState.DELETED, None)


def test_jobs_of_a_version_whose_artifact_was_collected_fail_and_say_why(
    house: Household, tmp_path: Path
) -> None:
    deleted(house)
    later = house.version_now(house.version)
    with house.database.begin() as tx:
        due = DueArtifact(later.id, later.tenant, later.object_key)
        assert tx.lifecycle.collect(due) == (True, True)
    (job,) = house.submit([{"tensor": [1, 2]}])
    behaviour = Behaviour()
    with loading(house, tmp_path, behaviour, Watchers()) as versions:
        versions.want(house.version.id)
        wait_until(
            lambda: versions.standing(house.version.id) is Standing.BROKEN, what="the verdict"
        )
    assert behaviour.loads == 0
    ended = house.job(job)
    assert ended.error is not None and ended.error.code == "version_deleted"
    assert "was deleted" in ended.error.message
