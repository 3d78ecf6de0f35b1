"""The serving knobs: read strictly, held against the model, kept as they were turned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.push_options import parse_push_options
from storage.records.serving import (
    Cost,
    Pad,
    Precision,
    Serving,
    parse_serving,
    serving_to_json,
)
from storage.records.signatures import InputSpec, Signature, build_signature

TOKENS = InputSpec("tokens", "int32", (None,))
MASK = InputSpec("mask", "float32", (None,))
PICTURE = InputSpec("pixels", "float32", (None, None, 3))
FIXED = InputSpec("x", "float32", (8,))


def build(inputs: list[InputSpec] | None, serving: dict[str, Any], **said: object) -> Signature:
    return build_signature(inputs, parse_push_options({"serving": serving, **said}))


def refusal(inputs: list[InputSpec] | None, serving: Any, **said: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        build(inputs, serving, **said)
    return caught.value


def test_nothing_needs_turning() -> None:
    signature = build([FIXED], {})
    assert signature.serving == Serving() == parse_serving(None, "serving")
    assert "serving" not in signature.to_json()


@pytest.mark.parametrize(
    ("serving", "field"),
    [
        ([], ""),
        ({"max_batches": 3}, ".max_batches"),
        ({"max_batch": 0}, ".max_batch"),
        ({"max_batch": 1.5}, ".max_batch"),
        ({"max_batch": 100_000}, ".max_batch"),
        ({"latency_objective_ms": 0}, ".latency_objective_ms"),
        ({"latency_objective_ms": "fast"}, ".latency_objective_ms"),
        ({"batch_sizes": []}, ".batch_sizes"),
        ({"batch_sizes": [8, 4]}, ".batch_sizes[1]"),
        ({"batch_sizes": [4, 4]}, ".batch_sizes[1]"),
        ({"batch_sizes": [0]}, ".batch_sizes[0]"),
        ({"batch_sizes": list(range(1, 99))}, ".batch_sizes"),
        ({"batch_sizes": [4, 8], "max_batch": 6}, ".batch_sizes[1]"),
        ({"pad": []}, ".pad"),
        ({"pad": {"tokens": [8]}}, ".pad.tokens"),
        ({"pad": {"tokens": {}}}, ".pad.tokens.sizes"),
        ({"pad": {"tokens": {"sizes": [16, 8]}}}, ".pad.tokens.sizes[1]"),
        ({"pad": {"tokens": {"sizes": [8], "with": 0}}}, ".pad.tokens.with"),
        ({"pad": {"tokens": {"sizes": [8], "value": None, "mask": 3}}}, ".pad.tokens.mask"),
        ({"cost": "watts"}, ".cost"),
        ({"max_cost": -1}, ".max_cost"),
        ({"max_cost": True}, ".max_cost"),
        ({"instances": 0}, ".instances"),
        ({"xla": "yes"}, ".xla"),
        ({"precision": "float8"}, ".precision"),
    ],
)
def test_a_knob_turned_wrongly_is_named(serving: Any, field: str) -> None:
    error = refusal([TOKENS], serving)
    assert error.field == f"options.serving{field}"
    assert error.stable_code in ("invalid_options", "unknown_field")


@pytest.mark.parametrize(
    ("inputs", "serving", "field"),
    [
        ([TOKENS], {"pad": {"words": {"sizes": [8]}}}, ".pad.words"),
        ([FIXED], {"pad": {"x": {"sizes": [8]}}}, ".pad.x"),
        ([TOKENS], {"pad": {"tokens": {"sizes": [8], "mask": "mask"}}}, ".pad.tokens.mask"),
        ([TOKENS], {"pad": {"tokens": {"sizes": [8], "mask": "tokens"}}}, ".pad.tokens.mask"),
        ([TOKENS, FIXED], {"pad": {"tokens": {"sizes": [8], "mask": "x"}}}, ".pad.tokens.mask"),
        ([TOKENS], {"pad": {"tokens": {"sizes": [8], "value": 0.5}}}, ".pad.tokens.value"),
        ([TOKENS], {"pad": {"tokens": {"sizes": [8], "value": 2**40}}}, ".pad.tokens.value"),
        ([TOKENS], {"pad": {"tokens": {"sizes": [8], "value": "<pad>"}}}, ".pad.tokens.value"),
        ([PICTURE, MASK], {"pad": {"pixels": {"sizes": [8], "mask": "mask"}}}, ".pad.pixels.mask"),
        ([InputSpec("said", "string", ())], {"xla": True}, ".xla"),
        ([FIXED], {"cost": "tokens"}, ".cost"),
        ([TOKENS], {"cost": "pixels"}, ".cost"),
        ([FIXED], {"max_cost": 0.5}, ".max_cost"),
        (
            [TOKENS],
            {"pad": {"tokens": {"sizes": [8, 512]}}, "cost": "tokens", "max_cost": 500},
            ".max_cost",
        ),
        (
            [PICTURE],
            {"pad": {"pixels": {"sizes": [100]}}, "cost": "pixels", "max_cost": 9_999},
            ".max_cost",
        ),
    ],
)
def test_a_knob_that_does_not_fit_the_model_is_refused_at_push(
    inputs: list[InputSpec], serving: dict[str, Any], field: str
) -> None:
    error = refusal(inputs, serving)
    assert (error.stable_code, error.field) == ("invalid_options", f"options.serving{field}")


def test_a_picture_that_costs_more_than_a_pass_may_is_refused_at_push() -> None:
    serving = {"cost": "pixels", "max_cost": 99}
    said = {"input": "image", "image": {"height": 10, "width": 10}}
    assert refusal([PICTURE], serving, **said).field == "options.serving.max_cost"
    assert build([PICTURE], serving | {"max_cost": 100}, **said).serving.max_cost == 100


def test_two_inputs_cannot_share_a_mask() -> None:
    other = InputSpec("other", "int32", (None,))
    pad = {name: {"sizes": [8], "mask": "mask"} for name in ("tokens", "other")}
    assert refusal([TOKENS, other, MASK], {"pad": pad}).field == "options.serving.pad.other.mask"


def test_pictures_brought_to_one_size_are_not_padded() -> None:
    pad = {"pad": {"pixels": {"sizes": [8]}}}
    error = refusal([PICTURE], pad, input="image", image={"height": 8, "width": 8})
    assert error.field == "options.serving.pad.pixels"


def test_pictures_of_any_size_are_taken_where_their_padding_is_declared() -> None:
    mask = InputSpec("mask", "float32", (None, None, 1))
    signature = build(
        [PICTURE, mask], {"pad": {"pixels": {"sizes": [8, 16], "mask": "mask"}}}, input="image"
    )
    assert signature.image is not None
    assert (signature.image.height, signature.image.width) == (None, None)
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature and again.varying == (PICTURE,)


def test_a_mask_is_not_for_callers_to_send() -> None:
    signature = build([TOKENS, MASK], {"pad": {"tokens": {"sizes": [8], "mask": "mask"}}})
    assert signature.asked == (TOKENS,) and signature.inputs == (TOKENS, MASK)
    assert set(signature.by_name) == {"tokens"}


def test_batch_sizes_alone_say_the_largest_batch() -> None:
    serving = build([FIXED], {"batch_sizes": [1, 24, 1024]}).serving
    assert serving.max_batch == 1024
    assert parse_serving(serving_to_json(serving), "s") == serving


def test_the_knobs_of_a_model_that_is_not_read_yet_are_held_against_it_later() -> None:
    signature = build(None, {"pad": {"tokens": {"sizes": [8]}}})
    again = Signature.from_json(signature.to_json())
    assert again.deferred is not None
    assert again.deferred.serving.pad == {"tokens": Pad((8,))}
    with pytest.raises(InvalidInput):
        build_signature([FIXED], again.deferred)


def test_a_signature_stored_before_there_were_knobs_is_read() -> None:
    stored = build([FIXED], {"max_batch": 3}).to_json()
    assert stored.pop("serving") == {"max_batch": 3}
    assert Signature.from_json(stored).serving == Serving()


sizes = st.lists(st.integers(1, 4_096), min_size=1, max_size=8, unique=True).map(sorted)
pads = st.builds(
    Pad,
    sizes.map(tuple),
    st.none() | st.floats(-1e6, 1e6) | st.text("ab", max_size=3),
    st.none() | st.text("xyz", min_size=1, max_size=4),
)


@given(
    st.builds(
        Serving,
        max_batch=st.integers(4_096, 65_536),
        latency_objective_ms=st.floats(0.1, 1e6),
        batch_sizes=st.just(()) | sizes.map(tuple),
        pad=st.dictionaries(st.text(min_size=1, max_size=9), pads, max_size=3),
        cost=st.sampled_from(Cost),
        max_cost=st.none() | st.floats(0.1, 1e9),
        instances=st.integers(1, 16),
        xla=st.booleans(),
        precision=st.sampled_from(Precision),
    )
)
def test_knobs_survive_their_json(serving: Serving) -> None:
    again = json.loads(json.dumps(serving_to_json(serving)))
    assert parse_serving(again, "serving") == serving
