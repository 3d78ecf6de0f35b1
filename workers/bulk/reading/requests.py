"""JSON lines of requests, in the shape of batch files of OpenAI's or shorter.

``{"custom_id", "method"?, "url"?, "body": {"model"?, "input": {…}}}`` or ``{"custom_id"?, "input":
{…}}``. The input may have any form that a single job's has, so it is handed on as JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import orjson
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput
from storage.strict_json import parse
from workers.bulk.ports import RowError
from workers.bulk.reading.chunking import Parsed
from workers.bulk.reading.line_source import LineSource
from workers.bulk.reading.lines import Lines

_SHOWN = 64  # characters of a custom id
_METHOD, _URL = "POST", "/v1/jobs"


class RequestsSource(LineSource):
    """One file of requests. Columns: ``custom_id`` (may be null), ``model`` (likewise) and
    ``input``, its JSON. Error of a row: ``bad_request_line``."""

    format = BulkFormat.REQUESTS
    COLUMNS: ClassVar[Mapping[str, str]] = {
        "custom_id": "string",
        "model": "string",
        "input": "binary",
    }

    def columns(self) -> tuple[str, ...]:
        """Always the same."""
        return tuple(self.COLUMNS)

    def types(self, numbers: Collection[str] = ()) -> Mapping[str, str]:
        """Always the same."""
        return self.COLUMNS

    def _infer(self, lines: Lines | None, numbers: Collection[str]) -> Mapping[str, str]:
        return self.COLUMNS

    def _parse(self, lines: Lines, types: Mapping[str, pa.DataType]) -> Parsed:
        errors, good = list(lines.errors), []
        rows: dict[str, list[object]] = {name: [] for name in self.COLUMNS}
        for index in range(len(lines)):
            try:
                row = _request(lines.text(index))
            except InvalidInput as error:
                at = int(lines.positions[index])
                errors.append(RowError(at, "bad_request_line", error.message))
                continue
            good.append(index)
            for name, value in zip(rows, row, strict=True):
                rows[name].append(value)
        arrays = [pa.array(rows[name], type_) for name, type_ in types.items()]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(types))
        return Parsed(batch, lines.positions[good], errors, lines.next)


def _request(line: bytes) -> tuple[str | None, str | None, bytes]:
    """Custom id, model and the input's JSON. ``InvalidInput`` names the custom id."""
    told = parse(line)
    if not isinstance(told, dict):
        raise InvalidInput("the line is not an object")
    custom_id = told.get("custom_id")
    try:
        if custom_id is not None and not isinstance(custom_id, str):
            raise InvalidInput("custom_id is not a text")
        model, given = _body(told)
    except InvalidInput as error:
        shown = orjson.dumps(custom_id).decode()
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        raise InvalidInput(f"custom_id {shown}: {error.message}") from None
    return custom_id, model, orjson.dumps(given)


def _body(told: dict[str, object]) -> tuple[str | None, object]:
    """Model and input."""
    for key, must in (("method", _METHOD), ("url", _URL)):
        if told.get(key) not in (None, must):
            raise InvalidInput(f"{key} is not {must!r}")
    if ("body" in told) == ("input" in told):
        raise InvalidInput("a line has either a body with an input or an input")
    body = told.get("body", told)
    if not isinstance(body, dict):
        raise InvalidInput("body is not an object")
    model, given = body.get("model"), body.get("input")
    if model is not None and not isinstance(model, str):
        raise InvalidInput("model is not a text")
    if not isinstance(given, dict):
        raise InvalidInput("input is not an object" if "input" in body else "there is no input")
    return model, given
