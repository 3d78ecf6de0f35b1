"""Text files are read with the types that the model needs, not only those of their first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.records.bulk import BulkFormat, BulkInput, BulkOutput, BulkSpec
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Signature, build_signature
from tests.unit.bulk.files import MANY, found
from workers.bulk.decode import ChunkDecoder
from workers.bulk.reading.opening import open_source
from workers.bulk.stages import types_in

SPEC = BulkSpec(BulkInput(("file:///in/*",)), BulkOutput())


def refuse(uri: str) -> bytes:
    raise AssertionError("nothing is fetched")


def scored(model: Signature, path: Path, later: Path, form: BulkFormat) -> tuple[list[Any], Any]:
    """The rows of ``later`` with the types that the file before it has, and what was wrong."""
    first: Any = open_source(found(path), form, fetch=refuse)
    types = types_in(SPEC, model, first.columns(), form, first.types)
    decoder = ChunkDecoder(model, {}, first.columns(), format=form)
    source = open_source(found(later), form, types=types, fetch=refuse)
    stop = source.planned().stop
    rows, errors = [], []
    for chunk in source.chunks(0, stop, decoder.columns, max_rows=MANY, max_bytes=MANY):
        decoded = decoder.decode(chunk.batch)
        assert decoded.block is not None
        rows += decoded.block["x"].tolist()
        errors += [error.code for error in chunk.errors] + [code for _, code, _ in decoded.errors]
    return rows, errors


MODEL = build_signature(
    [InputSpec("x", "float64", (2,))],
    parse_push_options({"columns": ["price", {"name": "zip", "categories": ["501", "00501"]}]}),
)


def test_fractions_and_leading_zeros_come_after_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("price,zip\n1,501\n2,501\n")
    (tmp_path / "b.csv").write_text("price,zip\n1.5,00501\n2,501\n3.5,10\nx,501\n")
    rows, errors = scored(MODEL, tmp_path / "a.csv", tmp_path / "b.csv", BulkFormat.CSV)
    assert rows == [[1.5, 1], [2, 0]]
    assert sorted(errors) == ["unknown_category", "wrong_type"]


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_lists_of_whole_numbers_may_have_fractions_later(tmp_path: Path, dtype: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2]}\n')
    (tmp_path / "b.jsonl").write_text('{"x": [1.5, 2]}\n{"x": [3, 4]}\n')
    model = build_signature([InputSpec("x", dtype, (2,))], parse_push_options({"input": "tensor"}))
    rows, errors = scored(model, tmp_path / "a.jsonl", tmp_path / "b.jsonl", BulkFormat.JSONL)
    whole = dtype == "int32"
    assert rows == ([[3, 4]] if whole else [[1.5, 2], [3, 4]])
    assert len(errors) == whole
