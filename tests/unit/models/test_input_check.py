"""The look at submit: the wrong form or shape is refused at once, with its field."""

from __future__ import annotations

import base64
import time

import pytest

from storage.records.errors import InvalidInput, TooLarge
from storage.records.input_check import check_input, refs_in
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Signature, build_signature


def signature(inputs: list[InputSpec] | None, **said: object) -> Signature:
    return build_signature(inputs, parse_push_options(said))


DIGITS = signature([InputSpec("image", "float32", (2, 2, 1))], input="image")
VECTOR = signature([InputSpec("x", "float32", (3,))])
FREE = signature([InputSpec("x", "float32", (None, 2))])
PAIR = signature([InputSpec("a", "float32", (2,)), InputSpec("b", "int32", ())])
TEXT = signature([InputSpec("t", "string", ())], input="text")
RECORD = signature([InputSpec("x", "float32", (2,))], columns=["age", "income"])
LATER = signature(None, input="image")


def binary(dtype: str, shape: list[int], count: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "b64": base64.b64encode(bytes(count)).decode()}


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (DIGITS, {"image": "aGk="}),
        (DIGITS, {"tensor": [[[1], [2]], [[3], [4]]]}),
        (DIGITS, {"inputs": {"image": [[[1], [2]], [[3], [4]]]}}),
        (DIGITS, {"ref": "forebay://files/x"}),
        (DIGITS, {"items": [{"image": "aGk="}, {"ref": "r"}]}),
        (VECTOR, {"tensor": [1, 2, 3]}),
        (VECTOR, {"tensor": binary("float32", [3], 12)}),
        (VECTOR, {"tensor": binary("float64", [3], 24)}),
        (FREE, {"tensor": [[1, 2]] * 9}),
        (PAIR, {"inputs": {"a": [1, 2], "b": 3}}),
        (TEXT, {"text": ""}),
        (TEXT, {"tensor": "hello"}),
        (RECORD, {"record": {"age": 3}}),
        (LATER, {"image": "aGk="}),
        (LATER, {"tensor": [[1]]}),
        (LATER, {"inputs": {"whatever": 1}}),
    ],
)
def test_the_right_form_passes(model: Signature, value: object) -> None:
    check_input(model, value)
    check_input(model.to_json(), value)


@pytest.mark.parametrize(
    ("model", "value", "code", "field"),
    [
        (VECTOR, None, "wrong_form", "input"),
        (VECTOR, [1, 2, 3], "wrong_form", "input"),
        (VECTOR, {}, "wrong_form", "input"),
        (VECTOR, {"tensr": 1}, "unknown_field", "input.tensr"),
        (VECTOR, {"tensor": [1, 2, 3], "extra": 1}, "unknown_field", "input.extra"),
        (VECTOR, {"tensor": [1], "inputs": {}}, "wrong_form", "input"),
        (VECTOR, {"image": "aGk="}, "wrong_form", "input"),
        (VECTOR, {"text": "x"}, "wrong_form", "input"),
        (VECTOR, {"tensor": [1, 2]}, "wrong_shape", "input.tensor"),
        (VECTOR, {"tensor": [[1, 2, 3]]}, "wrong_shape", "input.tensor"),
        (VECTOR, {"tensor": None}, "wrong_shape", "input.tensor"),
        (VECTOR, {"tensor": binary("float32", [4], 16)}, "wrong_shape", "input.tensor"),
        (VECTOR, {"tensor": binary("float32", [3], 8)}, "wrong_size", "input.tensor.b64"),
        (VECTOR, {"tensor": binary("object", [3], 24)}, "wrong_dtype", "input.tensor.dtype"),
        (VECTOR, {"tensor": binary("float32", [10**9] * 9, 8)}, "wrong_size", "input.tensor.b64"),
        (VECTOR, {"tensor": binary("float32", [-3], 12)}, "wrong_form", "input.tensor.shape"),
        (VECTOR, {"tensor": {"b64": ""}}, "wrong_form", "input.tensor"),
        (PAIR, {"tensor": [1, 2]}, "wrong_form", "input"),
        (PAIR, {"inputs": {"a": [1, 2]}}, "missing_input", "input.inputs"),
        (PAIR, {"inputs": {"a": [1, 2], "c": 3}}, "unknown_input", "input.inputs.c"),
        (PAIR, {"inputs": {"a": [1], "b": 3}}, "wrong_shape", "input.inputs.a"),
        (PAIR, {"inputs": []}, "wrong_form", "input.inputs"),
        (DIGITS, {"image": ""}, "wrong_form", "input.image"),
        (DIGITS, {"image": 5}, "wrong_form", "input.image"),
        (DIGITS, {"record": {}}, "wrong_form", "input"),
        (TEXT, {"text": "a\x00b"}, "bad_text", "input.text"),
        (TEXT, {"text": ["a"]}, "wrong_form", "input.text"),
        (RECORD, {"record": []}, "wrong_form", "input.record"),
        (RECORD, {"record": {"agee": 3}}, "unknown_column", "input.record.agee"),
        (DIGITS, {"items": []}, "wrong_form", "input.items"),
        (DIGITS, {"items": {}}, "wrong_form", "input.items"),
        (DIGITS, {"items": [{"image": "x"}], "image": "x"}, "unknown_field", "input.image"),
        (DIGITS, {"items": [{"items": []}]}, "unknown_field", "input.items[0].items"),
        (DIGITS, {"items": [{"image": "x"}, {"text": "y"}]}, "wrong_form", "input.items[1]"),
        (LATER, {"text": "x"}, "wrong_form", "input"),
    ],
)
def test_the_wrong_form_is_named(model: Signature, value: object, code: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(model, value)
    assert (caught.value.stable_code, caught.value.field) == (code, field)


def test_the_field_starts_where_the_caller_says() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(VECTOR, {"tensor": [1]}, field="jobs[7].input")
    assert caught.value.field == "jobs[7].input.tensor"


def test_too_many_items_are_too_large() -> None:
    check_input(DIGITS, {"items": [{"image": "aGk="}] * 1024})
    with pytest.raises(TooLarge) as caught:
        check_input(DIGITS, {"items": [{"image": "aGk="}] * 1025})
    assert caught.value.stable_code == "too_many_items"


def test_references_are_found_with_their_fields() -> None:
    value = {"items": [{"ref": "a"}, {"image": "x"}, {"ref": "b"}]}
    assert list(refs_in(value)) == [("input.items[0].ref", "a"), ("input.items[2].ref", "b")]
    assert list(refs_in({"ref": "c"}, field="i")) == [("i.ref", "c")]
    assert list(refs_in({"tensor": [1]})) == []


def test_the_look_does_not_walk_the_values() -> None:
    large = {"tensor": [[1, 2]] * 2_000_000}
    began = time.thread_time()
    check_input(FREE, large)
    assert time.thread_time() - began < 0.05
