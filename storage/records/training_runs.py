"""Training runs: how far a training is, what it has measured, and where it could go on.

A *run* is a training job's own record. Whoever runs the job (session and epoch of the job) writes
it; a *checkpoint* is an object in the store and names a step, and everything measured behind that
step is forgotten when somebody goes on from there.

::

    claim ─▶ preparing ─▶ training ◀─▶ paused       every write names (job, session, epoch)
                             │ checkpoint … checkpoint
                             ▼
                         evaluating ─▶ result + version filled in ─▶ the job ends as any job does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storage.records.jobs import JobError, Millis


class Phase(StrEnum):
    """What its process is doing."""

    WAITING = "waiting"  # nobody has begun yet
    PREPARING = "preparing"  # reads the data and learns scaling and vocabulary
    TRAINING = "training"
    EVALUATING = "evaluating"
    DONE = "done"  # the version is filled in


class Scope(StrEnum):
    """What a row of measures is about."""

    STEPS = "steps"  # several steps: their numbers, and a list for each measure
    EPOCH = "epoch"  # one epoch: one number for each measure


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured up to ``step`` (steps count from 1 over the whole training).

    Of ``STEPS``: ``values`` are lists of equal length under ``step``, ``loss`` and the metrics'
    names; a metric that was not looked at in a step is None there. Of an ``EPOCH``: numbers under
    ``epoch`` (from 1), ``seconds``, ``rows``, ``learning_rate``, ``loss``, ``val_loss``, ….
    No value is NaN or infinite: such are None.
    """

    scope: Scope
    step: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training could go on. Its object holds the rest (see ``workers.training``)."""

    pack_id: str  # its row among the packs: so the collector knows of it
    key: str  # in the service's own store
    digest: str  # SHA-256 hex of the object
    size_bytes: int
    epoch: int  # whole epochs behind it
    step: int  # steps behind it, over the whole training
    made_at: Millis = 0


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is."""

    phase: Phase = Phase.WAITING
    epoch: int = 0  # whole epochs behind it
    epochs: int = 0
    step: int = 0
    steps: int = 0  # if it goes to its end; 0 while unknown
    rows_read: int = 0  # while preparing
    rows_per_s: float = 0.0
    batch_size: int = 0  # may have been halved
    trained_s: float = 0.0  # by all who worked at it
    latest: Mapping[str, float] = field(default_factory=dict)  # of the last epoch, or the last step

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


class TrainingControl(StrEnum):
    """What whoever runs it is to do."""

    GO = "go"
    PAUSE = "pause"  # a checkpoint, then nothing until it goes on
    STOP = "stop"  # cancelled: drop everything
    LOST = "lost"  # it is somebody else's by now: write nothing


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a training's log; ``number`` counts from 1 over the whole training."""

    number: int
    at: Millis
    text: str


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run as a reader sees it."""

    job_id: str
    tenant: str
    version_id: str
    created_at: Millis
    paused_at: Millis | None
    progress: TrainingProgress
    checkpoint: Checkpoint | None
    deaths: int  # of its process since the checkpoint
    data: Mapping[str, Any] | None  # what preparing found: files with digests, rows, labels
    result: Mapping[str, Any] | None  # the evaluation, when it is over
    error: JobError | None  # why it is to fail


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """What a training fills its version in with."""

    digest: str  # SHA-256 hex of the artifact
    size_bytes: int
    object_key: str
    signature: Mapping[str, object]
    origin: Mapping[str, object]  # spec, data, metrics, parents, job: shown with the version


def curves_of(rows: Sequence[Measures]) -> dict[str, Any]:
    """All measures put together, as callers see them: ``steps`` by name, a list of ``epochs``."""
    steps: dict[str, list[Any]] = {}
    count = 0
    for row in (one for one in rows if one.scope is Scope.STEPS):
        length = len(row.values["step"])
        for name in row.values:
            steps.setdefault(name, [None] * count)
        for name, values in steps.items():
            values.extend(row.values.get(name, [None] * length))
        count += length
    epochs = [dict(one.values) for one in rows if one.scope is Scope.EPOCH]
    return {"steps": steps, "epochs": epochs}
