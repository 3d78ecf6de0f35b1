"""What the stages of bulk scoring hand each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.records.bulk import PlannedFile
from workers.inference.ports import Array, Row

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that has an error in place of a prediction."""

    position: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file, in its order: those that could be read, and those that could not."""

    batch: pa.RecordBatch  # the columns that were asked for, and no others
    positions: Positions  # of each row of the batch, ascending
    errors: tuple[RowError, ...]
    skipped: int  # rows that the ``where`` left out
    next: int  # where reading would go on: every row before it is in this chunk or an earlier one


class Source(Protocol):
    """One file, opened for reading. Whatever is wrong with all of it is ``InvalidInput``; storage
    that does not answer is raised as it is."""

    def planned(self) -> PlannedFile:
        """What planning has to know of it."""
        ...

    def columns(self) -> tuple[str, ...]:
        """Its columns, in its order."""
        ...

    def cuts(self) -> Sequence[int]:
        """Positions at which a shard had best begin (row groups); empty: anywhere."""
        ...

    def chunks(
        self, start: int, stop: int, columns: Sequence[str], *, max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        """The rows whose position is in ``start … stop``, a bounded number at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A chunk's rows as the model takes them. Exactly one of ``block`` and ``rows`` is not None."""

    good: npt.NDArray[np.int64]  # indices, into the batch, of the rows that are left, ascending
    errors: tuple[tuple[int, str, str], ...]  # index into the batch, code, message
    block: Mapping[str, Array] | None = None  # by input, one row for each good one
    rows: list[Row] | None = None  # the same for models whose inputs have axes of any length


@dataclass(frozen=True, slots=True)
class Encoded:
    """Predictions as they are written."""

    batch: pa.RecordBatch
    errors: tuple[tuple[int, str, str], ...] = field(default=())  # index of the row that was given
