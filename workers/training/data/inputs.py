"""From columns of pieces to rows of an input: numbers in one shape, pictures, single arrays.

``read`` takes a piece and says which of its rows cannot be used; ``write`` keeps the others. What
is not known before all rows were seen is done in ``finish``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.records.push_options import Column
from storage.records.training import MissingRule, Preparation
from workers.training.data.complaints import (
    Mask,
    Verdict,
    feature_missing,
    feature_not_number,
)
from workers.training.data.flat import FlatFile, bytes_view
from workers.training.data.pieces import ColumnInfo
from workers.training.data.roles import PICTURE, GridRole, TensorRole
from workers.training.data.trouble import bad_rule
from workers.training.data.values import numbers_of, replaced

LEARNED = ("mean", "median")


class NotBytes(Exception):
    """What was to be kept as bytes holds something else: read it as floats."""


@dataclass(frozen=True, slots=True)
class KeptInput:
    """An input, whole. ``scaled`` says which numbers of its last axis take part in scaling."""

    name: str
    file: FlatFile
    scaled: Mask | None = None  # None: all
    names: tuple[str, ...] = ()  # of the last axis's numbers
    columns: tuple[Column, ...] = ()  # as callers of the version write them
    vocabulary: tuple[str, ...] = ()
    note: Mapping[str, Any] = field(default_factory=dict)


class Input(Protocol):
    """One input of the network, while its rows are gathered."""

    def read(self, verdict: Verdict) -> None: ...

    def write(self, keep: Mask) -> None: ...

    def bytes_of(self, keep: Mask) -> Iterator[bytes | memoryview]:
        """Of each row that is kept, what tells it from others."""
        ...

    def finish(self, train: Mask) -> KeptInput:
        """All rows are written; ``train`` are those that something may be learned from."""
        ...

    def close(self) -> None:
        """Nobody goes on with it."""
        ...


def take_numbers(prepare: Preparation, verdict: Verdict, info: ColumnInfo) -> npt.NDArray[Any]:
    """A column as numbers that fit into float32, NaN where it is missing, by the rules."""
    column, rules = verdict.piece.columns[info.name], prepare.replace.get(info.name, {})
    if info.integers and not rules and not column.null_count and pa.types.is_integer(column.type):
        whole: npt.NDArray[Any] = column.to_numpy()
        return whole
    column = replaced(column, rules)
    values, wrong = numbers_of(column)
    if wrong.any():
        if prepare.missing is MissingRule.DROP:
            verdict.drop("missing", wrong)
        else:
            value = column[int(np.argmax(wrong))].as_py()
            verdict.refuse(feature_not_number, info.name, wrong, value)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers: npt.NDArray[Any] = values.astype(np.float32)
    holes = ~np.isfinite(numbers) & ~wrong
    if holes.any():
        numbers[holes] = np.nan
        settle(prepare, verdict, info.name, holes)
        fill = prepare.fill.get(info.name)
        if fill is not None and fill not in LEARNED:
            numbers[holes] = number_fill(info.name, fill)
    return numbers


def settle(prepare: Preparation, verdict: Verdict, name: str, holes: Mask) -> None:
    """What becomes of rows where a feature is missing; filling is the caller's."""
    if prepare.missing is MissingRule.DROP:
        verdict.drop("missing", holes)
    elif prepare.missing is MissingRule.REFUSE or name not in prepare.fill:
        verdict.refuse(feature_missing, name, holes)


def number_fill(name: str, fill: float | str) -> float:
    """A fill value of a column of numbers. ``InvalidInput`` (``bad_preparation``)."""
    try:
        return float(fill)
    except ValueError:
        raise bad_rule(
            f"column {name!r} holds numbers and cannot be filled with {fill!r}: give a number, mean"
            " or median",
            "prepare.missing.fill",
        ) from None


def refuse_learned_fill(prepare: Preparation, name: str, what: str) -> None:
    """``mean`` and ``median`` are of columns that become one vector."""
    if prepare.missing is MissingRule.FILL and prepare.fill.get(name) in LEARNED:
        raise bad_rule(
            f"{name!r} is {what} and can only be filled with a value, not its {prepare.fill[name]}",
            "prepare.missing.fill",
        )


