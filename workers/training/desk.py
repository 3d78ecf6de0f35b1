"""What a course says to the world around it, and is told by it. A port: tests have their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from storage.records.training_runs import TrainingProgress
from workers.training.position import Snapshot


class Wish(StrEnum):
    """What whoever trains is to do."""

    GO = "go"
    PAUSE = "pause"  # a checkpoint, then nothing until somebody goes on
    LEAVE = "leave"  # this process is to end: a checkpoint, and somebody goes on at once
    DROP = "drop"  # cancelled, or somebody else's by now: nothing more


class Desk(Protocol):
    """None of its verbs waits for storage, but ``settle``, and ``keep`` where it says so."""

    def wish(self) -> Wish: ...

    def steps(
        self, first: int, losses: Sequence[float], metrics: Mapping[str, float], expected: int
    ) -> None:
        """Each step's loss from step ``first`` on, the metrics at the last one, and how many steps
        are expected over the whole training."""
        ...

    def epoch(self, step: int, values: Mapping[str, float | None]) -> None:
        """An epoch's measures, complete."""
        ...

    def progress(self, progress: TrainingProgress) -> None: ...

    def say(self, text: str) -> None:
        """A line of the run's log."""
        ...

    @property
    def keeping(self) -> bool:
        """Whether a checkpoint is on its way."""
        ...

    def keep(self, snapshot: Snapshot) -> None:
        """Make it the checkpoint, meanwhile training goes on. While storage answers each one is
        kept, so this waits as long as two others are on their way. Where several could not be
        written it raises why: ``InvalidInput`` (``no_room``), or a fault."""
        ...

    def settle(self) -> None:
        """Every checkpoint is kept, or it is given up: storage did not answer for long, or there
        was no room for it."""
        ...
