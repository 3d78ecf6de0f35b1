"""A label column says what is so, however its values are spelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.records.errors import InvalidInput
from tests.unit.bulk.evaluating.test_measures import model
from workers.bulk.evaluating.target import target_of
from workers.bulk.evaluating.truth import Truth, words_of

TEN = [str(digit) for digit in range(10)]


def read(labels: Any, column: pa.Array) -> tuple[list[int | None], Truth]:
    signature = model(len(labels), labels)
    truth = Truth(target_of(signature, column.type))
    values, good = truth.read(column)
    return [int(v) if ok else None for v, ok in zip(values, good, strict=True)], truth


@pytest.mark.parametrize(
    ("labels", "column", "places"),
    [
        (TEN, pa.array([3, 0, None]), [3, 0, None]),
        (TEN, pa.array([3.0, 0.5, float("nan")]), [3, None, None]),
        (TEN, pa.array([3, 9], pa.uint8()), [3, 9]),
        (TEN, pa.array(["3", "03", "3.0", "three"]), [3, 3, 3, None]),
        (["false", "true"], pa.array([True, None, False]), [1, None, 0]),
        (["False", "True"], pa.array([True, None, False]), [1, None, 0]),
        (["1", "0"], pa.array([True, None, False]), [0, None, 1]),
        (["no", "yes"], pa.array([True, None, False]), [None, None, None]),
        (["cat", "dog"], pa.array(["dog", "cat", ""]), [1, 0, None]),
        (["cat", "dog"], pa.array(["dog", "cat", "dog"]).dictionary_encode(), [1, 0, 1]),
        (["01", "1"], pa.array(["01", "1", "1.0"]), [0, 1, None]),  # which one, nobody knows
        (["a", "b"], pa.array([[0, 1], [1, 0], [1, 1], None]), [1, 0, None, None]),
        (["a", "b"], pa.FixedSizeListArray.from_arrays(pa.array([0.0, 1.0, 1.0, 0.0]), 2), [1, 0]),
        (TEN, pa.FixedSizeListArray.from_arrays(pa.array([7, 2]), 1), [7, 2]),
        (TEN, pa.nulls(2), [None, None]),
    ],
)
def test_labels_are_found_as_training_spells_them(
    labels: Any, column: pa.Array, places: list[int | None]
) -> None:
    assert read(labels, column)[0] == places


def test_what_cannot_be_used_is_counted_and_shown() -> None:
    column = pa.array([*range(-15, 15), None])
    _, truth = read(TEN, column)
    assert (truth.unlabelled, truth.unknown) == (1, 20)
    assert list(truth.unknown_values)[:2] == ["-15", "-14"] and len(truth.unknown_values) == 20
    _, truth = read(TEN, pa.array([f"x{at}" for at in range(99)]))
    assert len(truth.unknown_values) == 20


@pytest.mark.parametrize(
    ("column", "values", "unlabelled", "unknown"),
    [
        (pa.array([1.5, None, float("nan"), float("inf")]), [1.5], 2, 1),
        (pa.array([1, 2]), [1.0, 2.0], 0, 0),
        (pa.array(["1.5", "NA", "much"]), [1.5], 1, 1),
        (pa.array([True, False]), [1.0, 0.0], 0, 0),
    ],
)
def test_numbers_are_read_from_whatever_holds_them(
    column: pa.Array, values: list[float], unlabelled: int, unknown: int
) -> None:
    truth = Truth(target_of(model(1, scores="auto"), column.type))
    found, good = truth.read(column)
    assert found[good].reshape(-1).tolist() == values
    assert (truth.unlabelled, truth.unknown) == (unlabelled, unknown)


def test_lists_are_numbers_of_as_many_outputs_and_others_are_counted() -> None:
    column = pa.array([[1.0, 2.0], [3.0], None, [1.0, None]])
    truth = Truth(target_of(model(2, scores="auto"), column.type))
    found, good = truth.read(column)
    assert good.tolist() == [True, False, False, False] and found[0].tolist() == [1.0, 2.0]
    assert (truth.unlabelled, truth.unknown) == (1, 2)


@pytest.mark.parametrize(
    ("width", "scores", "column", "task", "labels"),
    [
        (3, "auto", pa.int64(), "classes", ("0", "1", "2")),
        (3, "auto", pa.list_(pa.float32(), 3), "numbers", ()),
        (1, "auto", pa.int64(), "numbers", ()),
        (1, "probabilities", pa.int64(), "classes", ("0", "1")),
        (1, "logits", pa.bool_(), "classes", ("false", "true")),
        (1, "probabilities", pa.float64(), "numbers", ()),
    ],
)
def test_what_a_model_without_labels_is_asked_depends_on_the_column(
    width: int, scores: str, column: pa.DataType, task: str, labels: tuple[str, ...]
) -> None:
    target = target_of(model(width, scores=scores), column)
    assert (target.task, target.labels) == (task, labels)


def test_a_list_of_another_length_is_refused_before_anything_is_scored() -> None:
    with pytest.raises(InvalidInput, match="lists of 4 numbers") as caught:
        target_of(model(3, scores="auto"), pa.list_(pa.float32(), 4))
    assert caught.value.stable_code == "labels_mismatch"


def test_words_are_spelled_as_labels_are() -> None:
    column = pa.array([3.0, None, 0.5])
    assert words_of(column).to_pylist() == ["3", None, "0.5"]
    assert words_of(pa.array([True, False])).to_pylist() == ["true", "false"]
    assert words_of(pa.array([], pa.int64())).to_pylist() == []
    assert np.array_equal(words_of(pa.array(["a", " "])).to_pylist(), ["a", None])


def test_whatever_a_column_holds_has_words() -> None:
    nanoseconds = pa.array([1_000_000_001, None], pa.timestamp("ns"))
    assert words_of(nanoseconds).to_pylist() == ["1970-01-01 00:00:01.000000001", None]
    assert words_of(pa.array([[0, 1], None])).to_pylist() == ["[0, 1]", None]
    assert words_of(pa.array([True, 3 == 4])).to_pylist() == ["true", "false"]
