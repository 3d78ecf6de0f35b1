"""One run in SQL, as whoever holds it reads and writes it. Every write is refused once it is
somebody else's; all raise what the database raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.database import Database
from storage.records.errors import InvalidInput
from storage.records.jobs import JobError
from storage.records.models import ModelVersion
from storage.records.training import TrainingSpec, is_training_payload, spec_of
from storage.records.training_runs import (
    Checkpoint,
    Measures,
    TrainedVersion,
    TrainingControl,
    TrainingProgress,
    TrainingRun,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is for."""

    spec: TrainingSpec
    version: str  # that it fills in, as it is called
    parent: ModelVersion | None  # the one to train on


@dataclass(frozen=True, slots=True)
class RunStore:
    """``session_id`` and ``epoch`` of the job are what lets it write."""

    database: Database
    job_id: str
    session_id: str
    epoch: int

    @property
    def _who(self) -> tuple[str, str, int]:
        return self.job_id, self.session_id, self.epoch

    def begin(self) -> TrainingRun | None:
        """Go on from the checkpoint; None when it is not ours."""
        with self.database.begin() as tx:
            return tx.training.begin(*self._who)

    def asked(self, run: TrainingRun) -> Asked:
        """The spec, and the versions it has to do with."""
        with self.database.read() as tx:
            payload = tx.jobs.payload(run.tenant, run.job_id)
            version = tx.models.by_id(run.version_id)
            if not isinstance(payload, bytes) or not is_training_payload(payload) or not version:
                raise InvalidInput("the training's spec is gone", code="internal_error")
            spec = spec_of(payload)
            wanted = spec.network.version_id
            parent = tx.models.by_id(wanted) if wanted else None
        if wanted and parent is None:
            raise InvalidInput(
                f"the version to train on, {spec.network.version}, is gone",
                code="version_not_found",
                field="spec.network.version",
            )
        if parent is not None and parent.collected_at is not None:
            raise InvalidInput(
                f"the version to train on, {spec.network.version}, was deleted",
                code="version_deleted",
                field="spec.network.version",
            )
        return Asked(spec, f"{version.name}:{version.version}", parent)

    def note(
        self, progress: TrainingProgress, rows: Sequence[Measures], lines: Sequence[str]
    ) -> TrainingControl:
        """Measures and lines, for good: who measured them has them no more, and trains on through
        a crash of the database, which may take back only how far it said it was."""
        with self.database.begin(lasting=bool(rows or lines)) as tx:
            return tx.training.note(*self._who, progress, rows, lines)

    def control(self) -> TrainingControl:
        """What is to be done; a look only."""
        with self.database.read() as tx:
            return tx.training.control(*self._who)

    def describe(self, data: Mapping[str, Any]) -> bool:
        """What preparing found."""
        with self.database.begin() as tx:
            return tx.training.describe(*self._who, data)

    def keep(self, checkpoint: Checkpoint) -> bool:
        """From now on it goes on from there; ``Conflict`` when its pack was opened too long ago."""
        with self.database.begin() as tx:
            return tx.training.keep_checkpoint(*self._who, checkpoint)

    def fail(self, error: JobError) -> bool:
        """It is to fail."""
        with self.database.begin() as tx:
            return tx.training.fail(*self._who, error)

    def finish(self, result: Mapping[str, Any], version: TrainedVersion) -> bool:
        """It is done."""
        with self.database.begin() as tx:
            return tx.training.finish(*self._who, result, version)
