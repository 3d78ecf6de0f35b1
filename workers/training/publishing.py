"""From a trained network to a version: exported, inspected as a pushed one is, stored by digest."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.objects import Objects, artifact_key
from storage.records.errors import Conflict
from storage.records.keras_archive import inspect_archive
from storage.records.signatures import build_signature
from storage.records.training import TrainingSpec
from storage.records.training_runs import TrainedVersion
from workers.inference.artifacts import sha256
from workers.training.ports import Prepared
from workers.training.position import Position
from workers.training.timings import Timings

_MOST_LABELS = 1_000  # that a run's data tells; the signature has all of them


def described(prepared: Prepared) -> dict[str, Any]:
    """What preparing found, as callers see it: what the data's part noted, and the sizes."""
    told: dict[str, Any] = {
        **prepared.note,
        "digest": prepared.digest,
        "split": {part.value: count for part, count in prepared.rows.items()},
        "features": [
            {"name": one.name, "dtype": one.dtype, "shape": list(one.shape)}
            for one in prepared.features
        ],
    }
    if prepared.labels:
        told["labels"] = list(prepared.labels[:_MOST_LABELS])
    if prepared.vocabulary:
        told["vocabulary"] = len(prepared.vocabulary)
    return told


def result_of(
    version: str,
    at: Position,
    evaluation: Mapping[str, Any],
    data: Mapping[str, Any],
    timings: Timings,
) -> dict[str, Any]:
    """The job's result::

    {"version": "digits:3", "evaluation": {…} (see ``evaluation``), "epochs": 10 (whole ones),
     "steps": 1410, "stopped": "epochs" | "early" | "max_s" | "max_steps",
     "best_epoch": 7 or null, "seconds": 12.5 (of training), "batch_size": 32,
     "checkpoints": 10, "data": {…} (see ``described``),
     "timings": {"began_at_ms": 1764228797000 (the process that ended the training; since 1970),
                 "import_s": 3.1 (of TensorFlow), "prepare_s": 0.2 (of the data, meanwhile),
                 "open_s": 0.1 (of the network), "first_step_at_ms": 1764228801000 (it was done),
                 "first_step_s": 4.0 (since the process began)}}    null for what never came
    """
    assert at.ended is not None
    return {
        "version": version,
        "evaluation": dict(evaluation),
        "epochs": at.epoch,
        "steps": at.step,
        "stopped": at.ended.value,
        "best_epoch": at.patience.best_epoch or None,
        "seconds": round(at.trained_s, 3),
        "batch_size": at.batch_size,
        "checkpoints": at.checkpoints,
        "data": dict(data),
        "timings": timings.to_json(),
    }


def origin_of(job_id: str, spec: TrainingSpec, result: Mapping[str, Any]) -> dict[str, Any]:
    """Where a version comes from, as it is shown with it."""
    parents = [spec.network.version] if spec.network.version else []
    return {
        "job_id": job_id,
        "spec": asdict(spec),
        "parents": parents,
        **{name: value for name, value in result.items() if name not in ("version", "timings")},
    }


def sign(archive: Path, prepared: Prepared) -> dict[str, object]:
    """The signature that pushing the archive would give; ``InvalidInput`` where it would be
    refused."""
    with archive.open("rb") as opened:
        report = inspect_archive(opened)
    signature = build_signature(
        report.inputs, prepared.options, rescales_itself=report.rescales_itself
    )
    return signature.to_json()


def store(
    objects: Objects,
    tenant: str,
    archive: Path,
    signature: Mapping[str, object],
    origin: Mapping[str, object],
) -> TrainedVersion:
    """Put the artifact; raises what storage raises, and may be called again."""
    digest = sha256(archive)
    key = artifact_key(tenant, digest)
    # The key is the digest: whatever lies there already was put by somebody with these bytes.
    with contextlib.suppress(Conflict):
        objects.put_file(key, archive)
    return TrainedVersion(digest, archive.stat().st_size, key, signature, origin)
