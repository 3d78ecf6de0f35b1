"""Which columns fill which input: by name or as said; what cannot work is refused with the words
to write."""

from __future__ import annotations

from typing import Any

import pytest

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Shape, Signature, build_signature
from workers.bulk.decode import ChunkDecoder


def tensor(*shapes: Shape, **said: Any) -> Signature:
    inputs = [InputSpec("xyz"[index], "float32", shape) for index, shape in enumerate(shapes)]
    return build_signature(inputs, parse_push_options({"input": "tensor"} | said))


IMAGE = tensor((8, 8, 1), input="image")
TEXT = build_signature([InputSpec("t", "string", ())], parse_push_options(None))
RECORD = build_signature(
    [InputSpec("x", "float32", (3,))],
    parse_push_options({"columns": ["age", "height", {"name": "debt", "missing": "nan"}]}),
)


def columns_of(
    model: Signature,
    said: dict[str, tuple[str, ...]],
    available: list[str],
    format: BulkFormat = BulkFormat.PARQUET,
) -> tuple[str, ...]:
    return ChunkDecoder(model, said, available, format=format).columns


@pytest.mark.parametrize(
    ("model", "said", "available", "columns"),
    [
        (tensor((3,)), {}, ["id", "x"], ("x",)),
        (tensor((3,)), {}, ["id", "array"], ("array",)),
        (tensor((3,)), {}, ["only"], ("only",)),
        (tensor((3,)), {"x": ("c", "a", "b")}, ["a", "b", "c"], ("c", "a", "b")),
        (tensor((3,)), {"": ("c", "a", "b")}, ["a", "b", "c"], ("c", "a", "b")),
        (tensor((2, 2, 1)), {"": ("a", "b", "c", "d")}, list("abcd"), tuple("abcd")),
        (tensor((None,)), {"": ("a", "b")}, list("abcd"), ("a", "b")),
        (tensor((3,), (1,)), {}, ["y", "x", "z"], ("x", "y")),
        (tensor((3,), (1,)), {"y": ("why",)}, ["why", "x"], ("x", "why")),
        (tensor((3,), (1,)), {"": ("y", "x")}, ["x", "y"], ("x", "y")),
        (IMAGE, {}, ["id", "image"], ("image",)),
        (IMAGE, {}, ["uri", "data"], ("data",)),
        (IMAGE, {}, ["id", "array"], ("array",)),
        (TEXT, {}, ["id", "text"], ("text",)),
        (TEXT, {"": ("review",)}, ["id", "review"], ("review",)),
        (RECORD, {}, ["height", "id", "age", "debt"], ("age", "height", "debt")),
        (RECORD, {"age": ("AGE",)}, ["AGE", "height", "debt"], ("AGE", "height", "debt")),
        (RECORD, {"": ("height", "age")}, ["age", "height", "debt"], ("age", "height")),
        (RECORD, {"debt": ()}, ["age", "height"], ("age", "height")),
        (RECORD, {"x": ("vector",)}, ["age", "vector"], ("vector",)),
        (RECORD, {}, ["array"], ("array",)),
    ],
)
def test_the_columns_that_have_to_be_read(
    model: Signature,
    said: dict[str, tuple[str, ...]],
    available: list[str],
    columns: tuple[str, ...],
) -> None:
    assert columns_of(model, said, available) == columns


@pytest.mark.parametrize(
    ("model", "said", "available", "code", "told"),
    [
        (tensor((3,)), {"x": ("b",)}, ["a"], "unknown_column", "the file has a"),
        (tensor((3,)), {"": ("b",)}, ["a"], "unknown_column", "'b'"),
        (tensor((3,)), {"z": ("a",)}, ["a"], "unknown_input", "'z'"),
        (tensor((3,)), {}, ["a", "b"], "missing_input", '{"x": ["…"]}'),
        (tensor((3,)), {"x": ()}, ["a", "b"], "missing_input", "the file has a, b"),
        (tensor((3,), (1,)), {}, ["x"], "missing_input", "'y'"),
        (tensor((3,)), {"x": ("a", "b")}, ["a", "b"], "wrong_columns", "2 columns"),
        (tensor((3,)), {"": tuple("abcd")}, list("abcd"), "wrong_columns", "(3 numbers)"),
        (tensor((3,), (1,)), {"": ("x",)}, ["x", "y"], "wrong_columns", "x, y"),
        (tensor((3,)), {"": ("a",), "x": ("a",)}, ["a"], "wrong_columns", "alone"),
        (tensor((2, None, None)), {"": ("a", "b")}, ["a", "b"], "wrong_columns", "2 columns"),
        (TEXT, {"t": ("a", "b")}, ["a", "b"], "wrong_columns", "2 columns"),
        (IMAGE, {}, ["id", "picture"], "missing_input", "the file has id, picture"),
        (RECORD, {}, ["age", "height"], "missing_column", '{"debt": ["…"]}; [] where'),
        (RECORD, {}, ["age", "debt"], "missing_column", "'height'"),
        (RECORD, {"": ("age", "debt")}, ["age", "debt", "height"], "missing_column", "'height'"),
        (RECORD, {"": ("age", "size")}, ["age", "size"], "unknown_column", "'size'"),
        (RECORD, {"size": ("age",)}, ["age"], "unknown_column", "'size'"),
        (RECORD, {"age": ("AGE",)}, ["age"], "unknown_column", "'AGE'"),
        (RECORD, {"age": ("a", "b")}, ["a", "b"], "wrong_columns", "one column"),
        (RECORD, {}, ["a", "b"], "missing_column", "the file has a, b"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(
    model: Signature,
    said: dict[str, tuple[str, ...]],
    available: list[str],
    code: str,
    told: str,
) -> None:
    with pytest.raises(InvalidInput) as caught:
        columns_of(model, said, available)
    assert caught.value.stable_code == code
    assert told in caught.value.message


def test_many_columns_are_not_all_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        columns_of(tensor((3,)), {}, [f"column{index}" for index in range(500)])
    assert "and 470 more" in caught.value.message


def test_requests_have_no_columns_to_name() -> None:
    assert columns_of(IMAGE, {}, ["input"], BulkFormat.REQUESTS) == ("input",)
    with pytest.raises(InvalidInput) as caught:
        columns_of(IMAGE, {"x": ("input",)}, ["input"], BulkFormat.REQUESTS)
    assert caught.value.stable_code == "wrong_columns"


def test_what_text_files_are_read_as() -> None:
    said = {
        "columns": [
            "age",
            {"name": "rooms", "type": "integer"},
            {"name": "zip", "categories": ["00501", "10001"]},
            {"name": "kind", "categories": [1, 2]},
            {"name": "new", "type": "boolean"},
        ]
    }
    model = build_signature([InputSpec("x", "float32", (5,))], parse_push_options(said))
    names = [column.name for column in model.columns]
    decoder = ChunkDecoder(model, {}, names, format=BulkFormat.CSV)
    assert decoder.numbers == ("age", "rooms", "kind")
    assert decoder.types(dict.fromkeys([*names, "other"], "int64")) == {
        "age": "double",
        "rooms": "double",
        "zip": "string",
        "kind": "int64",
        "new": "bool",
        "other": "int64",
    }
    lists = ChunkDecoder(tensor((3,)), {}, ["x"], format=BulkFormat.JSONL)
    assert lists.types({"x": "list<int64>"}) == {"x": "list<double>"}
