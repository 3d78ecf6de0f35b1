"""A record's columns: each by its own type, missing rule and categories."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest

from storage.records.errors import ItemError
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Signature, build_signature
from workers.inference.decode import decode_input
from workers.inference.ports import Row


def record(inputs: list[InputSpec], columns: list[object]) -> Signature:
    return build_signature(inputs, parse_push_options({"columns": columns}))


def one(model: Signature, value: object) -> Row:
    row = decode_input(model, orjson.dumps({"record": value})).rows[0]
    assert not isinstance(row, ItemError)
    return row


def code_of(model: Signature, value: object) -> str:
    with pytest.raises(ItemError) as caught:
        one(model, value)
    return caught.value.stable_code


VECTOR = record(
    [InputSpec("x", "float32", (6,))],
    [
        "age",
        {"name": "income", "missing": "nan"},
        {"name": "alive", "type": "boolean", "missing": {"fill": True}},
        {"name": "size", "categories": ["S", "M", "L"]},
        {"name": "colour", "categories": ["red", 7], "one_hot": True},
    ],
)
WHOLE = {"age": 30, "income": 1.5, "alive": False, "size": "L", "colour": 7}


def test_columns_become_a_vector_in_the_models_order() -> None:
    shuffled = dict(reversed(WHOLE.items()))
    assert one(VECTOR, shuffled)["x"].tolist() == [30, 1.5, 0, 2, 0, 1]


def test_each_column_has_its_own_rule_for_what_is_missing() -> None:
    row = one(VECTOR, {**WHOLE, "income": None, "alive": None})["x"]
    assert math.isnan(row[1]) and row[2] == 1
    del_income = {key: value for key, value in WHOLE.items() if key != "income"}
    assert math.isnan(one(VECTOR, del_income)["x"][1])
    assert code_of(VECTOR, {**WHOLE, "age": None}) == "missing_column"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"age": "30"}, "wrong_dtype"),
        ({"age": True}, "wrong_dtype"),
        ({"age": [30]}, "wrong_dtype"),
        ({"age": 1e39}, "out_of_range"),
        ({"alive": 1}, "wrong_dtype"),
        ({"size": "XL"}, "unknown_category"),
        ({"colour": "7"}, "unknown_category"),
        ({"colour": {}}, "unknown_category"),
        ({"extra": 1}, "unknown_column"),
    ],
)
def test_a_wrong_cell_is_named(change: dict[str, object], code: str) -> None:
    assert code_of(VECTOR, {**WHOLE, **change}) == code


def test_columns_may_go_to_inputs_of_their_name() -> None:
    model = record(
        [
            InputSpec("n", "float32", (1,)),
            InputSpec("k", "int32", ()),
            InputSpec("b", "bool", ()),
            InputSpec("s", "string", ()),
        ],
        [
            {"name": "n", "missing": "nan"},
            {"name": "k", "type": "integer"},
            {"name": "b", "type": "boolean"},
            {"name": "s", "categories": ["x", "y"], "missing": {"fill": "y"}},
        ],
    )
    row = one(model, {"k": 3, "b": True})
    assert np.isnan(row["n"]).all() and row["n"].shape == (1,)
    assert row["k"].dtype == np.int32 and row["k"] == 3
    assert row["b"].dtype == np.bool_ and row["s"].item() == "y"
    assert code_of(model, {"k": 2**40, "b": True}) == "out_of_range"
    assert code_of(model, {"k": 3.5, "b": True}) == "wrong_dtype"
    assert code_of(model, {"k": 3, "b": True, "s": "z"}) == "unknown_category"
