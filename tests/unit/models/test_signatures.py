"""A signature is derived from the model's inputs and the pusher's words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.image_spec import Layout, Resize
from storage.records.push_options import ColumnType, InputForm, ScoreKind, parse_push_options
from storage.records.signatures import (
    InputSpec,
    OutputSpec,
    Signature,
    build_signature,
    label_output_of,
)

DIGITS = InputSpec("image", "float32", (28, 28, 1))
TEXT = InputSpec("text", "string", ())


def build(inputs: list[InputSpec] | None, rescales: bool = False, **said: object) -> Signature:
    return build_signature(inputs, parse_push_options(said), rescales_itself=rescales)


def refusal(inputs: list[InputSpec], **said: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        build(inputs, **said)
    return caught.value


def test_a_picture_is_derived_from_the_input_alone() -> None:
    image = build([DIGITS], input="image").image
    assert image is not None
    assert (image.height, image.width, image.channels) == (28, 28, 1)
    assert image.scale == pytest.approx(1 / 255)
    assert image.layout is Layout.LAST


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((28, 28), Layout.NONE, 1),
        ((32, 16, 3), Layout.LAST, 3),
        ((3, 32, 16), Layout.FIRST, 3),
        ((8, 8, 4), Layout.LAST, 4),
    ],
)
def test_the_axes_of_a_picture_are_recognised(shape, layout, channels) -> None:
    image = build([InputSpec("x", "float32", shape)], input="image").image
    assert image is not None
    assert (image.layout, image.channels) == (layout, channels)


def test_a_model_that_rescales_itself_is_given_0_to_255() -> None:
    assert build([DIGITS], rescales=True, input="image").image.scale == 1.0
    assert build([InputSpec("x", "uint8", (8, 8, 3))], input="image").image.scale == 1.0


def test_a_picture_of_any_size_needs_one() -> None:
    free = InputSpec("x", "float32", (None, None, 3))
    assert refusal([free], input="image").field == "options.image"
    image = build([free], input="image", image={"height": 64, "width": 48}).image
    assert (image.height, image.width) == (64, 48)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"height": 32}, "options.image.height"),
        ({"channels": 3}, "options.image.channels"),
        ({"resize": "squash"}, "options.image.resize"),
        ({"resample": "magic"}, "options.image.resample"),
        ({"scale": "big"}, "options.image.scale"),
        ({"mean": [1, 2]}, "options.image.mean"),
        ({"std": 0}, "options.image.std"),
        ({"invert": 1}, "options.image.invert"),
        ({"background": 300}, "options.image.background"),
        ({"colour": "rgb"}, "options.image.colour"),
    ],
)
def test_a_wrong_image_option_is_named(said: dict[str, object], field: str) -> None:
    assert refusal([DIGITS], input="image", image=said).field == field


def test_image_options_override_what_was_derived() -> None:
    said = {"resize": "crop", "mean": [0.5], "std": 0.5, "invert": True, "background": 0}
    image = build([DIGITS], image=said).image
    assert image.resize is Resize.CROP
    assert (image.mean, image.std, image.invert, image.background) == ((0.5,), (0.5,), True, 0)


def test_the_form_is_inferred_where_it_is_plain() -> None:
    assert build([DIGITS]).form is InputForm.TENSOR
    assert build([TEXT]).form is InputForm.TEXT
    assert build([DIGITS], image={"invert": True}).form is InputForm.IMAGE
    assert build([InputSpec("x", "float32", (2,))], columns=["a", "b"]).form is InputForm.RECORD


def test_text_needs_a_model_that_reads_strings() -> None:
    ids = InputSpec("ids", "int32", (100,))
    assert "TextVectorization" in refusal([ids], input="text").message
    assert build([InputSpec("t", "string", (1,))], input="text").form is InputForm.TEXT


def test_columns_fill_a_vector_in_their_order() -> None:
    colour = {"name": "c", "categories": ["r", "g"], "one_hot": True}
    signature = build([InputSpec("x", "float32", (3,))], columns=["a", colour])
    assert [column.name for column in signature.columns] == ["a", "c"]
    assert not signature.columns_are_inputs
    error = refusal([InputSpec("x", "float32", (4,))], columns=["a", colour])
    assert "3 numbers" in error.message and "[4]" in error.message


def test_columns_may_be_the_named_inputs_and_are_then_derived() -> None:
    inputs = [InputSpec("age", "float32", (1,)), InputSpec("word", "string", ())]
    signature = build(inputs, input="record")
    assert signature.columns_are_inputs
    assert [column.type for column in signature.columns] == [ColumnType.NUMBER, ColumnType.STRING]
    assert refusal(inputs, columns=["age", "height"]).field == "options.columns"


@pytest.mark.parametrize(
    ("spec", "column"),
    [
        (InputSpec("a", "int32", ()), {"name": "a", "missing": "nan"}),
        (InputSpec("a", "float32", ()), {"name": "a", "type": "string"}),
        (InputSpec("a", "string", ()), {"name": "a", "type": "number"}),
        (InputSpec("x", "float32", (1,)), {"name": "b", "type": "string"}),
        (InputSpec("x", "int32", (1,)), {"name": "b", "missing": "nan"}),
    ],
)
def test_a_column_must_fit_its_input(spec: InputSpec, column: dict[str, object]) -> None:
    assert refusal([spec], columns=[column]).stable_code == "invalid_options"


def test_a_type_that_cannot_travel_is_refused() -> None:
    assert refusal([InputSpec("x", "bfloat16", (2,))]).stable_code == "unsupported_model"


def test_options_of_another_form_are_refused_not_ignored() -> None:
    assert refusal([TEXT], input="text", image={"invert": True}).field == "options.image"
    assert refusal([DIGITS], input="image", columns=["a"]).field == "options.columns"


def test_a_trusted_model_defers_until_it_is_loaded() -> None:
    signature = build(None, input="image", image={"invert": True}, labels=["a", "b"])
    assert signature.inputs == ()
    assert signature.deferred is not None
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature


@pytest.mark.parametrize(
    ("shape", "labels", "fits"),
    [((10,), 10, True), ((10,), 9, False), ((1,), 2, True), ((), 2, True), ((5, 10), 10, False)],
)
def test_labels_must_match_the_output(shape, labels: int, fits: bool) -> None:
    signature = replace(
        build([DIGITS], labels=[str(i) for i in range(labels)]),
        outputs=(OutputSpec("y", "float32", shape),),
    )
    if fits:
        assert label_output_of(signature).name == "y"
    else:
        with pytest.raises(InvalidInput) as caught:
            label_output_of(signature)
        assert caught.value.stable_code == "labels_mismatch"


def test_several_outputs_need_to_say_which_is_labelled() -> None:
    outputs = (OutputSpec("a", "float32", (2,)), OutputSpec("b", "float32", (2,)))
    vague = replace(build([DIGITS], labels=["x", "y"]), outputs=outputs)
    with pytest.raises(InvalidInput):
        label_output_of(vague)
    assert label_output_of(replace(vague, label_output="b")).name == "b"
    with pytest.raises(InvalidInput):
        label_output_of(replace(vague, label_output="c"))


shapes = st.lists(st.none() | st.integers(1, 99), max_size=4).map(tuple)
specs = st.builds(InputSpec, st.text(min_size=1, max_size=9), st.just("float32"), shapes)
outputs = st.builds(OutputSpec, st.text(min_size=1, max_size=9), st.just("float32"), shapes)


@given(
    st.lists(specs, min_size=1, max_size=3, unique_by=lambda s: s.name).map(tuple),
    st.lists(outputs, max_size=3).map(tuple),
    st.sampled_from(ScoreKind),
)
def test_a_signature_survives_its_json(inputs, outs, scores) -> None:
    signature = replace(
        build(list(inputs), input="tensor", labels=["x", "y", "z"], top_k=2),
        outputs=outs,
        scores=scores,
    )
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"form": "video"},
        {"inputs": {}},
        {"inputs": [{"name": "a"}]},
        {"inputs": [{"name": "a", "dtype": "f", "shape": ["x"]}]},
        {"extra": 1},
    ],
)
def test_a_stored_signature_is_read_strictly(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Signature.from_json({**build([DIGITS]).to_json(), **change})
