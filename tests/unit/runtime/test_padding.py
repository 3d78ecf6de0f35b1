"""Padding is proved harmless before it is used, and growing answers are cut by a learned rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, OutputSpec, Signature, build_signature
from workers.inference.ports import Array, Follows, ModelBroken
from workers.runtime.padding import PaddingProbe

SOUND = InputSpec("sound", "float32", (None,))
MASK = InputSpec("mask", "float32", (None,))
GROWN = OutputSpec("grown", "float32", (None,))
Forward = Callable[[Mapping[str, Array]], dict[str, Array]]


def build(*inputs: InputSpec, **pad: dict[str, Any]) -> Signature:
    return build_signature(list(inputs), parse_push_options({"serving": {"pad": pad}}))


def windows(x: Array, size: int, stride: int) -> Array:
    """The sums of sliding windows, as a convolution without padding has them."""
    starts = range(0, x.shape[1] - size + 1, stride)
    return np.stack([x[:, s : s + size].sum(axis=1) for s in starts], axis=1)


def same(x: Array, stride: int) -> Array:
    """Means of strides, the last one shorter."""
    starts = range(0, x.shape[1], stride)
    return np.stack([x[:, s : s + stride].sum(axis=1) for s in starts], axis=1)


@pytest.mark.parametrize(
    ("compute", "rule"),
    [
        (lambda x: 2 * x, (1, 0, 1)),
        (lambda x: windows(x, 5, 1), (1, -4, 1)),
        (lambda x: windows(x, 4, 4), (1, 0, 4)),
        (lambda x: windows(x, 7, 3), (1, -4, 3)),
        (lambda x: same(x, 2), (1, 1, 2)),
        (lambda x: same(x, 16), (1, 15, 16)),
        (lambda x: np.repeat(x, 2, axis=1), (2, 0, 1)),
        (lambda x: np.repeat(same(x, 8), 8, axis=1), (8, 7, 8)),
    ],
)
def test_the_length_of_an_answer_is_learned(compute, rule: tuple[int, int, int]) -> None:
    signature = build(SOUND, sound={"sizes": [40, 200]})
    probe = PaddingProbe(lambda inputs: {"grown": compute(inputs["sound"])}, signature, 1)
    follows = probe.follows([GROWN])
    scale, add, by = rule
    assert follows == {"grown": (Follows("sound", 0, scale=scale, add=add, by=by),)}
    probe.check(follows)


def test_an_answer_that_does_not_grow_follows_nothing() -> None:
    signature = build(SOUND, sound={"sizes": [8]})
    probe = PaddingProbe(lambda inputs: {"grown": inputs["sound"][:, :3]}, signature, 1)
    assert probe.follows([GROWN]) == {}


def test_both_sides_of_a_picture_are_followed() -> None:
    pixels = InputSpec("pixels", "float32", (None, None, 1))
    signature = build(pixels, pixels={"sizes": [8, 24]})
    probe = PaddingProbe(lambda inputs: {"map": inputs["pixels"][:, ::2, 1:]}, signature, 1)
    follows = probe.follows([OutputSpec("map", "float32", (None, None, 1))])
    assert follows["map"] == (
        Follows("pixels", 0, add=1, by=2),
        Follows("pixels", 1, add=-1),
        None,
    )


def test_inputs_of_one_length_grow_together() -> None:
    kinds = InputSpec("kinds", "float32", (None,))
    signature = build(SOUND, kinds, sound={"sizes": [16]}, kinds={"sizes": [16]})
    probe = PaddingProbe(lambda i: {"grown": i["sound"] + i["kinds"]}, signature, 1)
    assert probe.follows([GROWN]) == {"grown": (Follows("sound", 0),)}


def test_each_answer_follows_its_own_input() -> None:
    other = InputSpec("other", "float32", (None,))
    signature = build(SOUND, other, sound={"sizes": [16]}, other={"sizes": [16]})
    probe = PaddingProbe(lambda i: {"a": i["other"], "b": i["sound"]}, signature, 1)
    outputs = [OutputSpec(name, "float32", (None,)) for name in "ab"]
    assert probe.follows(outputs) == {"a": (Follows("other", 0),), "b": (Follows("sound", 0),)}


@pytest.mark.parametrize(
    "compute",
    [
        lambda sound, other: np.concatenate([sound, other], axis=1),
        lambda sound, other: np.zeros((1, sound.shape[1] ** 2 % 97 + 1)),
    ],
    ids=["both one after the other", "no rule"],
)
def test_what_could_not_be_cut_back_must_not_be_padded(compute) -> None:
    other = InputSpec("other", "float32", (None,))
    signature = build(SOUND, other, sound={"sizes": [16]}, other={"sizes": [16]})
    probe = PaddingProbe(lambda i: {"grown": compute(i["sound"], i["other"])}, signature, 1)
    with pytest.raises(ModelBroken) as caught:
        probe.follows([GROWN])
    assert caught.value.stable_code == "padding_changes_answers"


def masked_mean(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {"y": (inputs["sound"] * inputs["mask"]).sum(1) / inputs["mask"].sum(1)}


@pytest.mark.parametrize(
    ("forward", "harmless"),
    [
        (masked_mean, True),
        (lambda i: {"y": i["sound"].sum(axis=1)}, True),
        (lambda i: {"y": i["sound"].max(axis=1)}, True),
        (lambda i: {"y": i["sound"].mean(axis=1)}, False),
        (lambda i: {"y": i["sound"][:, -1]}, False),
        (lambda i: {"y": np.full(len(i["sound"]), i["sound"].shape[1])}, False),
        (lambda i: {"y": np.where(i["mask"].all(1), 1.0, np.nan)}, False),
    ],
    ids=["masked", "sum", "max", "mean", "last", "length", "nan"],
)
def test_only_harmless_padding_passes(forward: Forward, harmless: bool) -> None:
    signature = build(SOUND, MASK, sound={"sizes": [6, 12], "mask": "mask"})
    probe = PaddingProbe(forward, signature, 1)
    if harmless:
        probe.check({})
    else:
        with pytest.raises(ModelBroken) as caught:
            probe.check({})
        assert caught.value.stable_code == "padding_changes_answers"


@pytest.mark.parametrize(
    ("dtype", "said", "fill"),
    [
        ("int32", {}, 0),
        ("int32", {"value": 1}, 1),
        ("int32", {"value": 7}, 7),
        ("bool", {}, False),
        ("bool", {"value": 1}, True),
        ("string", {}, ""),
        ("string", {"value": "one"}, "one"),
    ],
)
def test_harm_is_found_whatever_the_made_up_item_holds(
    dtype: str, said: dict[str, Any], fill: object
) -> None:
    """A short item of whole numbers is nothing but zeros one time in eight."""
    pad = {"sizes": [4, 16], **said}
    signature = build(InputSpec("words", dtype, (None,)), words=pad)

    def share_of_padding(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": (inputs["words"] == fill).mean(axis=1)}

    def last(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": (inputs["words"][:, -1] == fill).astype(np.float32)}

    for seed in range(64):
        for forward in (share_of_padding, last):
            with pytest.raises(ModelBroken, match="is another when it is padded"):
                PaddingProbe(forward, signature, seed).check({})
        harmless = PaddingProbe(lambda i: {"y": (i["words"] != fill).sum(axis=1)}, signature, seed)
        harmless.check({})


def test_harm_that_shows_only_in_the_largest_size_is_found() -> None:
    def forward(inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["sound"]
        return {"y": x.sum(axis=1) + (x.shape[1] == 64)}

    signature = build(SOUND, sound={"sizes": [6, 12, 64]})
    with pytest.raises(ModelBroken):
        PaddingProbe(forward, signature, 1).check({})


def test_a_model_that_has_no_answer_for_short_items_is_tried_with_longer_ones() -> None:
    def forward(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"grown": windows(inputs["sound"], 5, 1)}  # raises below five

    signature = build(SOUND, sound={"sizes": [8, 16]})
    probe = PaddingProbe(forward, signature, 1)
    follows = probe.follows([GROWN])
    assert follows == {"grown": (Follows("sound", 0, add=-4),)}
    probe.check(follows)


def test_a_model_that_answers_nothing_made_up_says_so_itself() -> None:
    def refuse(_: Mapping[str, Array]) -> dict[str, Array]:
        raise ValueError("no such word")

    probe = PaddingProbe(refuse, build(SOUND, sound={"sizes": [8]}), 1)
    for ask in (lambda: probe.check({}), lambda: probe.follows([GROWN])):
        with pytest.raises(ValueError, match="no such word"):
            ask()
