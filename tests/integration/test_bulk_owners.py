"""A bulk job from its claim to its end, whoever looks after it, and however slow its store is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from storage.clock import SystemClock
from storage.objects import Objects
from storage.queue.lanes import Lane
from storage.records.bulk import BulkInput, BulkOutput, BulkSpec
from storage.records.jobs import JobState
from tests.support.bare_pipeline import offer, running_pipeline, settings_for
from tests.support.bulk_files import npy, vectors
from tests.support.database import POOL
from tests.support.household import Household
from tests.support.late_store import LateStore
from tests.support.waiting import wait_until
from workers.bulk import side
from workers.bulk.runner import Runner
from workers.bulk.side import BulkSide
from workers.inference.pipeline import Pipeline

ROWS = 2_000


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


@contextlib.contextmanager
def bulk_worker(house: Household, folder: Path) -> Iterator[BulkSide]:
    """A worker that gets what is in the backlog, as relay and broker would bring it."""
    (folder / "in").mkdir()
    (folder / "in/rows.npy").write_bytes(npy(vectors(range(ROWS)).repeat(2, axis=1).astype(float)))
    stop = threading.Event()
    with running_pipeline(house, folder) as pipeline:
        settings = settings_for(folder, ref_prefixes=(f"file://{folder}/in/",))
        bulk = BulkSide(pipeline, house.database, house.objects, settings, SystemClock())
        bulk.start()
        carry = threading.Thread(target=_carry, args=(house, pipeline, stop), daemon=True)
        carry.start()
        try:
            yield bulk
        finally:
            stop.set()
            carry.join(10)
            pipeline.drain(lambda: None)
            bulk.close()


def _carry(house: Household, pipeline: Pipeline, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        with house.database.begin() as tx:
            heads = [one.id for one in tx.backlog.heads(POOL, house.tenant, 32)]
            marked = tx.backlog.mark_published(heads)
        if marked:
            offer(pipeline, sorted(marked), house.version, lane=Lane.BULK)


def submit(house: Household, folder: Path) -> str:
    place = f"file://{folder}/in/rows.npy"
    return house.submit_bulk(BulkSpec(BulkInput((place,)), BulkOutput()))


def test_a_paused_bulk_job_keeps_no_worker_from_others_and_goes_on_later(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, run = threading.Event(), Runner.run
    monkeypatch.setattr(side, "MOST_OWNED", 1)
    monkeypatch.setattr(Runner, "run", lambda self, slot: go.wait(60) and run(self, slot))
    with bulk_worker(house, tmp_path):
        paused = submit(house, tmp_path)
        wait_until(lambda: is_planned(house, paused), 30, what="the plan")
        with house.database.begin() as tx:
            assert tx.bulk.pause(house.tenant, paused)
        wait_until(lambda: house.states([paused]) == [JobState.QUEUED], 30, what="the pause")
        go.set()
        assert house.wait_terminal([submit(house, tmp_path)])[0].state is JobState.SUCCEEDED
        assert house.states([paused]) == [JobState.QUEUED]
        with house.database.begin() as tx:
            assert tx.bulk.resume(house.tenant, paused)
        (job,) = house.wait_terminal([paused])
    assert (job.state, job.epoch, job.attempts) == (JobState.SUCCEEDED, 2, 0)
    assert house.result(job)["rows"] == ROWS


def is_planned(house: Household, job_id: str) -> bool:
    with house.database.read() as tx:
        run = tx.bulk.run(job_id)
    return run is not None and run.plan is not None


@pytest.mark.parametrize(
    ("words", "epoch"),
    [
        ("/manifest", 2),  # another owner writes it again, under another name
        ("packs/result", 2),  # and with it what waited to be published beside it
        ("/part-", 1),  # its shard is scored again
    ],
)
def test_what_took_an_hour_to_put_is_put_again_and_the_job_succeeds(
    house: Household, tmp_path: Path, words: str, epoch: int
) -> None:
    late = LateStore(house.objects, house.database, {words: 1})
    house.objects = cast("Objects", late)
    job_id = submit(house, tmp_path)
    with bulk_worker(house, tmp_path):
        (job,) = house.wait_terminal([job_id])
    assert (job.state, job.epoch, late.late) == (JobState.SUCCEEDED, epoch, {words: 0}), job.error
    assert house.result(job)["rows"] == ROWS
    with house.database.read() as tx:
        parts: Sequence[object] = tx.bulk.parts(job_id)
    assert parts
