"""What the service answers of evaluations: documents and, beside them, their schemas."""

from __future__ import annotations

from collections.abc import Mapping

from producers.api.schemas import rfc3339
from producers.shapes import Schema
from storage.records.evaluations import Evaluation


def evaluation_document(evaluation: Evaluation, *, full: bool) -> dict[str, object]:
    """A line of a version's evaluations; ``full`` with all that its job's result says."""
    told = evaluation.document
    against = told.get("against")
    return {
        "job": evaluation.job_id,
        "model": f"{evaluation.model_name}:{evaluation.version}",
        "task": told.get("task"),
        "data_digest": evaluation.data_digest,
        "data": told.get("data") or {},
        "rows": evaluation.rows,
        "metrics": dict(evaluation.metrics),
        "intervals": told.get("intervals") or {},
        "against": _brief(against) if isinstance(against, Mapping) else None,
        "created_at": rfc3339(evaluation.created_at),
        "document": dict(told) if full else None,
    }


def _brief(against: Mapping[str, object]) -> dict[str, object]:
    """With whom it was compared, and how much differed."""
    return {name: against.get(name) for name in ("job", "group", "model", "rows", "disagreed")}


def _all_of(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(entry: Schema) -> Schema:
    return {"type": "array", "items": entry}


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_INTERVAL: Schema = {**_list(_NUMBER_OR_NULL), "minItems": 2, "maxItems": 2}
_TASK: Schema = {"enum": ["classes", "numbers", None], "description": "Null: no label, no metrics."}
_METRICS: Schema = {
    "type": "object",
    "additionalProperties": _NUMBER_OR_NULL,
    "description": (
        "Of labels accuracy, precision, recall, f1 (of two labels the second one's, of more the"
        " macro averages), macro_precision, macro_recall, macro_f1, auc, log_loss, brier, ece, mce;"
        " of numbers mse, mae, rmse, r2, bias; always rows and failed_share; compared with another,"
        " disagreement. Null where there is nothing to tell it from."
    ),
}
_INTERVALS: Schema = {
    "type": "object",
    "additionalProperties": _or_null(_INTERVAL),
    "description": "95 %, by the metric's name.",
}
_DATA: Schema = {
    "type": "object",
    "description": "`digest` is the same for the same rows and labels; files, label, `where`.",
}
_SLICE: Schema = {
    "type": "object",
    "properties": {
        "column": _TEXT,
        "values": _list(
            {
                "type": "object",
                "properties": {
                    "value": _TEXT_OR_NULL,
                    "rows": _COUNT,
                    "metrics": _METRICS,
                    "intervals": _INTERVALS,
                },
            }
        ),
        "other_values": {**_COUNT, "description": "Values beyond the 50 that are told."},
        "other_rows": _COUNT,
    },
}
_AGAINST: Schema = {
    "type": "object",
    "description": (
        "What changed since the same rows were answered before: by `job`, or by the jobs of"
        " `group`. `rows` were compared; `disagreed` of them have another label, or a number that"
        " differs by more than the tolerance."
    ),
    "properties": {
        "job": _TEXT_OR_NULL,
        "group": _TEXT_OR_NULL,
        "model": _TEXT_OR_NULL,
        "rows": _COUNT,
        "missing": {**_COUNT, "description": "Rows that one of both has no answer for."},
        "disagreed": _COUNT,
        "share": _NUMBER_OR_NULL,
        "interval": _or_null(_INTERVAL),
        "transitions": {
            **_or_null(_list({"type": "object"})),
            "description": "`from`, `to` and `rows` of labels, most frequent first.",
        },
        "fixed": {**_NUMBER_OR_NULL, "description": "Wrong before and right now."},
        "broken": {**_NUMBER_OR_NULL, "description": "Right before and wrong now."},
        "differences": _or_null({"type": "object"}),
        "metrics": _or_null(_METRICS),
        "examples": _list({"type": "object"}),
    },
}

EVALUATION_SCHEMAS: Mapping[str, Schema] = {
    "Evaluation": {
        "type": "object",
        "description": (
            "What a version was worth on some data: the result of an evaluation, beside what every"
            " bulk job's result says."
        ),
        "properties": {
            "model": _TEXT,
            "version_id": _TEXT,
            "task": _TASK,
            "data": _DATA,
            "rows": {**_COUNT, "description": "Answered, and with a label if one is named."},
            "failed": _COUNT,
            "skipped": _COUNT,
            "unlabelled": {**_COUNT, "description": "Rows whose label is missing."},
            "unknown_labels": {**_COUNT, "description": "Whose label the model does not have."},
            "metrics": _METRICS,
            "intervals": _INTERVALS,
            "labels": _or_null(_list({"type": "object"})),
            "confusion": _or_null(_list(_list(_COUNT))),
            "calibration": _or_null({"type": "object"}),
            "slices": _list(_SLICE),
            "against": _or_null(_AGAINST),
        },
        "required": ["model", "data", "rows", "metrics"],
    },
    "VersionEvaluation": _all_of(
        {
            "job": {**_TEXT, "format": "uuid"},
            "model": _TEXT,
            "task": _TASK,
            "data_digest": _TEXT,
            "data": _DATA,
            "rows": _COUNT,
            "metrics": _METRICS,
            "intervals": _INTERVALS,
            "against": _or_null({"type": "object"}),
            "created_at": {**_TEXT, "format": "date-time"},
            "document": _or_null({"$ref": "#/components/schemas/Evaluation"}),
        }
    ),
}
