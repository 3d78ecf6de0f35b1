"""Which rows are trained on, validated on and tested on: by seed and labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.errors import InvalidInput
from storage.records.training import Split
from workers.training.ports import Part

Rows = npt.NDArray[np.signedinteger[Any]]
Counts = npt.NDArray[np.int64]


def split_rows(split: Split, rows: int, labels: npt.NDArray[np.int32] | None) -> dict[Part, Rows]:
    """The numbers of each part's rows, ascending; of 4 bytes each where they fit.

    ``labels`` of a stratified split: every class is in each part with its exact share, up or down
    to a whole row, and each part as a whole as well. ``InvalidInput`` (``split_empty``).
    """
    order: Rows = np.arange(rows, dtype=np.int32 if rows < 1 << 31 else np.int64)
    np.random.Generator(np.random.PCG64([split.seed])).shuffle(order)
    if labels is None:
        parts = _slices(order, {part: _share(rows, share) for part, share in _shares(split)})
    else:
        parts = _stratified(split, order, labels)
    for part, share in (*_shares(split), (Part.TRAIN, 1.0)):
        if share > 0 and not len(parts[part]):
            raise InvalidInput(
                f"the {part} part of the split would be empty: there are {rows} rows, and its share"
                f" is {_share_of(split, part):g}. {_what_to_do(part)}",
                code="split_empty",
                field="split" if part is Part.TRAIN else f"split.{part}",
            )
    return {part: parts[part] for part in Part}


def _shares(split: Split) -> tuple[tuple[Part, float], ...]:
    return (Part.VALIDATION, split.validation), (Part.TEST, split.test)


def _share_of(split: Split, part: Part) -> float:
    return {**dict(_shares(split)), Part.TRAIN: 1 - split.validation - split.test}[part]


def _share(rows: int, share: float) -> int:
    """To the nearest whole row; a half is one."""
    return int(np.floor(rows * share + 0.5 + 1e-9))


def _slices(order: Rows, counts: Mapping[Part, int]) -> dict[Part, Rows]:
    parts, at = {}, 0
    for part, count in counts.items():
        parts[part] = np.sort(order[at : at + count])
        at += count
    parts[Part.TRAIN] = np.sort(order[at:])
    return parts


def _stratified(split: Split, order: Rows, labels: npt.NDArray[np.int32]) -> dict[Part, Rows]:
    by_class = order[np.argsort(labels.astype(np.uint16)[order], kind="stable")]
    counts = np.bincount(labels).astype(np.int64)
    ends = np.cumsum(counts)
    begins = ends - counts
    left = np.maximum(counts - 1, 0)  # one of each is trained on at least
    # Not by the classes' order: it would be always the same ones that are held out.
    lots = np.random.Generator(np.random.PCG64([split.seed, 1])).permutation(len(counts))
    owed = np.zeros(len(counts))
    parts: dict[Part, Rows] = {}
    for part, share in _shares(split):
        taken = shares_of(counts, share, left, owed, lots)
        parts[part] = _ranges(by_class, begins, begins + taken)
        begins, left, owed = begins + taken, left - taken, owed + counts * share - taken
    parts[Part.TRAIN] = _ranges(by_class, begins, ends)
    return parts


def shares_of(
    counts: Counts, share: float, most: Counts, owed: npt.NDArray[np.float64], lots: Counts
) -> Counts:
    """How many of each class: its exact share rounded down, and one more for those with the
    largest remainders until the whole has its share; never more than ``most``.

    To the remainder counts what a class is ``owed`` by the parts before (rows; below 0: it has had
    too many), so each part takes others of many small classes. ``lots`` decides between equals.
    """
    exact = counts * share
    taken: Counts = np.minimum(np.floor(exact + 1e-9).astype(np.int64), most)
    missing = _share(int(counts.sum()), share) - int(taken.sum())
    more = np.flatnonzero((exact - taken > 1e-9) & (taken < most))
    first = np.lexsort((lots[more], -np.round((exact - taken + owed)[more], 9)))
    taken[more[first[: max(missing, 0)]]] += 1
    return taken


def _ranges(rows: Rows, begins: Counts, ends: Counts) -> Rows:
    """What lies between, of every class, ascending."""
    spans = zip(begins.tolist(), ends.tolist(), strict=True)
    found: Rows = np.concatenate([rows[begin:end] for begin, end in spans])
    found.sort()
    return found


def _what_to_do(part: Part) -> str:
    if part is Part.TRAIN:
        return "Give more rows, or smaller shares to the other parts"
    return f"Give more rows or a larger share, or do without it by split.{part}: 0"
