"""Labels: words to classes by the map that was given or by what there is, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from storage.records.training import Preparation, Task
from workers.training.data.complaints import (
    Mask,
    Verdict,
    label_missing,
    label_not_number,
    label_unknown,
)
from workers.training.data.pieces import ColumnInfo, Kind
from workers.training.data.trouble import told
from workers.training.data.values import (
    Words,
    key_of,
    numbers_of,
    plain_words,
    replaced,
    single_column,
    sorted_words,
)

MAX_CLASSES = 10_000
IntArray = npt.NDArray[np.int64]


class Labels:
    """Of all rows, 4 bytes each."""

    def __init__(self, column: ColumnInfo, prepare: Preparation, task: Task) -> None:
        self._column, self._prepare, self._task = column, prepare, task
        self._given = dict(prepare.labels)
        self._by_value = {key_of(raw): name for raw, name in prepare.labels}
        self._words = Words()
        self._names: dict[str, None] = dict.fromkeys(name for _, name in prepare.labels)
        if len(self._names) > MAX_CLASSES:
            raise self._too_many()
        self._values: npt.NDArray[Any] = np.empty(0)
        self._kept: list[npt.NDArray[Any]] = []

    def drop_unknown(self, verdict: Verdict) -> None:
        """Of rows that the spec leaves out by their label nothing else is asked, so it comes
        before their features are read."""
        if self._given and self._prepare.drop_unknown_labels:
            codes, found = self._coded(self._as_written(self._column_of(verdict)))
            verdict.drop("label_unknown", (found < 0) & (codes >= 0))

    def read(self, verdict: Verdict) -> None:
        """Which rows have none, or a strange one."""
        column = self._column_of(verdict)
        if self._task is Task.NUMBERS:
            self._values = self._read_numbers(verdict, column)
        elif self._given:
            self._values = self._read_given(verdict, self._as_written(column))
        else:
            self._values = self._read_words(verdict, self._as_written(column))

    def write(self, keep: Mask) -> None:
        self._kept.append(self._values[keep])

    def codes(self, keep: Mask) -> npt.NDArray[Any]:
        """What tells the labels of the piece's rows from each other."""
        return self._values[keep]

    def numbers(self) -> npt.NDArray[np.float32]:
        """Of a task of numbers."""
        return np.concatenate([np.empty(0, np.float32), *self._kept])

    def classes(self, alive: Mask) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
        """The labels' names in order, and each row's, once; learned ones are those of rows that are
        ``alive``. ``InvalidInput`` (``too_many_classes``)."""
        codes = np.concatenate([np.empty(0, np.int32), *self._kept])
        self._kept = []
        if self._given:
            return tuple(self._names), codes
        words = self._words.words
        counts = np.bincount(codes[alive], minlength=len(words))
        chosen = sorted_words([word for word, count in zip(words, counts, strict=True) if count])
        if len(chosen) > MAX_CLASSES:
            raise self._too_many()
        if chosen == words:
            return tuple(chosen), codes
        places = {word: at for at, word in enumerate(chosen)}
        table = np.array([places.get(word, 0) for word in words] or [0], np.int32)
        return tuple(chosen), table[codes]

    def _read_numbers(self, verdict: Verdict, column: Any) -> npt.NDArray[np.float32]:
        values, wrong = numbers_of(column)
        with np.errstate(over="ignore"):
            numbers: npt.NDArray[np.float32] = values.astype(np.float32)
        missing = np.isnan(numbers) & ~wrong
        wrong = wrong | np.isinf(numbers)
        self._refuse(verdict, label_not_number, wrong, column)
        verdict.refuse(label_missing, self._column.name, missing)
        return numbers

    def _read_given(self, verdict: Verdict, column: Any) -> npt.NDArray[np.int32]:
        codes, found = self._coded(column)
        verdict.refuse(label_missing, self._column.name, codes < 0)
        if not self._prepare.drop_unknown_labels:
            self._refuse(verdict, label_unknown, (found < 0) & (codes >= 0), column)
        return found

    def _coded(self, column: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """By row a number of its word, -1 where it has none, and its label by the map, -1 where
        that has none."""
        words = Words()
        codes = words.codes(column)
        places = {name: at for at, name in enumerate(self._names)}
        names = (self._given.get(one, self._by_value.get(key_of(one))) for one in words.words)
        table = np.array([-1 if one is None else places[one] for one in names] + [-1], np.int32)
        return codes, table[codes]

    def _read_words(self, verdict: Verdict, column: Any) -> npt.NDArray[np.int32]:
        codes = self._words.codes(column)
        verdict.refuse(label_missing, self._column.name, codes < 0)
        if len(self._words.numbers) > MAX_CLASSES:
            raise self._too_many()
        return codes

    def _column_of(self, verdict: Verdict) -> Any:
        name = self._column.name
        column = single_column(verdict.piece.columns[name])
        return replaced(column, self._prepare.replace.get(name, {}))

    def _refuse(self, verdict: Verdict, says: Any, mask: Mask, column: Any) -> None:
        mask = mask & verdict.keep
        if mask.any():
            value = column[int(np.argmax(mask))].as_py()
            verdict.refuse(says, self._column.name, mask, value)

    def _as_written(self, column: Any) -> Any:
        """By the numbers' words, where the column holds numbers but was read as texts."""
        return column if self._column.kind is Kind.TEXT else plain_words(column)

    def _too_many(self) -> InvalidInput:
        return InvalidInput(
            f"the label {self._column.name!r} has more than {MAX_CLASSES} different values: to"
            " learn numbers choose a loss for numbers, such as mean_squared_error",
            code="too_many_classes",
            field="data.label",
        )


def check_classes(
    names: Sequence[str], counts: npt.NDArray[np.int64], column: str, *, binary: str | None
) -> None:
    """``InvalidInput``: ``bad_label``, ``class_too_small``, ``one_class``, ``not_two_classes``."""
    for name, count in zip(names, counts.tolist(), strict=True):
        if "\x00" in name:  # nothing that is served may be called so
            raise InvalidInput(
                f"the label {told(name)} of {column!r} has a NUL in it: give it another name by"
                " prepare.labels, or mend the file",
                code="bad_label",
                field="data.label",
            )
        if count < 2:
            raise InvalidInput(
                f"the class {name!r} of {column!r} has {count} example{'s' * (count != 1)}: it can"
                " be in no split; a class needs two at least. Add some, or leave the class out by"
                " data.where",
                code="class_too_small",
                field="data.label",
            )
    if len(names) < 2:
        raise InvalidInput(
            f"every row has the label {names[0]!r}: there is nothing to tell apart. Add rows of"
            " other classes, or see that data.label names the right column",
            code="one_class",
            field="data.label",
        )
    if binary is not None and len(names) != 2:
        raise InvalidInput(
            f"{binary} tells two classes apart, and {column!r} has {len(names)}: choose"
            " categorical_crossentropy or sparse_categorical_crossentropy",
            code="not_two_classes",
            field="loss",
        )
