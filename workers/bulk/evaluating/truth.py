"""What is so: a label column's values as the model's labels, or as numbers.

Values are spelled as training spells its labels: ``3.0`` is ``3``, booleans are ``true`` and
``false``, a blank text is none. A text that is not spelled like a label means the label that is the
same number, if there is one (``03`` is ``3``). Of lists that are as long as there are labels, all
nothing but one 1, the place of the 1 counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from workers.bulk.evaluating.target import CLASSES, Target
from workers.inference.ports import Array
from workers.training.data.values import Words, key_of, number_of, word_of

MOST_SHOWN = 20  # values that the model has no label for
_MISSING, _UNKNOWN = -1, -2

Mask = npt.NDArray[np.bool_]


class Truth:
    """Reads one run's label column, chunk by chunk, and counts what cannot be used."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.unlabelled = self.unknown = 0
        self.unknown_values: dict[str, None] = {}
        self._places = {label: at for at, label in enumerate(target.labels)}
        self._of_truth = _truths(self._places)
        keys: dict[object, int] = {}
        for at, label in enumerate(target.labels):
            keys[key_of(label)] = _UNKNOWN if key_of(label) in keys else at
        self._by_key = keys

    def read(self, column: pa.Array) -> tuple[Array, Mask]:
        """The labels' places, int64 (n,), or numbers, float64 (n, width); and which rows have
        one: what the others hold means nothing."""
        column = plain(column)
        if self._target.task == CLASSES:
            values = self._classes(column)
            missing, unknown = values == _MISSING, values == _UNKNOWN
        else:
            values, missing, unknown = self._numbers(column)
        self.unlabelled += int(missing.sum())
        self.unknown += int(unknown.sum())
        self._show(column, unknown)
        return values, ~(missing | unknown)

    def _classes(self, column: pa.Array) -> Array:
        if _is_list(column.type):
            return self._one_hot(column)
        words = Words()
        codes = words.codes(column)
        table = np.array([*(self._place(word) for word in words.words), _MISSING], np.int64)
        found: Array = table[codes]
        return found

    def _place(self, word: str) -> int:
        place = self._places.get(word, self._of_truth.get(word))
        return self._by_key.get(key_of(word), _UNKNOWN) if place is None else place

    def _one_hot(self, column: pa.Array) -> Array:
        values, missing, unknown = _rectangle(column, len(self._target.labels))
        ones = (values == 1).sum(axis=1) + (values == 0).sum(axis=1) * (1 << 32)
        single = ones == 1 + ((values.shape[1] - 1) << 32)
        found = np.where(single & ~unknown, values.argmax(axis=1), _UNKNOWN)
        return np.where(missing, _MISSING, found).astype(np.int64)

    def _numbers(self, column: pa.Array) -> tuple[Array, Mask, Mask]:
        if _is_list(column.type):
            return _rectangle(column, self._target.width)
        values, wrong = _floats(column)
        missing = np.isnan(values) & ~wrong
        return values.reshape(-1, 1), missing, wrong | np.isinf(values)

    def _show(self, column: pa.Array, unknown: Mask) -> None:
        if len(self.unknown_values) >= MOST_SHOWN or not unknown.any():
            return
        some = column.filter(pa.array(unknown))
        for value in some.to_pylist()[:100_000]:
            self.unknown_values.setdefault((word_of(value) or "")[:200])
            if len(self.unknown_values) >= MOST_SHOWN:
                return


def _truths(places: Mapping[str, int]) -> dict[str, int]:
    """Where ``true`` and ``false`` lead in a column of booleans, for a model that spells them in
    another way: ``True`` and ``False``, or 1 and 0."""
    for no, yes in (("False", "True"), ("FALSE", "TRUE"), ("0", "1")):
        if {no, yes} == places.keys():
            return {"false": places[no], "true": places[yes]}
    return {}


def words_of(column: pa.Array) -> pa.Array:
    """The values as labels are spelled, null where there is none: what answers are compared with
    that a model gives as text."""
    words = Words()
    codes = words.codes(as_texts(column))
    texts = pa.array([*words.words, None], pa.string())
    return texts.take(pa.array(np.where(codes < 0, len(words.words), codes)))


def as_texts(column: pa.Array) -> pa.Array:
    """A column whose values have words: lists as they print, moments as they are written."""
    column = plain(column)
    if pa.types.is_temporal(column.type):
        return column.cast(pa.string())
    if pa.types.is_nested(column.type):
        return pa.array([None if one is None else str(one) for one in column.to_pylist()])
    return column


def plain(column: pa.Array) -> pa.Array:
    """A column that can be told apart by its values; lists of a single value as that value."""
    if isinstance(column, pa.ExtensionArray):  # an array of several axes
        column = column.storage
    while pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:
        column = pc.list_element(column, 0)
    if pa.types.is_nested(column.type) and not _is_list(column.type):
        column = pa.array([None if one is None else str(one) for one in column.to_pylist()])
    return column


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _floats(column: pa.Array) -> tuple[Array, Mask]:
    """Float64, NaN where there is none; and which are no numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), _none(column)
    if pa.types.is_boolean(column.type):
        return column.cast(pa.uint8()).cast(pa.float64()).to_numpy(zero_copy_only=False), _none(
            column
        )
    told = [None if value is None else number_of(str(value)) for value in column.to_pylist()]
    wrong = np.array(
        [one is None and given.is_valid for one, given in zip(told, column, strict=True)], np.bool_
    )
    return np.array([np.nan if one is None else one for one in told], np.float64), wrong


def _none(column: pa.Array) -> Mask:
    return np.zeros(len(column), np.bool_)


def _rectangle(column: pa.Array, width: int) -> tuple[Array, Mask, Mask]:
    """Lists as float64 (n, width); which are missing, and which are something else."""
    rows = len(column)
    missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)
    values = np.full((rows, width), np.nan)
    for at, one in enumerate(_lists(column)):
        if one is not None and len(one) == width:
            values[at] = one
    return values, missing, ~missing & ~np.isfinite(values).all(axis=1)


def _lists(column: pa.Array) -> Sequence[Array | None]:
    if not column.null_count and pa.types.is_fixed_size_list(column.type):
        flat, rows = column, len(column)
        while _is_list(flat.type):
            flat = flat.flatten()
        if len(flat) and not flat.null_count and rows:
            return list(flat.to_numpy(zero_copy_only=False).reshape(rows, -1).astype(np.float64))
    return [_list_of(value) for value in column.to_pylist()]


def _list_of(value: object) -> Array | None:
    if value is None:
        return None
    try:
        return np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return np.empty(0)
