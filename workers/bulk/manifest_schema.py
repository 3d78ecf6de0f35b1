"""The manifest's JSON Schema (draft 2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_AMOUNT: Schema = {"type": "number", "minimum": 0}
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(properties: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


_MODEL = _object({"name": _TEXT, "version": _COUNT, "version_id": _TEXT, "sha256": _SHA256})

_FILE = _object(
    {
        "uri": _TEXT,
        "format": _TEXT,
        "gzip": {"type": "boolean"},
        "rows": _or_null(_COUNT),
        "size_bytes": _COUNT,
        "digest": _or_null(_TEXT),
    }
)

_CONDITION = _object({"column": _TEXT, "op": _TEXT, "value": {}})

_INPUT = _object(
    {
        "uris": _list_of(_TEXT),
        "columns": {"type": "object", "additionalProperties": _list_of(_TEXT)},
        "where": _list_of(_CONDITION),
        "files": _list_of(_FILE),
    },
    {"failed_rows_of": _TEXT, "resume_of": _TEXT},
)

_OUTPUT = _object(
    {
        "uri": _or_null(_TEXT),
        "format": _TEXT,
        "columns": _list_of(_object({"name": _TEXT, "type": _TEXT})),
    }
)

_PART = _object(
    {
        "name": _or_null(_TEXT),
        "rows": _COUNT,
        "failed": _COUNT,
        "skipped": _COUNT,
        "size_bytes": _COUNT,
        "sha256": _or_null(_SHA256),
        "file": _COUNT,
        "start": _COUNT,
        "stop": _COUNT,
    }
)

_ERRORS = _object({"name": _TEXT, "lines": _COUNT, "size_bytes": _COUNT, "sha256": _SHA256})

_TIMINGS = _object(
    {
        "created_at": _TIME,
        "planned_at": _or_null(_TIME),
        "finished_at": _TIME,
        "wall_s": _AMOUNT,
        "device_s": _AMOUNT,
        "rows_per_s": _AMOUNT,
    }
)

MANIFEST_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "The manifest of a bulk job",
    **_object(
        {
            "version": {"const": 1},
            "job": _TEXT,
            "complete": {"type": "boolean"},
            "state": _TEXT,
            "model": _MODEL,
            "input": _INPUT,
            "output": _OUTPUT,
            "rows": _COUNT,
            "failed": _COUNT,
            "skipped": _COUNT,
            "size_bytes": _COUNT,
            "parts": _list_of(_PART),
            "errors": _or_null(_ERRORS),
            "timings": _TIMINGS,
        },
        {"error": _object({"code": _TEXT, "message": _TEXT})},
    ),
}
