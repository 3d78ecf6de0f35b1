"""Cells of a column as numbers and as words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
_MISSING = ("", "nan", "na", "n/a", "null", "none")
_WHOLE = re.compile(r"-?[0-9]{1,400}")
_INT64 = range(-(2**63), 2**63)


def word_of(value: object) -> str | None:
    """A value as a label or a category is called; None where there is none. ``3.0`` is ``3``."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value)
    return text if text.strip() else None


def sorted_words(words: Sequence[str]) -> list[str]:
    """Numbers by their value, where all are numbers; else as texts."""
    try:
        numbers = [float(one) for one in words]
    except ValueError:
        return sorted(words)
    if not all(math.isfinite(one) for one in numbers):
        return sorted(words)
    return [word for _, word in sorted(zip(numbers, words, strict=True))]


def number_of(word: str) -> float | None:
    """A text as the number that it is written as; NaN where it says that there is none."""
    text = word.strip()
    if text.lower() in _MISSING:
        return math.nan
    if "_" in text or not text.isascii():  # Python's own numbers, and nobody's data
        return None
    try:
        return float(text)
    except ValueError:
        return None


def value_of(word: str) -> int | float | None:
    """The same exactly: whole numbers of any size are themselves, and not the nearest double."""
    return int(word) if _WHOLE.fullmatch(word.strip()) else number_of(word)


def single_column(column: Any) -> Any:
    """An array of one number a row as a column; a column as it is."""
    return pa.array(column.reshape(-1)) if isinstance(column, np.ndarray) else column


def plain_words(column: Any) -> Any:
    """A column of numbers or booleans that was read as text, by its values' words: ``3.0`` is
    ``3`` and ``NA`` is missing. What is none of them stays what it is."""
    if not pa.types.is_string(column.type):
        return column
    encoded = pc.dictionary_encode(column)
    words = [plain_word(one) for one in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def plain_word(word: str) -> str | None:
    """One of them."""
    value = value_of(word)
    if value is None:
        return word.lower() if word.lower() in ("true", "false") else word
    return word if isinstance(value, float) and math.isinf(value) else word_of(value)


def numbers_of(column: Any) -> tuple[Any, Mask]:
    """A column as floats or whatever numbers it has, missing ones NaN; and which are no numbers."""
    none = np.zeros(len(column), np.bool_)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if pa.types.is_string(column.type):
        return _parsed(column)
    if column.type == pa.null():
        return np.full(len(column), np.nan, np.float32), none
    return column.to_numpy(zero_copy_only=False), none


def _parsed(column: Any) -> tuple[Any, Mask]:
    encoded = pc.dictionary_encode(column)
    told = [number_of(word) for word in encoded.dictionary.to_pylist()]
    values = np.array([math.nan if one is None else one for one in [*told, math.nan]])
    wrong = np.array([one is None for one in [*told, 0.0]])
    codes = encoded.indices.fill_null(len(told)).to_numpy()
    return values[codes], wrong[codes]


def replaced(column: Any, rules: Mapping[str, str | float | None]) -> Any:
    """The column with the cells that a rule names exchanged; a text's by its text, a number's by
    its value. None means missing. A number column with a text among its new values is text then."""
    if not rules:
        return column
    encoded = pc.dictionary_encode(column)
    old = encoded.dictionary.to_pylist()
    by_word = {key_of(one): value for one, value in rules.items()}
    new = [by_word.get(key_of(word_of(one) or ""), one) for one in old]
    if any(isinstance(one, str) for one in new):
        values = pa.array([word_of(one) for one in new], pa.string())
    elif all(one is None or (type(one) is int and one in _INT64) for one in new):
        values = pa.array(new, pa.int64())
    elif all(one is None or isinstance(one, int | float) for one in new):
        values = pa.array([None if one is None else float(one) for one in new], pa.float64())
    else:
        values = pa.array(new)
    return values.take(encoded.indices)


def key_of(word: str) -> str | int | float:
    """What a rule's word and a cell's have in common: the number, if they are one."""
    value = value_of(word)
    return word if value is None or math.isnan(value) else value


class Words:
    """The different words of a column, numbered as they come: what a column of them is kept as."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def codes(self, column: Any) -> npt.NDArray[np.int32]:
        """A number for each cell; -1 where it is missing."""
        encoded = pc.dictionary_encode(column)
        codes = [-1]
        for value in encoded.dictionary.to_pylist():
            word = word_of(value)
            codes.append(-1 if word is None else self.numbers.setdefault(word, len(self.numbers)))
        table = np.array(codes, np.int32)
        picked: npt.NDArray[np.int32] = table[encoded.indices.fill_null(-1).to_numpy() + 1]
        return picked

    @property
    def words(self) -> list[str]:
        """By number."""
        return list(self.numbers)
