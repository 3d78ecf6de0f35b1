"""Lines that are whole inputs, and objects that a reference would lead to, decode as online."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from storage.records.bulk import BulkFormat
from storage.records.errors import NotFound, ObjectsUnavailable
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, build_signature
from tests.unit.bulk.decode.oracle import decode
from workers.inference.refs import RefUnavailable

VECTOR = build_signature([InputSpec("x", "float32", (2,))], parse_push_options(None))
RECORD = build_signature(
    [InputSpec("x", "float32", (2,))], parse_push_options({"columns": ["a", "b"]})
)
SEVERAL = build_signature(
    [InputSpec("x", "float32", (None,)), InputSpec("word", "string", ())],
    parse_push_options({"input": "tensor"}),
)
REQUESTS, URIS = BulkFormat.REQUESTS, BulkFormat.URIS


def lines(*values: Any) -> dict[str, pa.Array]:
    given = [value if isinstance(value, str | None) else orjson.dumps(value) for value in values]
    return {
        "input": pa.array([one.encode() if isinstance(one, str) else one for one in given]).cast(
            pa.string()
        )
    }


def test_every_form_of_input() -> None:
    def fetch(uri: str) -> bytes:
        if uri == "gone":
            raise NotFound("no")
        return b'{"tensor": [5, 6]}'

    decoded = decode(
        RECORD,
        lines(
            {"record": {"a": 1, "b": 2}},
            {"tensor": [3, 4]},
            {"ref": "here"},
            {"ref": "gone"},
            {"items": [{"tensor": [1, 2]}]},
            {"text": "no"},
            {"record": {"a": 1}},
            "{",
            None,
            {"tensor": [1, 2, 3]},
        ),
        format=REQUESTS,
        fetch_ref=fetch,
    )
    assert decoded.block is not None
    assert decoded.block["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert decoded.block["x"].dtype == np.float32
    assert [code for _, code, _ in decoded.errors] == [
        "ref_not_found",
        "wrong_form",
        "wrong_form",
        "missing_column",
        "invalid_json",
        "missing_input",
        "wrong_shape",
    ]


def test_without_a_reader_nothing_is_fetched() -> None:
    decoded = decode(VECTOR, lines({"ref": "s3://x"}), format=REQUESTS)
    assert [code for _, code, _ in decoded.errors] == ["ref_not_allowed"]


def test_several_inputs_of_any_length() -> None:
    decoded = decode(
        SEVERAL,
        lines(
            {"inputs": {"x": [1], "word": "a"}},
            {"inputs": {"x": [1]}},
            {"inputs": {"x": [], "word": "ö"}},
        ),
        format=REQUESTS,
    )
    assert decoded.rows is not None
    assert [(row["x"].tolist(), row["word"][()]) for row in decoded.rows] == [([1], "a"), ([], "ö")]
    assert all(row["word"].shape == () and row["word"].dtype == object for row in decoded.rows)
    assert [code for _, code, _ in decoded.errors] == ["missing_input"]


@pytest.mark.parametrize("trouble", [RefUnavailable("away"), ObjectsUnavailable("away")])
def test_storage_that_is_away_blames_no_row(trouble: Exception) -> None:
    def fetch(uri: str) -> bytes:
        raise trouble

    with pytest.raises(type(trouble)):
        decode(VECTOR, lines({"ref": "x"}), format=REQUESTS, fetch_ref=fetch)


def test_a_fault_of_ours_is_its_rows_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(uri: str) -> bytes:
        raise RuntimeError("a bug")

    decoded = decode(
        VECTOR, lines({"ref": "x"}, {"tensor": [1, 2]}), format=REQUESTS, fetch_ref=fetch
    )
    assert decoded.errors == ((0, "undecodable", "the input could not be read"),)
    assert decoded.good.tolist() == [1]


def test_objects_at_addresses() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([1, 2], dtype=np.float32))
    cells = [stream.getvalue(), b'{"record": {"a": 3, "b": 4}}', b'{"ref": "other"}', b"junk"]
    decoded = decode(RECORD, {"uri": pa.array(["u"] * 4), "data": pa.array(cells)}, format=URIS)
    assert decoded.block is not None and decoded.block["x"].tolist() == [[1, 2], [3, 4]]
    assert [code for _, code, _ in decoded.errors] == ["wrong_form", "invalid_json"]


def test_texts_at_addresses() -> None:
    model = build_signature([InputSpec("t", "string", ())], parse_push_options(None))
    cells = pa.array(["schön".encode(), b"\xff"])
    decoded = decode(model, {"uri": pa.array(["u"] * 2), "data": cells}, format=URIS)
    assert decoded.block is not None and decoded.block["t"].tolist() == ["schön"]
    assert [code for _, code, _ in decoded.errors] == ["bad_text"]
