"""A course's desk in life: the journal, the checkpoints, and what this process was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.records.errors import DatabaseUnavailable
from storage.records.training_runs import TrainingControl, TrainingProgress
from workers.training.checkpoints import CheckpointWriter
from workers.training.desk import Wish
from workers.training.exits import Leave, TrainerExit
from workers.training.journal import Journal
from workers.training.position import Snapshot
from workers.training.retrying import GaveUp, Retrying

_FLUSH_S = 5.0


def wish_of(control: TrainingControl, *, told_to_end: bool) -> Wish:
    """What SQL says goes before what a signal says."""
    match control:
        case TrainingControl.STOP | TrainingControl.LOST:
            return Wish.DROP
        case TrainingControl.PAUSE:
            return Wish.PAUSE
        case TrainingControl.GO:
            return Wish.LEAVE if told_to_end else Wish.GO


def leave_if(wish: Wish) -> None:
    """Where nothing is to be kept: ``Leave`` unless it goes on."""
    if wish is not Wish.GO:
        raise Leave(TrainerExit.PAUSED if wish is Wish.PAUSE else TrainerExit.STOPPED)


def flush_once(journal: Journal) -> None:
    """Everything that was told is written; raises as the database does where it does not answer,
    ``GaveUp``, and the journal's own fault."""
    if not journal.flush(_FLUSH_S):
        if not journal.is_ours():
            raise GaveUp
        if journal.fault is not None:
            raise journal.fault
        raise DatabaseUnavailable("what was measured cannot be written now")


def flush(journal: Journal, retrying: Retrying) -> None:
    """Everything that was told is written; ``GaveUp``, and the journal's own fault: no waiting
    helps against that. Of a closed journal nothing is asked."""
    while not journal.closed and not journal.flush(_FLUSH_S):
        if retrying.is_over() or not journal.is_ours():
            raise GaveUp
        if journal.fault is not None:
            raise journal.fault


@dataclass(frozen=True, slots=True)
class RunDesk:
    """One run's."""

    journal: Journal
    writer: CheckpointWriter
    retrying: Retrying

    def wish(self) -> Wish:
        return wish_of(self.journal.control, told_to_end=self.retrying.stop.is_set())

    def steps(
        self, first: int, losses: Sequence[float], metrics: Mapping[str, float], expected: int
    ) -> None:
        self.journal.steps(first, losses, metrics, expected)

    def epoch(self, step: int, values: Mapping[str, float | None]) -> None:
        self.journal.epoch(step, values)

    def progress(self, progress: TrainingProgress) -> None:
        self.journal.progress(progress)

    def say(self, text: str) -> None:
        self.journal.say(text)

    @property
    def keeping(self) -> bool:
        return self.writer.busy

    def keep(self, snapshot: Snapshot) -> None:
        self.journal.cut()
        self.writer.keep(snapshot)

    def settle(self) -> None:
        self.writer.settle()
