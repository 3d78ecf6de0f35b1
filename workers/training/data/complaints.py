"""What is wrong with rows: counted over all of them, told with the first one.

Somebody who mends a file wants to know how much there is to mend, so reading goes on after the
first wrong row; nothing is written any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from workers.training.data.pieces import Piece
from workers.training.data.trouble import told

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class First:
    """The first row of a kind, and what it holds."""

    uri: str
    row: int  # from 1; 0 where the file is the row
    value: object


Says = Callable[[str, First, int], InvalidInput]
"""The error of a column by its first row and how many there are."""


class Complaints:
    """Of one reading of the data."""

    def __init__(self) -> None:
        self._found: dict[tuple[Says, str], tuple[First, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, says: Says, column: str, piece: Piece, mask: Mask, value: object = None) -> None:
        """Rows of the piece that are wrong, all alike."""
        count = int(np.count_nonzero(mask))
        if count:
            at = int(np.argmax(mask))
            first = (
                First(piece.names[at], 0, value)
                if piece.names
                else First(piece.uri, int(piece.numbers[at]), value)
            )
            self.add_row(says, column, first, count)

    def add_row(self, says: Says, column: str, first: First, count: int = 1) -> None:
        """The same for rows that were not even read."""
        known = self._found.get((says, column))
        self._found[says, column] = (
            (first, count) if known is None else (known[0], known[1] + count)
        )

    def raise_first(self) -> None:
        """The error of what was met first, if anything was."""
        for (says, column), (first, count) in self._found.items():
            raise says(column, first, count)


class Verdict:
    """What becomes of the rows of one piece."""

    def __init__(self, piece: Piece, complaints: Complaints, dropped: dict[str, int]) -> None:
        self.piece, self.complaints, self._dropped = piece, complaints, dropped
        self.keep: Mask = np.ones(piece.rows, np.bool_)

    def drop(self, reason: str, mask: Mask) -> None:
        """Leave these rows out, and count them once."""
        count = int(np.count_nonzero(mask & self.keep))
        if count:
            self._dropped[reason] = self._dropped.get(reason, 0) + count
            self.keep &= ~mask

    def refuse(self, says: Says, column: str, mask: Mask, value: object = None) -> None:
        """Nothing is to be trained on such rows."""
        self.complaints.add(says, column, self.piece, mask & self.keep, value)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _at(first: First) -> str:
    return (
        f"the first is row {first.row} of {first.uri}" if first.row else f"the first is {first.uri}"
    )


def feature_missing(column: str, first: First, count: int) -> InvalidInput:
    """A feature that is missing, NaN or infinite."""
    return InvalidInput(
        f"column {told(column)} is missing, NaN or infinite in {_rows(count)}; {_at(first)}. Say"
        " prepare.missing: drop, or what such values are to be filled with",
        code="feature_missing",
        field="prepare.missing",
    )


def feature_not_number(column: str, first: First, count: int) -> InvalidInput:
    """A text in a column of numbers."""
    return InvalidInput(
        f"column {told(column)} holds {told(first.value)}, which is no number, in {_rows(count)};"
        f" {_at(first)}. Say prepare.replace, or name it under prepare.categories",
        code="feature_not_number",
        field="data.features",
    )


def bad_row(column: str, first: First, count: int) -> InvalidInput:
    """A line or a picture that cannot be read."""
    return InvalidInput(
        f"{_rows(count)} cannot be read; {_at(first)}: {first.value}. Say prepare.missing: drop to"
        " leave such rows out",
        code="bad_row",
        field="prepare.missing",
    )


def bad_picture(column: str, first: First, count: int) -> InvalidInput:
    """A file that is no picture."""
    many = "1 picture" if count == 1 else f"{count} pictures"
    return InvalidInput(
        f"{many} cannot be read; the first is {first.uri}: {first.value}. Say prepare.missing: drop"
        " to leave such pictures out",
        code="bad_picture",
        field="prepare.missing",
    )


def label_missing(column: str, first: First, count: int) -> InvalidInput:
    """A row that nobody has labelled."""
    return InvalidInput(
        f"the label ({told(column)}) is missing in {_rows(count)}; {_at(first)}. Label them, or"
        " leave them out by data.where",
        code="label_missing",
        field="data.label",
    )


def label_unknown(column: str, first: First, count: int) -> InvalidInput:
    """A label that the map does not have."""
    return InvalidInput(
        f"the label ({told(column)}) is none of prepare.labels in {_rows(count)}; {_at(first)} with"
        f" {told(first.value)}. Add it there, or say prepare.unknown_labels: drop",
        code="label_unknown",
        field="prepare.labels",
    )


def label_not_number(column: str, first: First, count: int) -> InvalidInput:
    """A label that is to be a number."""
    return InvalidInput(
        f"the loss needs numbers, and the label ({told(column)}) is none in {_rows(count)};"
        f" {_at(first)} with {told(first.value)}",
        code="label_not_number",
        field="data.label",
    )


def category_unknown(column: str, first: First, count: int) -> InvalidInput:
    """A value that is none of the categories that were given."""
    return InvalidInput(
        f"column {told(column)} is none of its prepare.categories in {_rows(count)}; {_at(first)}"
        f" with {told(first.value)}",
        code="category_unknown",
        field="prepare.categories",
    )
