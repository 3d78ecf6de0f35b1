"""What the service answers: JSON documents and, beside them, their schemas.

A test validates real answers against the schemas, so neither can drift alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache

from producers.shapes import Schema
from storage.records.aliases import AliasMove, MoveReason
from storage.records.errors import InvalidInput
from storage.records.jobs import (
    BULK_KINDS,
    TERMINAL,
    GroupCounts,
    Job,
    JobError,
    JobKind,
    JobState,
    Millis,
)
from storage.records.latency import LatencyRow, VersionCost
from storage.records.models import Model, ModelVersion, VersionState
from storage.records.refs import file_uri
from storage.records.serving import parse_serving
from storage.records.tenants import StoredFile
from storage.records.training_runs import Phase
from storage.records.trials import TrialKind, TrialState
from storage.records.webhooks import (
    ANY,
    EVENT_TYPES,
    Attempt,
    AttemptResult,
    Endpoint,
    Secret,
    message_id_of,
)


def rfc3339(at: Millis | None) -> str | None:
    """UTC with milliseconds, or null."""
    if at is None:
        return None
    return f"{_second(at // 1000)}.{at % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}"


def error_document(error: JobError | None) -> dict[str, object] | None:
    """A job's error."""
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "attempt": error.attempt}


def job_document(
    job: Job,
    *,
    estimated_start_at: Millis | None = None,
    progress: Mapping[str, object] | None = None,
    training: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A job as callers see it. When it may start is only estimated as it is submitted; how far a
    bulk job, an evaluation or a training is is told of one job, and not in lists."""
    here = f"/v1/jobs/{job.id}"
    verbs: tuple[str, ...] = ("result", "events", "cancel", "retry")
    if job.kind in BULK_KINDS:
        verbs += ("manifest", "parts", "errors", "pause", "resume")
    elif job.kind is JobKind.TRAINING:
        verbs += ("curves", "curves.png", "log", "pause", "resume")
    result = None
    if job.result is not None:
        result = {"href": f"{here}/result", "size_bytes": job.result.length_bytes}
    return {
        "id": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "model": f"{job.model_name}:{job.version}",
        "group": job.group_id,
        "custom_id": job.custom_id,
        "priority": job.priority,
        "metadata": dict(job.metadata),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "progress": progress or {"done": int(job.state is JobState.SUCCEEDED), "total": 1},
        "training": training,
        "created_at": rfc3339(job.created_at),
        "expires_at": rfc3339(job.expires_at),
        "estimated_start_at": rfc3339(estimated_start_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "cancel_requested_at": rfc3339(job.cancel_requested_at),
        "error": error_document(job.error),
        "result": result,
        "retry_of": job.retry_of,
        "links": {"self": here} | {verb: f"{here}/{verb}" for verb in verbs},
    }


def group_document(counts: GroupCounts) -> dict[str, object]:
    """A group as callers see it."""
    here = f"/v1/groups/{counts.group_id}"
    return {
        "id": counts.group_id,
        "total": counts.total,
        "counts": {state.value: counts.by_state.get(state, 0) for state in JobState},
        "done": counts.done,
        "created_at": rfc3339(counts.created_at),
        "links": {"self": here, "results": f"{here}/results", "cancel": f"{here}/cancel"},
    }


def version_document(version: ModelVersion, *, brief: bool = False) -> dict[str, object]:
    """A model version; ``brief`` where many are told: of a training's only its figures."""
    origin = version.origin
    if origin is not None and brief:
        origin = _brief(origin)
    return {
        "id": version.id,
        "name": version.name,
        "version": version.version,
        "state": version.state.value,
        "format": version.format.value,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "signature": dict(version.signature),
        "trusted": version.trusted,
        "error": version.error,
        "created_at": rfc3339(version.created_at),
        "loaded_at": rfc3339(version.loaded_at),
        "deleted_at": rfc3339(version.deleted_at),
        "uploader": version.uploader,
        "licence": version.licence,
        "notes": version.notes,
        "origin": origin,
    }


def _brief(origin: Mapping[str, object]) -> dict[str, object]:
    """Which job made it from what, and its figures; neither spec nor tables."""
    told = {name: origin[name] for name in ("job_id", "parents") if name in origin}
    evaluation = origin.get("evaluation")
    if isinstance(evaluation, Mapping):
        figures = {k: v for k, v in evaluation.items() if isinstance(v, str | int | float)}
        told["evaluation"] = figures | {"metrics": evaluation.get("metrics", {})}
    return told


def measured_document(
    version: ModelVersion, latency: Sequence[LatencyRow], costs: Sequence[VersionCost]
) -> dict[str, object]:
    """A version with its knobs, all of them, and what workers measured of it."""
    try:
        serving = asdict(parse_serving(version.signature.get("serving"), "serving"))
    except InvalidInput:  # written by a later version of Forebay
        serving = {}
    return version_document(version) | {
        "serving": serving,
        "latency": [_measured(row) for row in latency],
        "costs": [_measured(cost) for cost in costs],
    }


def _measured(row: LatencyRow | VersionCost) -> dict[str, object]:
    document = asdict(row)
    del document["version_id"]
    return document | {"updated_at": rfc3339(row.updated_at)}


def model_document(model: Model) -> dict[str, object]:
    """A model's line in the list."""
    return {
        "name": model.name,
        "latest_version": model.latest_version,
        "aliases": dict(model.aliases),
        "created_at": rfc3339(model.created_at),
    }


def alias_document(move: AliasMove) -> dict[str, object]:
    """An alias, where its last move led."""
    return {
        "name": move.name,
        "alias": move.alias,
        "version": move.to_version,
        "generation": move.generation,
        "updated_at": rfc3339(move.moved_at),
    }


def file_document(file: StoredFile) -> dict[str, object]:
    """An uploaded file."""
    return {
        "id": file.id,
        "filename": file.filename,
        "content_type": file.content_type,
        "size_bytes": file.size_bytes,
        "digest": file.digest,
        "uri": file_uri(file.id),
        "created_at": rfc3339(file.created_at),
    }


def endpoint_document(endpoint: Endpoint, *, own_secret: bool) -> dict[str, object]:
    """An endpoint of webhooks, without its secret."""
    here = f"/v1/webhooks/{endpoint.id}"
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.types),
        "description": endpoint.description,
        "listed": endpoint.listed,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failures": endpoint.failures,
        "paused_until": rfc3339(endpoint.paused_until or None),
        "own_secret": own_secret,
        "created_at": rfc3339(endpoint.created_at),
        "links": {"self": here, "attempts": f"{here}/attempts"},
    }


