"""What looks after trainings is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from workers.patience import Patience
from workers.training.places import Places


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take."""

    tick_s: float = 0.5  # how often an owner asks what its job is to do
    let_go_after_s: float = 3.0  # ids that found no place go back to the backlog
    stop_grace_s: float = 20.0  # for a last checkpoint
    first_pause_s: float = 0.5  # after a death; doubled by each
    ready_within_s: float = 120.0  # a trained version that is not is left to itself


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKit(Patience):
    """Shared by the owners of a process."""

    database: Database
    objects: Objects
    clock: Clock
    places: Places
    trainer: tuple[str, ...]  # starts a trainer; which job it is for is added
    environ: Mapping[str, str]  # of trainers
    retention_days: int
    timing: Timing