def rows_as_bytes(block: npt.NDArray[Any]) -> Iterator[memoryview]:
    """Each row of a block."""
    plain = np.ascontiguousarray(block).reshape(len(block), -1)
    view, width = bytes_view(plain), plain.itemsize * plain.shape[1]
    for at in range(0, len(view), width):
        yield view[at : at + width]


class _Direct:
    """An input whose rows are kept as they were read."""

    def __init__(self, name: str, file: FlatFile) -> None:
        self._name, self._file = name, file
        self._block: npt.NDArray[Any] = np.empty(0)

    def write(self, keep: Mask) -> None:
        self._file.append(self._kept(keep))

    def bytes_of(self, keep: Mask) -> Iterator[bytes | memoryview]:
        return rows_as_bytes(self._kept(keep))

    def finish(self, train: Mask) -> KeptInput:
        return KeptInput(self._name, self._file)

    def close(self) -> None:
        self._file.close()

    def _kept(self, keep: Mask) -> npt.NDArray[Any]:
        return self._block if keep.all() else self._block[keep]


class TensorInput(_Direct):
    """An array of one row each: bytes stay bytes, all other numbers become float32."""

    def __init__(
        self, role: TensorRole, prepare: Preparation, folder: Path, number: int, *, as_bytes: bool
    ) -> None:
        self._column, self._prepare = role.column, prepare
        refuse_learned_fill(prepare, role.column.name, "an array")
        dtype = "uint8" if as_bytes and role.column.is_bytes else "float32"
        super().__init__(role.name, FlatFile(folder / f"{number}.rows", dtype, role.shape))

    def read(self, verdict: Verdict) -> None:
        block, file = verdict.piece.columns[self._column.name], self._file
        if block.dtype != np.uint8 or file.dtype != np.uint8:
            block = self._floats(verdict, block)
            if file.dtype == np.uint8:  # another file has other numbers, or a row has none
                block = _as_bytes(verdict, block)
        self._block = block.reshape(len(block), *file.shape)

    def _floats(self, verdict: Verdict, block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            floats: npt.NDArray[np.float32] = block.astype(np.float32, copy=False)
        holes: npt.NDArray[np.bool_] = ~np.isfinite(floats)
        name = self._column.name
        if holes.any():
            rows: npt.NDArray[np.bool_] = np.any(holes.reshape(len(block), -1), axis=1)
            settle(self._prepare, verdict, name, rows)
            if (fill := self._prepare.fill.get(name)) is not None:
                floats = np.where(holes, np.float32(number_fill(name, fill)), floats)
        return floats


class GridInput(_Direct):
    """Columns of numbers in one shape. Integers from 0 to 255 are kept as bytes: a picture."""

    def __init__(
        self, role: GridRole, prepare: Preparation, folder: Path, number: int, *, as_bytes: bool
    ) -> None:
        self._columns, self._prepare = role.columns, prepare
        for column in role.columns:
            refuse_learned_fill(prepare, column.name, "a part of data.shape")
        dtype = "uint8" if as_bytes else "float32"
        super().__init__(PICTURE, FlatFile(folder / f"{number}.rows", dtype, role.shape))

    def read(self, verdict: Verdict) -> None:
        block: npt.NDArray[Any] = np.empty((verdict.piece.rows, len(self._columns)), np.float32)
        for index, column in enumerate(self._columns):
            block[:, index] = take_numbers(self._prepare, verdict, column)
        if self._file.dtype == np.uint8:
            block = _as_bytes(verdict, block)
        self._block = block.reshape(len(block), *self._file.shape)


def _as_bytes(verdict: Verdict, block: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The same numbers, or ``NotBytes`` where a row that is kept holds others."""
    with np.errstate(invalid="ignore"):
        small = block.astype(np.uint8)
    if (small[verdict.keep] != block[verdict.keep]).any() and not verdict.complaints:
        raise NotBytes
    return small
