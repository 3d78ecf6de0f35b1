"""A trainer's part in a training, played by hand: through the same verbs, an epoch at a time.

No TensorFlow, no data: what is measured is made up, and falls as losses do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from storage.objects.packs import pack_key, retention_day
from storage.records.jobs import JobError
from storage.records.packs import NewPack, PackKind
from storage.records.training_runs import (
    Checkpoint,
    Measures,
    Phase,
    Scope,
    TrainedVersion,
    TrainingControl,
    TrainingProgress,
)
from tests.support.api import ApiHouse, new_id

STEPS = 4  # of an epoch


@dataclass
class TrainingHand:
    """Owner and process of one training of a tenant's house."""

    house: ApiHouse
    job_id: str
    progress: TrainingProgress = field(default_factory=TrainingProgress)

    def start(self, epochs: int = 3) -> TrainingHand:
        """Claim the job, begin its run, and read the data."""
        self.session, (self.claim,) = self.house.claim([self.job_id])
        with self.house.database.begin() as tx:
            assert tx.training.begin(self.job_id, self.session, self.claim.epoch) is not None
        self.note(Phase.PREPARING, lines=["reading s3://in/a.csv"], rows_read=100)
        self.note(Phase.TRAINING, epochs=epochs, steps=epochs * STEPS, batch_size=32)
        return self

    def note(
        self,
        phase: Phase = Phase.TRAINING,
        measures: Sequence[Measures] = (),
        lines: Sequence[str] = (),
        **changes: Any,
    ) -> TrainingControl:
        """Tell how far it is; what it is to do."""
        self.progress = replace(self.progress, phase=phase, **changes)
        owned = (self.job_id, self.session, self.claim.epoch)
        with self.house.database.begin() as tx:
            return tx.training.note(*owned, self.progress, measures, lines)

    def epoch(self, checkpoint: bool = False) -> TrainingControl:
        """Train one more epoch."""
        before, number = self.progress.step, self.progress.epoch + 1
        steps = list(range(before + 1, before + STEPS + 1))
        loss = [round(1 / step, 6) for step in steps]
        told = {"step": steps, "loss": loss, "accuracy": [None] * (STEPS - 1) + [0.5]}
        whole = {
            "epoch": number,
            "seconds": 0.5,
            "rows": 100,
            "learning_rate": 0.001,
            "loss": loss[-1],
            "accuracy": 0.5 + number / 10,
            "val_loss": loss[-1] + 0.1,
            "val_accuracy": 0.4 + number / 10,
        }
        at = steps[-1]
        latest = {name: whole[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        control = self.note(
            Phase.TRAINING,
            [Measures(Scope.STEPS, at, told), Measures(Scope.EPOCH, at, whole)],
            [f"epoch {number}: loss {loss[-1]}"],
            epoch=number,
            step=at,
            rows_per_s=200.0,
            trained_s=0.5 * number,
            latest=latest,
        )
        if checkpoint:
            self.checkpoint()
        return control

    def checkpoint(self) -> None:
        """Keep where it is."""
        data, pack_id = b"weights", new_id()
        with self.house.database.begin() as tx:
            day = retention_day(tx.now(), 30)
            key = pack_key(PackKind.RESULT, self.house.tenant, day, pack_id)
            tx.packs.open(NewPack(pack_id, self.house.tenant, PackKind.RESULT, key))
        self.house.objects.put(key, data)
        kept = Checkpoint(
            pack_id,
            key,
            hashlib.sha256(data).hexdigest(),
            len(data),
            self.progress.epoch,
            self.progress.step,
        )
        with self.house.database.begin() as tx:
            owned = (self.job_id, self.session, self.claim.epoch)
            assert tx.training.keep_checkpoint(*owned, kept)

    def finish(self, result: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Fill the version in and end the job: its result."""
        found = result or self.result()
        self.note(Phase.EVALUATING)
        made = TrainedVersion("d" * 64, 7, "models/made", {}, self.origin(found))
        with self.house.database.begin() as tx:
            owned = (self.job_id, self.session, self.claim.epoch)
            assert tx.training.finish(*owned, found, made)
        self.house.finish(self.session, [self.claim], lambda _: found)
        return found

    def result(self) -> Mapping[str, Any]:
        """What a trainer makes of its evaluation."""
        job = self.house.http.get(f"/v1/jobs/{self.job_id}").json()
        return {
            "version": job["model"],
            "evaluation": {
                "on": "test",
                "rows": 8,
                "task": "classes",
                "metrics": {"loss": 0.1, "accuracy": 0.875},
                "accuracy": 0.875,
                "auc": 0.9,
                "macro": {"precision": 0.9, "recall": 0.875, "f1": 0.873},
                "confusion": [[3, 1], [0, 4]],
            },
            "epochs": self.progress.epoch,
            "steps": self.progress.step,
            "stopped": "epochs",
            "best_epoch": None,
            "seconds": self.progress.trained_s,
            "batch_size": 32,
            "data": {"files": {"s3://in/a.csv": "an etag"}},
        }

    def origin(self, result: Mapping[str, Any]) -> Mapping[str, object]:
        """What the version is shown with."""
        told = {name: value for name, value in result.items() if name != "version"}
        return {"job_id": self.job_id, "spec": {"epochs": 3}, "parents": ["digits:0"], **told}

    def fail(self, code: str = "loss_not_a_number", message: str = "at step 3") -> None:
        """End it with an error."""
        error = JobError(code, message)
        with self.house.database.begin() as tx:
            assert tx.training.fail(self.job_id, self.session, self.claim.epoch, error)
        self.house.finish(self.session, [self.claim], lambda _: error)
