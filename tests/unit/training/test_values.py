"""Cells as words and as numbers, as somebody who wrote them meant them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from workers.training.data.trouble import nearest
from workers.training.data.values import (
    Words,
    numbers_of,
    plain_words,
    replaced,
    sorted_words,
    word_of,
)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (3, "3"),
        (3.0, "3"),
        (3.5, "3.5"),
        (True, "true"),
        ("yes", "yes"),
        ("", None),
        (" ", None),
        (None, None),
        (math.nan, None),
    ],
)
def test_a_value_is_called(value: object, word: str | None) -> None:
    assert word_of(value) == word


def test_numbers_are_sorted_as_numbers_and_words_as_words() -> None:
    assert sorted_words(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert sorted_words(["10", "9", "x"]) == ["10", "9", "x"]
    assert sorted_words(["nan", "9"]) == ["9", "nan"]


def test_words_are_numbered_as_they_come() -> None:
    words = Words()
    assert words.codes(pa.array(["b", None, "a", "b"])).tolist() == [0, -1, 1, 0]
    assert words.codes(pa.array(["c", "a"])).tolist() == [2, 1]
    assert words.codes(pa.array([], pa.string())).tolist() == []
    assert words.words == ["b", "a", "c"]


def test_texts_of_numbers_are_numbers() -> None:
    values, wrong = numbers_of(pa.array(["1", " 2.5", "", "NA", "x", None]))
    np.testing.assert_array_equal(values, [1, 2.5, np.nan, np.nan, np.nan, np.nan])
    assert wrong.tolist() == [False, False, False, False, True, False]


def test_rules_replace_numbers_by_value_and_texts_by_text() -> None:
    assert replaced(pa.array([1.0, -999.0, None]), {"-999": None}).to_pylist() == [1, None, None]
    assert replaced(pa.array([1, 2]), {"1.0": 5}).to_pylist() == [5, 2]
    assert replaced(pa.array(["a", "b", None]), {"a": "c"}).to_pylist() == ["c", "b", None]
    assert replaced(pa.array(["a", "b"]), {"a": None}).to_pylist() == [None, "b"]
    assert replaced(pa.array(["?", "2"]), {"?": 1}).to_pylist() == ["1", "2"]


def test_what_was_meant() -> None:
    assert nearest("heigth", ["height", "width"]) == "; did you mean 'height'?"
    assert nearest("qqq", ["height"]) == ""


def test_a_number_that_was_read_as_a_text_has_its_own_word() -> None:
    told = ["3.0", " 3", "007", "-0", "TRUE", "NA", "x", "1_000", "1e3", "9" * 500, None]
    said = ["3", "3", "7", "0", "true", None, "x", "1_000", "1000", "9" * 500, None]
    assert plain_words(pa.array(told)).to_pylist() == said
    big = ["12345678901234567", "12345678901234568", "-9007199254740993"]
    assert plain_words(pa.array(big)).to_pylist() == big


def test_what_only_python_calls_a_number_is_none() -> None:
    assert numbers_of(pa.array(["1_000", "\u0661"]))[1].all()


def test_a_rule_for_one_large_number_is_for_no_other() -> None:
    first, second = 2**53, 2**53 + 1
    rules = {str(second): 5}
    assert replaced(pa.array([first, second]), rules).to_pylist() == [first, 5]
    assert replaced(pa.array([first, second]), {str(second): None}).to_pylist() == [first, None]
    assert replaced(pa.array([str(first), str(second)]), rules).to_pylist() == [str(first), "5"]
