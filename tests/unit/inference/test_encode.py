"""Answers: exact numbers, labels with scores, and a bad row that fails alone."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import ItemError
from storage.records.push_options import ScoreKind, parse_push_options
from storage.records.signatures import InputSpec, OutputSpec, Signature, build_signature
from workers.inference.encode import encode_items, encode_rows


def signature(*outputs: OutputSpec, scores: str = "probabilities", **said: object) -> Signature:
    built = build_signature([InputSpec("x", "float32", (1,))], parse_push_options(said))
    return replace(built, outputs=outputs, scores=ScoreKind(scores))


def one(model: Signature, *values: object, dtype: str = "float32") -> dict:
    outputs = {
        spec.name: np.array([value], dtype=dtype)
        for spec, value in zip(model.outputs, values, strict=True)
    }
    (row,) = encode_rows(model, outputs, 1)
    assert isinstance(row, bytes)
    return orjson.loads(row)


Y3 = OutputSpec("y", "float32", (3,))
ABC = {"labels": ["a", "b", "c"]}


def test_outputs_are_nested_lists_and_scalars_by_name() -> None:
    model = signature(OutputSpec("m", "float32", (2, 1)), OutputSpec("s", "float32", ()))
    assert one(model, [[1.5], [2]], 3) == {"outputs": {"m": [[1.5], [2.0]], "s": 3.0}}


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "uint64", "bool"]
)
def test_every_type_a_model_gives_is_written(dtype: str) -> None:
    assert one(signature(OutputSpec("y", dtype, (2,))), [0, 1], dtype=dtype)["outputs"]["y"] == [
        0,
        1,
    ]


def test_a_float32_reads_back_as_itself_and_integers_stay_exact() -> None:
    values = np.random.default_rng(3).normal(size=100).astype("float32")
    got = one(signature(OutputSpec("y", "float32", (100,))), values)["outputs"]["y"]
    assert np.array_equal(np.array(got, dtype="float32"), values)
    large = one(signature(OutputSpec("y", "int64", (1,))), [2**63 - 1], dtype="int64")
    assert large["outputs"]["y"] == [2**63 - 1]


def test_strings_are_text() -> None:
    model = signature(OutputSpec("y", "string", (2,)))
    outputs = {"y": np.array([[b"gr\xc3\xbc\xc3\x9fe", b"\xff"]], dtype=object)}
    (row,) = encode_rows(model, outputs, 1)
    assert orjson.loads(row)["outputs"]["y"] == ["grüße", "\ufffd"]


def test_the_best_labels_come_first_with_their_scores() -> None:
    model = signature(Y3, top_k=2, **ABC)
    answer = one(model, [0.2, 0.7, 0.1])
    assert answer["label"] == "b"
    assert answer["top"] == [{"label": "b", "score": 0.7}, {"label": "a", "score": 0.2}]
    assert answer["outputs"]["y"] == [0.2, 0.7, 0.1]


def test_of_equal_scores_the_earlier_label_comes_first() -> None:
    assert one(signature(Y3, **ABC), [0.5, 0.5, 0.5])["label"] == "a"


def test_logits_become_scores_that_sum_to_one_and_do_not_overflow() -> None:
    model = signature(Y3, scores="logits", **ABC)
    top = one(model, [1000.0, 999.0, -1000.0])["top"]
    assert top[0]["label"] == "a"
    assert sum(entry["score"] for entry in top) == pytest.approx(1, abs=1e-6)
    assert top[0]["score"] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-5)


@pytest.mark.parametrize("shape", [(1,), ()])
def test_one_output_and_two_labels_is_a_yes_or_no(shape: tuple) -> None:
    spec = OutputSpec("y", "float32", shape)
    value = [0.8] if shape else 0.8
    answer = one(signature(spec, labels=["no", "yes"]), value)
    assert answer["label"] == "yes"
    assert [round(e["score"], 6) for e in answer["top"]] == [0.8, 0.2]
    logit = one(signature(spec, scores="logits", labels=["no", "yes"]), [0.0] if shape else 0.0)
    assert logit["top"][0]["score"] == pytest.approx(0.5)


def test_labels_belong_to_the_output_that_was_named() -> None:
    model = signature(Y3, OutputSpec("z", "float32", (3,)), label_output="z", **ABC)
    assert one(model, [1, 0, 0], [0, 0, 1])["label"] == "c"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_without_a_number_fails_alone(bad: float) -> None:
    model = signature(Y3, OutputSpec("z", "float32", ()), label_output="y", **ABC)
    y = np.full((4, 3), 0.25, dtype="float32")
    z = np.zeros(4, dtype="float32")
    y[1, 2], z[3] = bad, bad
    rows = encode_rows(model, {"y": y, "z": z}, 4)
    assert [isinstance(row, ItemError) for row in rows] == [False, True, False, True]
    assert rows[1].stable_code == "non_finite_output"
    assert orjson.loads(rows[0])["label"] == "a"


def test_another_count_of_rows_is_never_passed_on() -> None:
    with pytest.raises(RuntimeError, match="for 3 rows"):
        encode_rows(signature(Y3), {"y": np.zeros((4, 3), dtype="float32")}, 3)


def test_every_row_keeps_its_place() -> None:
    model = signature(OutputSpec("y", "int64", (1,)))
    rows = encode_rows(model, {"y": np.arange(500)[:, np.newaxis]}, 500)
    assert [orjson.loads(row)["outputs"]["y"][0] for row in rows] == list(range(500))


def test_items_stand_in_their_places_errors_among_them() -> None:
    text = encode_items([b'{"outputs":{"y":1}}', ItemError('said "no"', code="bad_image")])
    assert orjson.loads(text) == {
        "items": [
            {"outputs": {"y": 1}},
            {"error": {"code": "bad_image", "message": 'said "no"'}},
        ]
    }


def test_a_full_batch_is_encoded_within_a_millisecond_and_a_half() -> None:
    ten = OutputSpec("y", "float32", (10,))
    model = signature(ten, labels=[str(i) for i in range(10)])
    outputs = {"y": np.random.default_rng(4).dirichlet(np.ones(10), 128).astype("float32")}
    times = []
    for _ in range(30):
        began = time.perf_counter()
        encode_rows(model, outputs, 128)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.0015, f"{min(times) * 1e3:.2f} ms"


@given(
    st.integers(0, 5),
    st.sampled_from([(), (1,), (3,), (0,), (70,), (2, 3), (0, 2)]),
    st.sampled_from(["float32", "int64", "bool", "uint8"]),
    st.integers(0, 2**32),
)
def test_every_row_of_any_table_is_written_as_if_it_were_alone(rows, shape, dtype, seed) -> None:
    chance = np.random.default_rng(seed)
    array = (chance.normal(size=(rows, *shape)) * 100).astype(dtype)
    found = encode_rows(signature(OutputSpec("y", dtype, shape)), {"y": array}, rows)
    assert [orjson.loads(row)["outputs"]["y"] for row in found] == [
        orjson.loads(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)) for row in array
    ]


def test_rows_of_different_lengths_are_written_each_by_itself() -> None:
    model = signature(OutputSpec("tags", "float32", (None, 2)), OutputSpec("n", "int32", ()))
    tags = [np.ones((n, 2), dtype=np.float32) for n in (2, 0, 1)]
    tags[2][0, 1] = np.nan
    first, second, third = encode_rows(model, {"tags": tags, "n": np.array([2, 0, 1])}, 3)
    assert orjson.loads(first)["outputs"] == {"tags": [[1, 1], [1, 1]], "n": 2}
    assert orjson.loads(second)["outputs"] == {"tags": [], "n": 0}
    assert isinstance(third, ItemError) and third.stable_code == "non_finite_output"
    with pytest.raises(RuntimeError, match="3 answers for 2 rows"):
        encode_rows(model, {"tags": tags}, 2)


def test_labels_and_names_may_hold_anything() -> None:
    name = 'a "name", with ] and \u00fc'
    model = signature(OutputSpec(name, "float32", (2,)), labels=['],["', "\\ü%b"], top_k=2)
    answer = one(model, [0.25, 0.75])
    assert answer["outputs"] == {name: [0.25, 0.75]}
    assert [entry["label"] for entry in answer["top"]] == ["\\ü%b", '],["']
