"""Predictions as columns: the numbers of online answers, row ids, kept columns, rows that fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pytest

from storage.records.bulk import PartFormat
from storage.records.errors import InvalidInput, ItemError
from storage.records.push_options import ScoreKind, parse_push_options
from storage.records.signatures import InputSpec, OutputSpec, Signature, build_signature
from workers.bulk.encode import ChunkEncoder, column_types
from workers.inference.encode import encode_rows

PARQUET = PartFormat.PARQUET
Y3 = OutputSpec("y", "float32", (3,))
ABC = {"labels": ["a", "b", "c"]}
NOTHING = pa.RecordBatch.from_pylist([], schema=pa.schema([]))


def signature(*outputs: OutputSpec, scores: str = "probabilities", **said: object) -> Signature:
    built = build_signature([InputSpec("x", "float32", (1,))], parse_push_options(said))
    return replace(built, outputs=outputs, scores=ScoreKind(scores))


def none_kept(rows: int) -> pa.RecordBatch:
    return pa.record_batch({"gone": pa.nulls(rows)}).select([])


def encoded(model: Signature, form: PartFormat = PARQUET, kept=None, file: int = 0, **outputs):
    rows = len(next(iter(outputs.values())))
    kept = none_kept(rows) if kept is None else kept
    encoder = ChunkEncoder(model, list(kept.schema), form)
    return encoder.encode(file, np.arange(rows) * 10, kept, outputs)


def test_row_ids_are_file_and_position() -> None:
    found = encoded(signature(Y3), file=12, y=np.zeros((3, 3), "float32"))
    assert found.batch["row_id"].to_pylist() == ["12:0", "12:10", "12:20"]


def test_the_only_output_is_the_prediction_and_several_go_by_name() -> None:
    one = encoded(signature(Y3), y=np.ones((2, 3), "float32"))
    assert one.batch.schema.names == ["row_id", "prediction"]
    assert one.batch.schema.field("prediction").type == pa.list_(pa.float32(), 3)
    two = encoded(
        signature(Y3, OutputSpec("n", "int64", ())),
        y=np.ones((2, 3), "float32"),
        n=np.array([2**62, -1]),
    )
    assert two.batch.schema.names == ["row_id", "y", "n"]
    assert two.batch["n"].to_pylist() == [2**62, -1]


def test_columns_stand_in_the_order_that_was_promised() -> None:
    kept = pa.record_batch({"when": ["x", "y"], "n": [1, None]})
    found = encoded(signature(Y3, **ABC), kept=kept, y=np.eye(3, dtype="float32")[:2])
    assert found.batch.schema.names == ["row_id", "when", "n", "label", "score", "prediction"]
    assert found.batch["n"].to_pylist() == [1, None]
    assert found.batch["label"].to_pylist() == ["a", "b"]
    found.batch.validate(full=True)


@pytest.mark.parametrize("scores", ["probabilities", "logits"])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_label_and_score_are_those_of_an_online_answer(scores: str, width: int) -> None:
    labels = [f"l{i}" for i in range(max(2, width))]
    model = signature(OutputSpec("y", "float32", (width,)), scores=scores, labels=labels)
    values = np.random.default_rng(5).normal(size=(400, width)).astype("float32")
    values[::7] = values[::7, :1]  # ties
    found = encoded(model, y=values).batch
    online = [orjson.loads(text)["top"][0] for text in encode_rows(model, {"y": values}, 400)]
    assert found["label"].to_pylist() == [one["label"] for one in online]
    score = np.array([one["score"] for one in online], dtype="float32")
    assert np.array_equal(found["score"].to_numpy(), score)


def test_outputs_nest_as_their_shapes_do() -> None:
    values = np.arange(24, dtype="int32").reshape(4, 2, 3)
    found = encoded(signature(OutputSpec("y", "int32", (2, 3))), y=values).batch
    assert found.schema.field("prediction").type == pa.list_(pa.list_(pa.int32(), 3), 2)
    assert found["prediction"].to_pylist() == values.tolist()


@pytest.mark.parametrize("ragged", [True, False])
def test_axes_of_any_length_become_lists(ragged: bool) -> None:
    model = signature(OutputSpec("tags", "float32", (None, 2)), OutputSpec("n", "int32", ()))
    lengths = (2, 0, 1) if ragged else (2, 2, 2)
    tags = [np.full((n, 2), n, dtype=np.float32) for n in lengths]
    given = tags if ragged else np.stack(tags)
    found = encoded(model, tags=given, n=np.array(lengths, "int32")).batch
    assert found.schema.field("tags").type == pa.list_(pa.list_(pa.float32(), 2))
    assert found["tags"].to_pylist() == [one.tolist() for one in tags]
    found.validate(full=True)


def test_an_inner_axis_of_any_length_keeps_its_lists_apart() -> None:
    model = signature(OutputSpec("y", "float32", (None, None)))
    given = [np.ones((2, 3), "float32"), np.ones((0, 2), "float32"), np.ones((1, 1), "float32")]
    found = encoded(model, y=given).batch
    assert found["prediction"].to_pylist() == [one.tolist() for one in given]
    assert encoded(model, y=[]).batch["prediction"].to_pylist() == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_a_number_is_an_error_and_left_out(bad: float) -> None:
    model = signature(Y3, OutputSpec("z", "float32", ()), label_output="y", **ABC)
    y, z = np.full((4, 3), 0.25, dtype="float32"), np.arange(4, dtype="float32")
    y[1, 2], z[3] = bad, bad
    kept = pa.record_batch({"k": ["a", "b", "c", "d"]})
    found = encoded(model, kept=kept, y=y, z=z)
    assert found.batch["row_id"].to_pylist() == ["0:0", "0:20"]
    assert found.batch["k"].to_pylist() == ["a", "c"]
    assert found.batch["z"].to_pylist() == [0, 2]
    (online,) = {
        (one.stable_code, one.message)
        for one in encode_rows(model, {"y": y, "z": z}, 4)
        if isinstance(one, ItemError)
    }
    assert found.errors == ((1, *online), (3, *online))


def test_ragged_rows_without_a_number_are_errors_too() -> None:
    model = signature(OutputSpec("y", "float32", (None,)))
    given = [np.array([1, np.nan], "float32"), np.array([], "float32"), np.array([2], "float32")]
    found = encoded(model, y=given)
    assert [index for index, *_ in found.errors] == [0]
    assert found.batch["prediction"].to_pylist() == [[], [2]]


@pytest.mark.parametrize("rows", [0, 2])
def test_no_row_may_be_left_and_the_columns_stay(rows: int) -> None:
    model = signature(Y3, **ABC)
    found = encoded(model, y=np.full((rows, 3), np.nan, "float32"))
    assert found.batch.num_rows == 0
    assert len(found.errors) == rows
    assert found.batch.schema.names == ["row_id", "label", "score", "prediction"]


def test_strings_are_text_even_where_they_are_not_utf8() -> None:
    model = signature(OutputSpec("y", "string", (2,)))
    clean = encoded(model, y=np.array([[b"gr\xc3\xbc", b""]], dtype=object)).batch
    assert clean["prediction"].to_pylist() == [["grü", ""]]
    wrong = encoded(model, y=np.array([[b"\xff", "s"]], dtype=object)).batch
    assert wrong["prediction"].to_pylist() == [["\ufffd", "s"]]
    fixed = encoded(model, y=np.array([[b"a", b"bc"]])).batch
    assert fixed["prediction"].to_pylist() == [["a", "bc"]]


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "uint64", "bool"]
)
def test_every_type_a_model_gives_is_written(dtype: str) -> None:
    found = encoded(signature(OutputSpec("y", dtype, (2,))), y=np.array([[0, 1]], dtype)).batch
    assert found["prediction"].to_pylist() == [[0, 1]]


def test_names_that_are_taken_get_a_prefix_and_the_row_id_never_does() -> None:
    kept = pa.record_batch({name: [1] for name in ("row_id", "label", "y", "output_y")})
    model = signature(Y3, OutputSpec("z", "float32", ()), label_output="y", **ABC)
    found = encoded(model, kept=kept, y=np.ones((1, 3), "float32"), z=np.ones(1, "float32"))
    assert found.batch.schema.names == [
        "row_id",
        "input_row_id",
        "label",
        "y",
        "output_y",
        "output_label",
        "score",
        "output_output_y",
        "z",
    ]


def test_a_prediction_gives_way_to_kept_columns_named_like_its_csv_cells() -> None:
    kept = pa.record_batch({"prediction_1": [1]})
    found = encoded(signature(Y3), kept=kept, y=np.ones((1, 3), "float32"))
    assert found.batch.schema.names == ["row_id", "prediction_1", "output_prediction"]


def test_a_kept_column_is_cast_to_the_type_that_was_said() -> None:
    kept = [pa.field("n", pa.int64()), pa.field("s", pa.null())]
    rows = pa.record_batch({"n": pa.array([1, 2], pa.int8()), "s": ["x", "y"]})
    outputs = {"y": np.ones((2, 3), "float32")}
    encoder = ChunkEncoder(signature(Y3), kept, PARQUET)
    found = encoder.encode(0, np.arange(2), rows, outputs).batch
    assert found.schema == encoder.schema
    assert found["s"].to_pylist() == ["x", "y"]
    mixed = pa.record_batch({"n": ["one", "two"], "s": ["x", "y"]})
    with pytest.raises(InvalidInput, match="'n' holds string") as caught:
        encoder.encode(0, np.arange(2), mixed, outputs)
    assert caught.value.stable_code == "mixed_types"
    lines = ChunkEncoder(signature(Y3), kept, PartFormat.JSONL)
    assert lines.encode(0, np.arange(2), mixed, outputs).batch["n"].to_pylist() == ["one", "two"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (np.zeros((4, 3), "float32"), "4 answers for 3 rows"),
        (np.zeros((3, 2), "float32"), r"shape \(2,\), not \(3,\)"),
    ],
)
def test_answers_that_do_not_fit_their_rows_are_never_passed_on(given, why) -> None:
    encoder = ChunkEncoder(signature(Y3), [], PARQUET)
    with pytest.raises(RuntimeError, match=why):
        encoder.encode(0, np.arange(3), none_kept(3), {"y": given})


def test_the_manifest_can_tell_the_types_of_the_columns() -> None:
    assert column_types(ChunkEncoder(signature(Y3), [], PARQUET).schema) == [
        {"name": "row_id", "type": "string"},
        {"name": "prediction", "type": "fixed_size_list<item: float>[3]"},
    ]


def test_wide_tables_are_taken_over_without_a_copy() -> None:
    values = np.ones((4, 3), "float32")
    found = encoded(signature(Y3), y=values).batch
    values[0, 0] = 7
    assert found["prediction"].to_pylist()[0][0] == 7
