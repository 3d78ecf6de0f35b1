"""Short words for training runs in tests of the database."""

from __future__ import annotations

from collections.abc import Sequence

from storage.database import Database
from storage.records.jobs import BULK_PRIORITY, JobKind
from storage.records.packs import NewPack, PackKind
from storage.records.training_runs import (
    Checkpoint,
    Measures,
    Scope,
    TrainedVersion,
    TrainingControl,
    TrainingProgress,
)
from tests.support.bulk import Owned
from tests.support.database import ALICE, claim, new_id, new_job, open_session


def submit_training(
    database: Database, tenant: str = ALICE, name: str = "digits", **fields: object
) -> str:
    """A training job with its run and the version that it is to fill in; its id."""
    with database.begin() as tx:
        version = tx.models.reserve(tenant, new_id(), name)
        job = new_job(
            **{
                "kind": JobKind.TRAINING,
                "model_name": name,
                "version_id": version.id,
                "version": version.version,
                "priority": BULK_PRIORITY,
                "max_attempts": 1,
                "payload": b'{"training":{}}',
            }
            | fields
        )
        tx.jobs.submit(tenant, [job])
        tx.training.create(tenant, [job])
    return job.id


def own_training(
    database: Database, job_id: str | None = None, session_id: str | None = None
) -> Owned:
    """Claim a training job, or one that is submitted for it."""
    job_id = job_id or submit_training(database)
    session_id = session_id or open_session(database, lease_ttl_ms=10**9)
    (job,) = claim(database, session_id, [job_id])
    return Owned(job_id, session_id, job.epoch)


def steps(first: int, last: int) -> Measures:
    """Of the steps ``first`` to ``last``."""
    numbers = list(range(first, last + 1))
    values = {"step": numbers, "loss": [1 / one for one in numbers]}
    return Measures(Scope.STEPS, last, values)


def epoch(number: int, step: int) -> Measures:
    return Measures(Scope.EPOCH, step, {"epoch": number, "loss": 0.5, "val_loss": None})


def note(
    database: Database,
    owned: Owned,
    measures: Sequence[Measures] = (),
    lines: Sequence[str] = (),
    **progress: object,
) -> TrainingControl:
    told = TrainingProgress(**progress)  # type: ignore[arg-type]
    with database.begin() as tx:
        return tx.training.note(owned.job_id, owned.session_id, owned.epoch, told, measures, lines)


def put_checkpoint(database: Database, step: int, tenant: str = ALICE) -> Checkpoint:
    """One whose object is put and whose pack is still being written."""
    pack_id = new_id()
    key = f"training/{pack_id}"
    with database.begin() as tx:
        tx.packs.open(NewPack(pack_id, tenant, PackKind.RESULT, key))
    return Checkpoint(pack_id, key, "c" * 64, size_bytes=77, epoch=step // 10, step=step)


def keep(database: Database, owned: Owned, checkpoint: Checkpoint) -> bool:
    with database.begin() as tx:
        return tx.training.keep_checkpoint(owned.job_id, owned.session_id, owned.epoch, checkpoint)


MADE = TrainedVersion(
    "a" * 64, 1_234, "models/a", {"inputs": []}, {"spec": {"epochs": 3}, "job": "j"}
)


def finish_training(database: Database, owned: Owned, made: TrainedVersion = MADE) -> bool:
    with database.begin() as tx:
        return tx.training.finish(
            owned.job_id, owned.session_id, owned.epoch, {"accuracy": 0.5}, made
        )
