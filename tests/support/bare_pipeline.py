"""A pipeline without Celery: ids are offered by the test itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.clock import Clock, SystemClock
from storage.queue.lanes import Lane
from storage.records.models import ModelVersion
from storage.records.sessions import NewSession
from tests.support.household import Household
from tests.support.numpy_runtime import Behaviour, NumpyRuntime
from workers.inference.finish import Announce
from workers.inference.pipeline import Pipeline
from workers.inference.ports import Runtime
from workers.settings import WorkerSettings


class Note:
    """A message: remembers that it was settled."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def settled(self) -> None:
        assert not self.done.is_set(), "settled twice"
        self.done.set()

    def returned(self) -> None:
        """Nobody here is shut out for so long."""
        raise AssertionError("a message was given back")


def settings_for(folder: Path, **changes: Any) -> WorkerSettings:
    """Quick ones: nothing waits longer than a test wants to."""
    quick: dict[str, Any] = {
        "cache_dir": folder / "cache",
        "probe_versions_every_s": 0.05,
        "retry_back_off_s": 0.05,
        "put_patience_s": 1.0,
        "drain_s": 10.0,
    }
    return WorkerSettings(**{**quick, **changes})


@contextmanager
def running_pipeline(
    house: Household,
    folder: Path,
    behaviour: Behaviour | None = None,
    *,
    clock: Clock | None = None,
    announce: Announce | None = None,
    runtime: Runtime | None = None,
    **changes: Any,
) -> Iterator[Pipeline]:
    """A started pipeline; drained and closed at the end, whatever holds its passes."""
    pipeline = Pipeline(
        house.database,
        house.objects,
        runtime or NumpyRuntime(behaviour),
        settings_for(folder, **changes),
        clock or SystemClock(),
        lambda session_id: NewSession(session_id, "node", "host", "cpu", "default"),
        announce,
    )
    pipeline.start()
    try:
        yield pipeline
    finally:
        if behaviour is not None:
            behaviour.gate.set()
        pipeline.drain(lambda: None)
        pipeline.close()


def offer(
    pipeline: Pipeline,
    ids: Sequence[str],
    version: ModelVersion,
    *,
    chunk: int = 64,
    lane: Lane = Lane.NORMAL,
) -> list[Note]:
    """Messages for these ids, ``chunk`` in each."""
    notes = []
    for start in range(0, len(ids), chunk):
        note = Note()
        pipeline.intake.offer(note, version.id, ids[start : start + chunk], lane=lane)
        notes.append(note)
    return notes
