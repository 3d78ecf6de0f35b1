"""Buckets are tried before a job comes, what costs least first, as far as the budget goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, build_signature
from workers.inference.ports import Array, DeviceOutOfMemory, ModelBroken
from workers.runtime.warming import warm

TOKENS = InputSpec("tokens", "int32", (None,))
FLAT = InputSpec("x", "float32", (2,))
Forward = Callable[[Mapping[str, Array]], dict[str, Array]]


class Clock:
    """Moves by a second with each pass."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def warmed(
    spec: InputSpec,
    sizes: tuple[int, ...],
    budget_s: float = 1e9,
    *,
    forward: Forward | None = None,
    **pad: Any,
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    signature = build_signature([spec], parse_push_options({"serving": {"pad": pad}}))
    clock, seen = Clock(), []

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(inputs[spec.name].shape)
        clock.now_s += 1
        return forward(inputs) if forward else {"y": np.zeros(len(inputs[spec.name]))}

    fit = warm(signature, sizes, run, refusals=ValueError, budget_s=budget_s, monotonic_s=clock)
    return fit, seen


def test_every_size_is_tried_once_small_ones_first() -> None:
    assert warmed(FLAT, (1, 2, 4)) == ((1, 2, 4), [(1, 2), (2, 2), (4, 2)])


def test_what_the_budget_leaves_out_stays_allowed() -> None:
    assert warmed(FLAT, (1, 2, 4, 8), budget_s=1.5) == ((1, 2, 4, 8), [(1, 2), (2, 2)])


def test_sizes_and_lengths_are_tried_together_by_what_they_cost() -> None:
    _, seen = warmed(TOKENS, (1, 8), tokens={"sizes": [4, 16, 64]})
    assert seen == [(1, 4), (1, 16), (8, 4), (1, 64), (8, 16), (8, 64)]


def crowded(most: int) -> Forward:
    def forward(inputs: Mapping[str, Array]) -> dict[str, Array]:
        (array,) = inputs.values()
        if array.size > most:
            raise DeviceOutOfMemory("no room")
        return {"y": np.zeros(len(array))}

    return forward


def test_a_size_that_does_not_fit_and_all_larger_ones_are_not_offered() -> None:
    fit, seen = warmed(FLAT, (1, 2, 4, 8), forward=crowded(5))
    assert fit == (1, 2) and seen[-1] == (4, 2)


def test_a_length_that_does_not_fit_takes_no_size_from_the_others() -> None:
    fit, _ = warmed(TOKENS, (1, 8), forward=crowded(100), tokens={"sizes": [4, 64]})
    assert fit == (1, 8)


def test_a_version_of_which_not_one_row_fits_is_no_use_here() -> None:
    with pytest.raises(DeviceOutOfMemory):
        warmed(FLAT, (1, 2), forward=crowded(1))


def test_another_number_of_answers_breaks_the_model() -> None:
    with pytest.raises(ModelBroken) as caught:
        warmed(FLAT, (1, 2, 4), forward=lambda inputs: {"y": inputs["x"][:3]})
    assert caught.value.stable_code == "wrong_batch_axis"


def test_a_model_that_refuses_made_up_values_is_not_blamed() -> None:
    def refuse(_: Mapping[str, Array]) -> dict[str, Array]:
        raise ValueError("no such word")

    assert warmed(FLAT, (1, 2), forward=refuse) == ((1, 2), [(1, 2)])
