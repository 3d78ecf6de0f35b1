"""Shape buckets: who shares a pass, how it is padded and masked, and that it comes off again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput, ItemError
from storage.records.input_check import check_input
from storage.records.push_options import parse_push_options
from storage.records.serving import Serving
from storage.records.signatures import InputSpec, Signature, build_signature
from workers.inference.decode import decode_input
from workers.inference.ports import Follows, Row
from workers.inference.shapes import (
    FIXED,
    MIXED,
    allowed_sizes,
    cost_of,
    cost_per_row,
    cut,
    exact_shape,
    shape_of,
    stack,
)

TOKENS = InputSpec("tokens", "int32", (None,))
MASK = InputSpec("mask", "bool", (None,))
WORDS = InputSpec("words", "string", (None,))
PICTURE = InputSpec("pixels", "float32", (3, None, None))
PICTURE_MASK = InputSpec("seen", "uint8", (1, None, None))
FLAT = InputSpec("x", "float32", (2,))


def build(*inputs: InputSpec, serving: dict[str, Any] | None = None, **said: Any) -> Signature:
    return build_signature(list(inputs), parse_push_options({"serving": serving or {}, **said}))


def tokens(*values: int) -> Row:
    return {"tokens": np.array(values, dtype=np.int32)}


PADDED = build(TOKENS, MASK, serving={"pad": {"tokens": {"sizes": [2, 4, 8], "mask": "mask"}}})
SEEN = build(PICTURE, PICTURE_MASK, serving={"pad": {"pixels": {"sizes": [2, 4], "mask": "seen"}}})


def test_a_model_without_open_axes_has_one_bucket() -> None:
    assert shape_of(build(FLAT), [{"x": np.zeros(2, np.float32)}] * 2) == FIXED


def test_an_item_goes_into_the_smallest_size_that_holds_it() -> None:
    shapes = [shape_of(PADDED, [tokens(*range(n))]) for n in (0, 1, 2, 3, 4, 5, 8)]
    assert shapes == ["2", "2", "2", "4", "4", "8", "8"]
    row = {"pixels": np.zeros((3, 1, 4), np.float32)}
    assert shape_of(SEEN, [row]) == "2x4" and exact_shape(SEEN, row) == "1x4"


def test_the_rows_of_one_job_may_fall_into_several_buckets() -> None:
    assert shape_of(PADDED, [tokens(1), tokens(1, 2)]) == "2"
    assert shape_of(PADDED, [tokens(1), tokens(1, 2, 3)]) == MIXED
    assert shape_of(PADDED, []) == FIXED


def test_without_a_declaration_only_equal_shapes_share_a_pass() -> None:
    plain = build(TOKENS)
    assert shape_of(plain, [tokens(1, 2, 3)]) == "3"
    assert shape_of(plain, [tokens(1), tokens(1, 2)]) == MIXED
    batch = stack(plain, [tokens(1, 2), tokens(3, 4)], "2", 4)
    assert batch["tokens"].tolist() == [[1, 2], [3, 4], [1, 2], [1, 2]]


def test_padding_fills_behind_the_data_and_the_mask_tells_where() -> None:
    batch = stack(PADDED, [tokens(7), tokens(1, 2, 3)], "4", 3)
    assert batch["tokens"].tolist() == [[7, 0, 0, 0], [1, 2, 3, 0], [7, 0, 0, 0]]
    assert batch["mask"].dtype == np.bool_
    assert batch["mask"].astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]


def test_a_picture_is_padded_along_both_sides() -> None:
    row = {"pixels": np.ones((3, 1, 2), np.float32)}
    batch = stack(SEEN, [row], "2x4", 1)
    assert batch["pixels"].shape == (1, 3, 2, 4) and batch["pixels"].sum() == 6
    assert batch["seen"].dtype == np.uint8
    assert batch["seen"].tolist() == [[[[1, 1, 0, 0], [0, 0, 0, 0]]]]


def test_the_pusher_says_what_fills() -> None:
    model = build(WORDS, serving={"pad": {"words": {"sizes": [3], "value": "<pad>"}}})
    batch = stack(model, [{"words": np.array(["a"], dtype=object)}], "3", 1)
    assert batch["words"].tolist() == [["a", "<pad>", "<pad>"]]
    other = build(TOKENS, serving={"pad": {"tokens": {"sizes": [3], "value": -1}}})
    assert stack(other, [tokens(5)], "3", 1)["tokens"].tolist() == [[5, -1, -1]]


def test_a_text_of_no_shape_is_stacked_as_text() -> None:
    text = np.array(["hello"], dtype=object).reshape(())
    batch = stack(build(InputSpec("t", "string", ())), [{"t": text}] * 2, FIXED, 3)
    assert batch["t"].tolist() == ["hello"] * 3


@pytest.mark.parametrize(
    ("serving", "lengths", "cost"),
    [
        ({}, [1, 3, 8], 3),
        ({"cost": "tokens"}, [1, 3, 8], 2 + 4 + 8),
        ({"cost": "tokens"}, [], 0),
    ],
)
def test_cost_counts_rows_or_what_they_are_padded_to(serving, lengths, cost) -> None:
    model = build(TOKENS, serving={"pad": {"tokens": {"sizes": [2, 4, 8]}}, **serving})
    assert cost_of(model, [tokens(*range(n)) for n in lengths]) == cost


def test_the_cost_of_a_picture_is_its_pixels() -> None:
    model = build(PICTURE, serving={"cost": "pixels", "pad": {"pixels": {"sizes": [2, 4]}}})
    assert cost_per_row(model, "2x4") == 8
    fixed = build(
        PICTURE, serving={"cost": "pixels"}, input="image", image={"height": 5, "width": 7}
    )
    assert cost_per_row(fixed, FIXED) == 35
    assert cost_of(fixed, [{}, {}]) == 70


def test_allowed_sizes_keep_to_the_operators_bound() -> None:
    assert allowed_sizes(Serving(), 8) == (1, 2, 4, 8)
    assert allowed_sizes(Serving(max_batch=5), 512) == (1, 2, 4)
    assert allowed_sizes(Serving(batch_sizes=(3, 9, 30)), 10) == (3, 9)
    assert allowed_sizes(Serving(batch_sizes=(16, 32)), 4) == (4,)


def test_an_item_longer_than_every_size_is_too_long() -> None:
    given = {"tensor": list(range(9))}
    with pytest.raises(InvalidInput) as early:
        check_input(PADDED, given)
    with pytest.raises(ItemError) as late:
        decode_input(PADDED, orjson.dumps(given))
    assert early.value.stable_code == late.value.stable_code == "too_long"
    assert early.value.field == "input.tensor"
    assert "9" in early.value.message and "8" in early.value.message
    items = decode_input(PADDED, orjson.dumps({"items": [given, {"tensor": [1]}]})).rows
    assert isinstance(items[0], ItemError) and not isinstance(items[1], ItemError)


def test_a_mask_is_neither_asked_for_nor_taken() -> None:
    for sent in ({"tensor": [1, 2]}, {"inputs": {"tokens": [1, 2]}}):
        check_input(PADDED, sent)
        assert list(decode_input(PADDED, orjson.dumps(sent)).rows[0]) == ["tokens"]
    both = {"inputs": {"tokens": [1], "mask": [1]}}
    with pytest.raises(InvalidInput) as early:
        check_input(PADDED, both)
    with pytest.raises(ItemError) as late:
        decode_input(PADDED, orjson.dumps(both))
    assert early.value.stable_code == late.value.stable_code == "unknown_input"


def test_a_picture_of_any_size_keeps_it(tmp_path) -> None:
    import base64
    import io

    from PIL import Image

    pixels = InputSpec("pixels", "float32", (None, None, 1))
    serving = {"pad": {"pixels": {"sizes": [8]}}}
    model = build(pixels, serving=serving, input="image")
    out = io.BytesIO()
    Image.new("L", (5, 3), 255).save(out, "PNG")
    picture = {"image": base64.b64encode(out.getvalue()).decode()}
    (row,) = decode_input(model, orjson.dumps(picture)).rows
    assert row["pixels"].shape == (3, 5, 1) and row["pixels"].min() == 1
    assert shape_of(model, [row]) == "8x8"
    small = build(pixels, serving={"pad": {"pixels": {"sizes": [4]}}}, input="image")
    with pytest.raises(ItemError) as caught:
        decode_input(small, orjson.dumps(picture))
    assert caught.value.stable_code == "too_long"


rules = st.builds(
    Follows,
    st.just("tokens"),
    st.just(0),
    scale=st.integers(1, 3),
    add=st.integers(0, 3),
    by=st.integers(1, 4),
)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), rules)
def test_every_row_comes_back_as_long_as_its_item_makes_it(lengths, rule) -> None:
    rows = [tokens(*range(10 * n, 11 * n)) for n in lengths]
    batch = stack(PADDED, rows, "8", 8)
    grown = np.arange(8 * rule.length(8)).reshape(8, -1)
    one = batch["tokens"].sum(axis=1)
    found = cut(PADDED, {"grown": (rule,)}, {"grown": grown, "one": one}, rows)
    assert [len(row) for row in found["grown"]] == [rule.length(n) for n in lengths]
    for index, row in enumerate(found["grown"]):
        assert row.tolist() == grown[index][: rule.length(lengths[index])].tolist()
    assert found["one"].tolist() == [int(row["tokens"].sum()) for row in rows]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.integers(6, 9))
def test_what_the_mask_shows_is_exactly_the_data(lengths, bucket) -> None:
    rows = [tokens(*range(1, n + 1)) for n in lengths]
    batch = stack(PADDED, rows, "8", bucket)
    for index in range(bucket):
        have = rows[index if index < len(rows) else 0]["tokens"]
        assert batch["tokens"][index][batch["mask"][index]].tolist() == have.tolist()
        assert not batch["tokens"][index][~batch["mask"][index]].any()


def test_a_replaced_signature_keeps_its_open_axes() -> None:
    assert replace(PADDED, top_k=1).varying == (TOKENS,)
