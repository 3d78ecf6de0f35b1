"""The model card: all that the records say of a version, as a document and as Markdown.

Pure: the same records give the same card, byte for byte. Nothing is worked out here that is not in
the records; what they do not say is listed under ``not_known``::

    {"model": "digits:3", "id": "…", "state": "ready", "error": null, "aliases": ["prod"],
     "licence": …, "notes": …, "uploader": …, "created_at": …, "loaded_at": …, "deleted_at": …,
     "artifact": {"format": "keras", "size_bytes": 412331, "sha256": "…", "trusted": false,
                  "collected_at": null},
     "signature": {"form": "image", "inputs": […], "outputs": […], "columns": […],
                   "labels": […] (the first 100), "labels_total": 10, "top_k": 1},
     "serving": {…}, "latency": [{"device", "shape", "bucket", "count", "mean_s", "p95_s"}],
     "costs": [{"device", "device_s_per_job", …}],
     "training": null | {"job", "spec", "data", "parents", "epochs", "steps", "stopped", "seconds",
                         "evaluation"},
     "evaluations": [{"job", "created_at", "task", "data", "rows", "metrics", "intervals",
                      "slices", "against"}],
     "stood_for": [{"alias", "since", "until", "then", "why", "gate", "note", "by"}],
     "trials": [{"id", "kind", "alias", "role", "other", "share", "state", "reason", …}],
     "made_from_it": ["digits:4"],
     "in_use_by": {"aliases", "queued_jobs", "running_jobs", "trials", "trainings"},
     "not_known": ["licence", …]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from storage.records.errors import InvalidInput
from storage.records.evaluations import Evaluation
from storage.records.jobs import Millis
from storage.records.latency import LatencyRow, VersionCost
from storage.records.lineage import Dependents, Part, Stay
from storage.records.models import ModelVersion
from storage.records.serving import parse_serving

MOST_LABELS = 100  # that a card tells; the version's document has all of them
_OF_TRAINING = ("spec", "data", "parents", "epochs", "steps", "stopped", "seconds", "evaluation")
_OF_AGAINST = ("job", "group", "model", "rows", "disagreed", "share", "interval")


@dataclass(frozen=True, slots=True)
class Records:
    """What a card is made of."""

    version: ModelVersion
    latency: Sequence[LatencyRow]
    costs: Sequence[VersionCost]
    evaluations: Sequence[Evaluation]  # newest first
    stays: Sequence[Stay]
    parts: Sequence[Part]
    dependents: Dependents


def card_of(records: Records) -> dict[str, Any]:
    """The card as a document."""
    version = records.version
    card: dict[str, Any] = {
        "model": f"{version.name}:{version.version}",
        "id": version.id,
        "name": version.name,
        "version": version.version,
        "state": version.state.value,
        "error": version.error,
        "aliases": list(records.dependents.aliases),
        "licence": version.licence,
        "notes": version.notes,
        "uploader": version.uploader,
        "created_at": _time(version.created_at),
        "loaded_at": _time(version.loaded_at),
        "deleted_at": _time(version.deleted_at),
        "artifact": _artifact(version),
        "signature": _signature(version.signature),
        "serving": _serving(version.signature),
        "latency": [_measured(row) for row in records.latency],
        "costs": [_measured(cost) for cost in records.costs],
        "training": _training(version.origin),
        "evaluations": [_evaluation(one) for one in records.evaluations],
        "stood_for": [_stay(one) for one in records.stays],
        "trials": [_part(one) for one in records.parts],
        "made_from_it": list(records.dependents.children),
        "in_use_by": _in_use_by(records.dependents),
    }
    return card | {"not_known": _not_known(card)}


def _artifact(version: ModelVersion) -> dict[str, Any] | None:
    if not version.digest:
        return None
    return {
        "format": version.format.value,
        "size_bytes": version.size_bytes,
        "sha256": version.digest,
        "trusted": version.trusted,
        "collected_at": _time(version.collected_at),
    }


def _signature(told: Mapping[str, Any]) -> dict[str, Any]:
    labels = told.get("labels") or ()
    return {
        "form": told.get("form"),
        "inputs": list(told.get("inputs") or ()),
        "outputs": list(told.get("outputs") or ()),
        "columns": list(told.get("columns") or ()),
        "labels": list(labels[:MOST_LABELS]),
        "labels_total": len(labels),
        "top_k": told.get("top_k"),
    }


def _serving(signature: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return asdict(parse_serving(signature.get("serving"), "serving"))
    except InvalidInput:  # written by a later version of Forebay
        return {}


def _measured(row: LatencyRow | VersionCost) -> dict[str, Any]:
    told = asdict(row)
    del told["version_id"]
    return told | {"updated_at": _time(row.updated_at)}


def _training(origin: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if origin is None:
        return None
    return {"job": origin.get("job_id")} | {name: origin.get(name) for name in _OF_TRAINING}


def _evaluation(one: Evaluation) -> dict[str, Any]:
    told = one.document
    against = told.get("against")
    return {
        "job": one.job_id,
        "created_at": _time(one.created_at),
        "task": told.get("task"),
        "data": told.get("data") or {"digest": one.data_digest},
        "rows": one.rows,
        "metrics": dict(one.metrics),
        "intervals": dict(told.get("intervals") or {}),
        "slices": list(told.get("slices") or ()),
        "against": None if against is None else {name: against.get(name) for name in _OF_AGAINST},
    }


def _stay(one: Stay) -> dict[str, Any]:
    return {
        "alias": one.alias,
        "since": _time(one.since),
        "until": _time(one.until),
        "then": one.then,
        "why": one.why,
        "gate": one.gate,
        "note": one.note,
        "by": one.moved_by,
    }


def _part(one: Part) -> dict[str, Any]:
    return {
        "id": one.trial_id,
        "kind": one.kind.value,
        "alias": one.alias,
        "role": "candidate" if one.is_candidate else "base",
        "other": one.other,
        "share": one.share,
        "state": one.state.value,
        "reason": one.reason,
        "created_at": _time(one.created_at),
        "ended_at": _time(one.ended_at),
    }


def _in_use_by(found: Dependents) -> dict[str, Any]:
    return {
        "aliases": list(found.aliases),
        "queued_jobs": found.queued,
        "running_jobs": found.running,
        "trials": list(found.trials),
        "trainings": list(found.trainings),
    }


def _not_known(card: Mapping[str, Any]) -> list[str]:
    """What a reader would look for and no record says."""
    asked = {
        "licence": card["licence"],
        "notes": card["notes"],
        "uploader": card["uploader"],
        "artifact": card["artifact"],
        "outputs": card["signature"]["outputs"],
        "latency": card["latency"],
        "costs": card["costs"],
        "how it was trained": card["training"],
        "evaluations": card["evaluations"],
    }
    return [name for name, said in asked.items() if not said]


def _time(at: Millis | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, whatever they are."""
    if at is None:
        return None
    return f"{datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z"
