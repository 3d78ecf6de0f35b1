"""What a trainer's process is put together from. Tests put other parts in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.training import TrainingSpec
from workers.bulk.places import Places
from workers.training.ports import OpenLearner, Rows, VectorizerOf


class Prepare(Protocol):
    """From a spec to rows on this machine, in an empty folder. ``on_rows`` is told how many were
    read, ``still`` is asked whether to go on: if not, it raises ``Stopped``."""

    def __call__(
        self,
        places: Places,
        tenant: str,
        spec: TrainingSpec,
        folder: Path,
        vectorizer_of: VectorizerOf,
        on_rows: Callable[[int], None],
        still: Callable[[], bool],
    ) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Framework:
    """What only TensorFlow can do."""

    open_learner: OpenLearner
    vectorizer_of: VectorizerOf
    vectorizer_of_version: Callable[[Path], VectorizerOf]  # by the artifact of one to train on
    import_s: float | None = None  # what importing it took


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """What a trainer is put together from."""

    database: Database
    objects: Objects
    places: Places
    prepare: Prepare
    import_framework: Callable[[TrainingSpec], Callable[[], Framework]]
    """Begins to import it, and gives what waits for that."""
    clock: Clock
    spool: Path  # an empty folder of this process
    cache_dir: Path  # of artifacts
    retention_days: int
    stop: threading.Event  # set when this process is to end
    began_s: float | None = None  # when this process began, by the clock's monotonic seconds