def secret_document(secrets: Sequence[Secret]) -> dict[str, object]:
    """The newest secret, and until when the one before is good as well."""
    newest, *older = secrets
    return {
        "secret": newest.secret,
        "created_at": rfc3339(newest.created_at),
        "previous_until": rfc3339(older[0].expires_at if older else None),
    }


def attempt_document(attempt: Attempt) -> dict[str, object]:
    """One attempt to deliver an event."""
    return {
        "id": attempt.id,
        "event": message_id_of(attempt.event_id),
        "number": attempt.number,
        "result": attempt.result.value,
        "status": attempt.status,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
        "started_at": rfc3339(attempt.started_at),
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    """All of the properties, always."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


_ID: Schema = {"type": "string", "format": "uuid"}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time"}
_ESTIMATE: Schema = {
    **_TIME,
    "description": (
        "When the job (of a group: its first) will start, as things stand when it is accepted: by"
        " what waits before it, what versions cost and who is alive to work. Null while no worker"
        " is, and in later answers."
    ),
}
_STATE: Schema = {"type": "string", "enum": [state.value for state in JobState]}
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_JOB_ERROR = _object({"code": _TEXT, "message": _TEXT, "attempt": _COUNT})
_VERSION: Mapping[str, Schema] = {
    "id": _ID,
    "name": _TEXT,
    "version": _COUNT,
    "state": {"type": "string", "enum": [state.value for state in VersionState]},
    "format": _TEXT,
    "digest": _TEXT,
    "size_bytes": _COUNT,
    "signature": {"type": "object"},
    "trusted": {"type": "boolean"},
    "error": _or_null(_TEXT),
    "created_at": _TIME,
    "loaded_at": _or_null(_TIME),
    "deleted_at": _or_null(_TIME),
    "uploader": {
        **_or_null(_TEXT),
        "description": (
            "The start of the key that pushed it; `loopback` without one, `operator` past the API,"
            " `training` of a version that a training made. Null of versions from before it was"
            " kept."
        ),
    },
    "licence": _or_null(_TEXT),
    "notes": _or_null(_TEXT),
    "origin": {
        **_or_null({"type": "object"}),
        "description": (
            "Of a version that a training made: its spec, the data's digests, what was measured,"
            " the version it began with, the job. In lists the figures alone."
        ),
    },
}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_LATENCY = _object(
    {
        "device": {**_TEXT, "description": "A kind of device, not one of them."},
        "shape": {**_TEXT, "description": "Shape bucket; empty where there is only one."},
        "bucket": {**_COUNT, "description": "Rows of a pass, padding included."},
        "count": {**_COUNT, "description": "Passes measured."},
        "mean_s": _SECONDS,
        "p95_s": _SECONDS,
        "updated_at": _TIME,
    }
)
_COST = _object(
    {
        "device": _TEXT,
        "device_s_per_job": _SECONDS,
        "path_s_per_job": {**_SECONDS, "description": "Of a worker that always has work."},
        "load_s": _SECONDS,
        "memory_bytes": _COUNT,
        "safe_rows": {
            **_or_null(_COUNT),
            "description": "The largest pass known to fit, after memory ran out.",
        },
        "updated_at": _TIME,
    }
)
_WEBHOOK: Mapping[str, Schema] = {
    "id": _ID,
    "url": _TEXT,
    "events": {"type": "array", "items": {"type": "string", "enum": [*EVENT_TYPES, ANY]}},
    "description": _or_null(_TEXT),
    "listed": {
        "type": "boolean",
        "description": "False: jobs or groups brought it along, and it is told of those alone.",
    },
    "enabled": {"type": "boolean"},
    "disabled_reason": {
        **_or_null(_TEXT),
        "description": "`gone`: it answered 410; `by_hand`: somebody switched it off.",
    },
    "failures": {**_COUNT, "description": "In a row, over all deliveries."},
    "paused_until": {
        **_or_null(_TIME),
        "description": "It failed too often in a row and is left alone until then.",
    },
    "own_secret": {
        "type": "boolean",
        "description": "Whether its deliveries are signed with a secret of its own.",
    },
    "created_at": _TIME,
    "links": _STRINGS,
}
_ATTEMPT = _object(
    {
        "id": _ID,
        "event": {**_TEXT, "description": "The `webhook-id` that it was sent with."},
        "number": {**_COUNT, "description": "1 is the first."},
        "result": {"type": "string", "enum": [result.value for result in AttemptResult]},
        "status": _or_null({"type": "integer"}),
        "error": _or_null(_TEXT),
        "duration_ms": _COUNT,
        "started_at": _TIME,
    }
)
_SECRET: Schema = {**_TEXT, "description": "`whsec_` and base64: what deliveries are signed with."}
_ALIASES: Schema = {"type": "object", "additionalProperties": {"type": "integer"}}
_MODEL = {"name": _TEXT, "latest_version": _COUNT, "aliases": _ALIASES, "created_at": _TIME}

_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_MEASURED: Schema = {"type": "object", "additionalProperties": _NUMBER_OR_NULL}
_TRAINING: Schema = {"$ref": "#/components/schemas/Training"}
TRAINING_STATES = ("waiting", "preparing", "training", "paused", "evaluating", "done", "ended")
_BULK_PROGRESS: Schema = {"$ref": "#/components/schemas/BulkProgress"}
BULK_STATES = ("waiting", "planning", "running", "paused", "finishing", "ended")
_COMPARISON = _object(
    {
        "comparison": _TEXT,
        "left": {"type": "number"},
        "right": {"type": "number"},
        "holds": {"type": "boolean"},
    }
)
_MOVE: dict[str, Schema] = {
    "name": _TEXT,
    "alias": _TEXT,
    "generation": {**_COUNT, "description": "Of the alias after this move."},
    "from_version": _or_null(_COUNT),
    "version": _COUNT,
    "why": {"type": "string", "enum": [reason.value for reason in MoveReason]},
    "undoes": _or_null({**_COUNT, "description": "The generation that a rollback took back."}),
    "if": _or_null(_TEXT),
    "seen": _or_null({"type": "object", "description": "What the gate was decided by."}),
    "note": _or_null(_TEXT),
    "moved_by": _or_null(_TEXT),
    "moved_at": _TIME,
}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457. Match on `code`, which is stable; `detail` is for people.",
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "code": _TEXT,
            "field": _TEXT,
            "errors": {"type": "array", "items": {"type": "object"}},
            "incident": _TEXT,
        },
        "required": ["type", "title", "status", "detail", "code"],
    },
    "Job": _object(
        {
            "id": _ID,
            "kind": _TEXT,
            "state": _STATE,
            "model": _TEXT,
            "group": _or_null(_ID),
            "custom_id": _or_null(_TEXT),
            "priority": _COUNT,
            "metadata": _STRINGS,
            "attempts": _COUNT,
            "max_attempts": _COUNT,
            "progress": {"anyOf": [_object({"done": _COUNT, "total": _COUNT}), _BULK_PROGRESS]},
            "training": _or_null(_TRAINING),
            "created_at": _TIME,
            "expires_at": _TIME,
            "started_at": _or_null(_TIME),
            "finished_at": _or_null(_TIME),
            "cancel_requested_at": _or_null(_TIME),
            "error": _or_null(_JOB_ERROR),
            "result": _or_null(_object({"href": _TEXT, "size_bytes": _COUNT})),
            "retry_of": _or_null(_ID),
            "estimated_start_at": _or_null(_ESTIMATE),
            "links": _STRINGS,
        }
    ),
    "BulkProgress": {
        **_object(
            {
                "state": {"type": "string", "enum": list(BULK_STATES)},
                "rows_done": _COUNT,
                "rows_failed": {**_COUNT, "description": "That have an error in place of one."},
                "rows_skipped": {**_COUNT, "description": "That `where` left out."},
                "rows_total": _or_null(_COUNT),
                "share": {"type": "number", "minimum": 0, "maximum": 1},
                "rows_per_s": _SECONDS,
                "estimated_end_at": _or_null(_TIME),
                "device_s": {**_SECONDS, "description": "What it has cost so far."},
                "shards": _object({"total": _COUNT, "done": _COUNT, "running": _COUNT}),
            }
        ),
        "description": "Of a bulk job or evaluation, where one is asked for; lists have it short.",
    },
    "Training": {
        **_object(
            {
                "state": {"type": "string", "enum": list(TRAINING_STATES)},
                "phase": {"type": "string", "enum": [phase.value for phase in Phase]},
                "paused": {"type": "boolean"},
                "epoch": {**_COUNT, "description": "Whole epochs behind it."},
                "epochs": _COUNT,
                "step": {**_COUNT, "description": "Steps behind it, over the whole training."},
                "steps": {**_COUNT, "description": "If it goes to its end; 0 while unknown."},
                "share": {"type": "number", "minimum": 0, "maximum": 1},
                "latest": {**_MEASURED, "description": "Of the last epoch, or the last step."},
                "rows_read": {**_COUNT, "description": "While it prepares."},
                "rows_per_s": _SECONDS,
                "batch_size": {**_COUNT, "description": "May have been halved."},
                "trained_s": {**_SECONDS, "description": "By all who worked at it."},
                "estimated_end_at": _or_null(_TIME),
                "checkpoint": {
                    **_or_null(
                        _object(
                            {
                                "epoch": _COUNT,
                                "step": _COUNT,
                                "size_bytes": _COUNT,
                                "made_at": _TIME,
                            }
                        )
                    ),
                    "description": "Where it would go on.",
                },
            }
        ),
        "description": "Of a training, where one job is asked for; null in lists.",
    },
    "TrainingCurves": _object(
        {
            "job": _ID,
            "model": _TEXT,
            "state": {"type": "string", "enum": list(TRAINING_STATES)},
            "epoch": _COUNT,
            "epochs_total": _COUNT,
            "step": _COUNT,
            "steps_total": _COUNT,
            "every": {**_COUNT, "description": "2: every second step is told, and so on."},
            "steps": {
                "type": "object",
                "description": "Lists of equal length by name: `step`, `loss`, the metrics.",
                "additionalProperties": {"type": "array", "items": _NUMBER_OR_NULL},
            },
            "epochs": {
                "type": "array",
                "description": "`epoch`, `seconds`, `loss`, `val_loss`, … of each whole epoch.",
                "items": _MEASURED,
            },
        }
    ),
    "TrainingLog": _object(
        {
            "data": {
                "type": "array",
                "items": _object({"number": _COUNT, "at": _TIME, "text": _TEXT}),
            },
            "has_more": {"type": "boolean"},
            "next": {**_COUNT, "description": "Pass it as after=."},
        }
    ),
    "BulkPart": _object(
        {
            "name": {**_or_null(_TEXT), "description": "Null where no row has a prediction."},
            "shard": _COUNT,
            "file": _or_null(_TEXT),
            "start": _COUNT,
            "stop": _COUNT,
            "rows": _COUNT,
            "failed": _COUNT,
            "skipped": _COUNT,
            "size_bytes": _COUNT,
            "sha256": _or_null(_TEXT),
            "committed_at": _TIME,
            "href": _or_null(_TEXT),
            "errors_href": _or_null(_TEXT),
            "errors_bytes": _COUNT,
        }
    ),
    "BulkManifest": {
        "type": "object",
        "description": (
            "As the job's last worker wrote it; before, or if it never did, what is known so far,"
            " with `complete` false."
        ),
    },
    "JobsAccepted": _object(
        {
            "group": _ID,
            "jobs": {
                "type": "array",
                "items": _object({"id": _ID, "custom_id": _or_null(_TEXT)}),
            },
            "estimated_start_at": _or_null(_ESTIMATE),
        }
    ),
    "Group": _object(
        {
            "id": _ID,
            "total": _COUNT,
            "counts": _object({state.value: _COUNT for state in JobState}),
            "done": {"type": "boolean"},
            "created_at": _TIME,
            "links": _STRINGS,
        }
    ),
    "File": _object(
        {
            "id": _ID,
            "filename": _TEXT,
            "content_type": _TEXT,
            "size_bytes": _COUNT,
            "digest": _TEXT,
            "uri": _TEXT,
            "created_at": _TIME,
        }
    ),
    "Version": _object(_VERSION),
    "VersionMeasured": _object(
        {
            **_VERSION,
            "serving": {"type": "object", "description": "The knobs in force."},
            "latency": {"type": "array", "items": _LATENCY},
            "costs": {"type": "array", "items": _COST},
        }
    ),
    "VersionDeleted": _object(
        {
            **_VERSION,
            "made_from_it": {
                "type": "array",
                "items": _TEXT,
                "description": "Versions whose trainings began with it. They stay as they are.",
            },
        }
    ),
    "ModelCard": {
        "type": "object",
        "description": (
            "All that the records say of a version, `not_known` where they say nothing. The same"
            " as text with `format=markdown`."
        ),
        "properties": {
            "model": _TEXT,
            "state": {"type": "string", "enum": [state.value for state in VersionState]},
            "not_known": {"type": "array", "items": _TEXT},
        },
        "required": ["model", "state", "not_known"],
    },
    "Model": _object({**_MODEL, "versions": _COUNT}),
    "ModelWithVersions": _object(
        {**_MODEL, "versions": {"type": "array", "items": _object(_VERSION)}}
    ),
    "Alias": _object(
        {
            "name": _TEXT,
            "alias": _TEXT,
            "version": _COUNT,
            "generation": _COUNT,
            "updated_at": _TIME,
        }
    ),
    "AliasMove": _object(_MOVE),
    "Promotion": _object(
        {
            "name": _TEXT,
            "alias": _TEXT,
            "version": _COUNT,
            "holds": _or_null({"type": "boolean"}),
            "comparisons": {"type": "array", "items": _COMPARISON},
            "measured": _or_null({"type": "object"}),
            "move": _or_null(_object(_MOVE)),
            "requeued": {
                **_or_null(_COUNT),
                "description": "Jobs that go from the old version to the new; null where trouble"
                " kept some of them: POST …/requeue takes them along.",
            },
        }
    ),
    "Trial": _object(
        {
            "id": _ID,
            "name": _TEXT,
            "alias": _TEXT,
            "kind": {"type": "string", "enum": [kind.value for kind in TrialKind]},
            "state": {"type": "string", "enum": [state.value for state in TrialState]},
            "reason": _or_null({**_TEXT, "description": "Why it ended."}),
            "base": {**_COUNT, "description": "The version that the alias stood for."},
            "candidate": _COUNT,
            "share": {"type": "number"},
            "limits": {"type": "object"},
            "seen": {
                "type": "object",
                "description": "By arm: the last jobs, how many failed, and their p95.",
            },
            "compared": {**_COUNT, "description": "Inputs that both versions answered."},
            "disagreed": _COUNT,
            "disagreement": _or_null({"type": "number"}),
            "examples": {"type": "array", "items": {"type": "object"}},
            "repointed": {**_COUNT, "description": "Queued jobs that went back to the base."},
            "started_by": _or_null(_TEXT),
            "created_at": _TIME,
            "ended_at": _or_null(_TIME),
        }
    ),
    "Requeued": _object({"name": _TEXT, "from": _COUNT, "to": _COUNT, "requeued": _COUNT}),
    "Webhook": _object(_WEBHOOK),
    "WebhookWithSecret": _object({**_WEBHOOK, "secret": _SECRET}),
    "WebhookSecret": _object(
        {
            "secret": _SECRET,
            "created_at": _TIME,
            "previous_until": {
                **_or_null(_TIME),
                "description": "Until then deliveries are signed with the one before as well.",
            },
        }
    ),
    "WebhookTest": _object({"event": _TEXT}),
    "WebhookReplay": _object(
        {"deliveries": _COUNT, "until": _or_null(_TIME), "next_since": _or_null(_TIME)}
    ),
    "WebhookAttempt": _ATTEMPT,
    "Result": {
        "type": "object",
        "description": (
            "One item: `outputs` by name, with `label` and `top` where the model has labels."
            " Many: `items`, each a result or an `error`."
        ),
    },
}

JOB_IS_OVER = TERMINAL
