"""Where a part ends where its shard ends, nothing is left: the shard is done, and done once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.clock import SystemClock
from storage.queue.lanes import Lane
from storage.records.bulk import BulkInput, BulkOutput, BulkSpec, Part
from storage.records.jobs import JobState
from tests.support.bare_pipeline import offer, running_pipeline, settings_for
from tests.support.bulk_files import npy, vectors
from tests.support.database import POOL
from tests.support.household import Household
from tests.support.waiting import wait_until
from workers.bulk import writing
from workers.bulk.runner import Runner
from workers.bulk.side import BulkSide

ROWS = 20_000


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set no shard is taken."""
    go, run = threading.Event(), Runner.run

    def later(self: Runner, slot: int) -> None:
        assert go.wait(30)
        run(self, slot)

    monkeypatch.setattr(Runner, "run", later)
    return go


@contextlib.contextmanager
def planned(house: Household, folder: Path) -> Iterator[tuple[str, str]]:
    """A bulk job of some shards in a worker that has not taken any: job and session."""
    (folder / "in").mkdir()
    (folder / "in/rows.npy").write_bytes(npy(vectors(range(ROWS)).repeat(2, axis=1).astype(float)))
    place = f"file://{folder}/in/"
    spec = BulkSpec(BulkInput((place + "rows.npy",)), BulkOutput())
    job_id = house.submit_bulk(spec)
    with running_pipeline(house, folder) as pipeline:
        settings = settings_for(folder, ref_prefixes=(place,))
        side = BulkSide(pipeline, house.database, house.objects, settings, SystemClock())
        side.start()
        try:
            offer(pipeline, [job_id], house.version, lane=Lane.BULK)
            wait_until(lambda: _is_planned(house, job_id), 30, what="the plan")
            session_id = pipeline.parts.sessions.wait_current(5.0)
            assert session_id is not None
            yield job_id, session_id
        finally:
            pipeline.drain(lambda: None)
            side.close()


def test_a_shard_whose_last_chunk_is_due_is_not_done_again(
    house: Household, tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_S", 0.0)  # each chunk is a part
    with planned(house, tmp_path) as (job_id, _):
        held.set()
        parts = _parts_of_good_end(house, job_id)
    assert len(parts) > 1 and {part.epoch for part in parts} == {1}


def test_a_suspicion_that_ends_with_its_shard_ends(
    house: Household, tmp_path: Path, held: threading.Event
) -> None:
    with planned(house, tmp_path) as (job_id, session_id):
        with house.database.begin() as tx:
            shard = tx.bulk.claim(session_id, POOL)
            assert shard is not None
            last = (shard.job_id, shard.number, shard.stop - 3, shard.stop)
            assert tx.bulk.blame(session_id, [last]) == 1
        held.set()
        parts = _parts_of_good_end(house, job_id)
    assert {part.epoch for part in parts if part.number == shard.number} == {2}
    assert {part.epoch for part in parts if part.number != shard.number} <= {1}


def _is_planned(house: Household, job_id: str) -> bool:
    with house.database.read() as tx:
        run = tx.bulk.run(job_id)
    return run is not None and run.plan is not None


def _parts_of_good_end(house: Household, job_id: str) -> list[Part]:
    """Of a job that ends well; they hold each row once."""
    (job,) = house.wait_terminal([job_id], 60)
    assert job.state is JobState.SUCCEEDED, job.error
    with house.database.read() as tx:
        parts = sorted(tx.bulk.parts(job_id), key=lambda one: one.part.start)
    assert [one.part.start for one in parts] == [0, *(one.part.stop for one in parts[:-1])]
    assert parts[-1].part.stop == ROWS
    return parts
