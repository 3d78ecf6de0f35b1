"""What is learned of numbers on the training rows: means, medians, deviations, bounds.

Every function goes over the kept rows in blocks of a size that depends on their width alone, so the
same rows give the same bits however their files were cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.training.data.complaints import Mask
from workers.training.data.flat import FlatFile

Floats = npt.NDArray[np.float64]

_AT_ONCE = 64  # columns of which histograms are held
_HALF = 1 << 16


class Moments:
    """Mean and sum of squared deviations by column, put together block by block (Chan's)."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(width)
        self.squares: Floats = np.zeros(width)
        self.least: Floats = np.full(width, np.inf)
        self.most: Floats = np.full(width, -np.inf)

    def add(self, block: npt.NDArray[Any]) -> None:
        """More rows, of shape (rows, width)."""
        count = len(block)
        if not count:
            return
        values = block.astype(np.float64)
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        every, apart = self.count + count, mean - self.mean
        self.squares += squares + np.square(apart) * (self.count * count / every)
        self.mean += apart * (count / every)
        self.count = every
        self.least = np.minimum(self.least, values.min(axis=0))
        self.most = np.maximum(self.most, values.max(axis=0))

    @property
    def deviation(self) -> Floats:
        """Of all rows, not an estimate from them."""
        result: Floats = np.sqrt(self.squares / max(self.count, 1))
        return result


def trained_blocks(file: FlatFile, train: Mask) -> Iterator[npt.NDArray[Any]]:
    """The rows that are trained on."""
    for start, block in file.blocks():
        here = train[start : start + len(block)]
        yield block if here.all() else block[here]


def moments_of(file: FlatFile, train: Mask, axis_width: int) -> Moments:
    """Over all axes but the last one, whose length is ``axis_width``; 1: over all of them."""
    moments = Moments(axis_width)
    for block in trained_blocks(file, train):
        plain = block.reshape(-1, axis_width)
        step = max(1, (1 << 19) // axis_width)
        for at in range(0, len(plain), step):
            moments.add(plain[at : at + step])
    return moments


def means(file: FlatFile, train: Mask, columns: Sequence[int]) -> Floats:
    """Of these columns, without what is NaN; NaN where nothing else is."""
    total, count = np.zeros(len(columns)), np.zeros(len(columns), np.int64)
    if not columns:
        return total
    for block in trained_blocks(file, train):
        some = block[:, list(columns)].astype(np.float64)
        total += np.nansum(some, axis=0)
        count += np.count_nonzero(~np.isnan(some), axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def medians(file: FlatFile, train: Mask, columns: Sequence[int]) -> Floats:
    """The same with the middle value, exactly, in bounded memory: float32 has 2^32 values in
    order, so counting the upper half of their bits and then the lower one finds any rank."""
    found: Floats = np.full(len(columns), np.nan)
    for at in range(0, len(columns), _AT_ONCE):
        some = list(columns[at : at + _AT_ONCE])
        found[at : at + len(some)] = _medians(file, train, some)
    return found


def _medians(file: FlatFile, train: Mask, columns: list[int]) -> Floats:
    high = np.zeros((len(columns), _HALF), np.int64)
    for keys in _keys(file, train, columns):
        for index, column in enumerate(keys):
            high[index] += np.bincount(column >> 16, minlength=_HALF)
    counts = high.sum(axis=1)
    wanted: list[tuple[int, int, int]] = []  # column, upper half, rank below it
    for index, count in enumerate(counts.tolist()):
        below = np.cumsum(high[index])
        for rank in ((count - 1) // 2, count // 2) if count else ():
            half = int(np.searchsorted(below, rank, side="right"))
            wanted.append((index, half, rank - (int(below[half - 1]) if half else 0)))
    lows = {(index, half): np.zeros(_HALF, np.int64) for index, half, _ in wanted}
    for keys in _keys(file, train, columns):
        for (index, half), low in lows.items():
            column = keys[index]
            low += np.bincount(column[column >> 16 == half] & (_HALF - 1), minlength=_HALF)
    middles: list[list[float]] = [[] for _ in columns]
    for index, half, rank in wanted:
        low_half = int(np.searchsorted(np.cumsum(lows[index, half]), rank, side="right"))
        middles[index].append(_number(half << 16 | low_half))
    return np.array([sum(pair) / 2 if pair else np.nan for pair in middles])


def _keys(file: FlatFile, train: Mask, columns: list[int]) -> Iterator[list[npt.NDArray[np.int64]]]:
    """By column, numbers as integers in the same order, without what is NaN."""
    for block in trained_blocks(file, train):
        some = np.ascontiguousarray(block[:, columns].T)
        bits = some.view(np.int32).astype(np.int64)
        keys = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (1 << 31)
        yield [keys[index][~np.isnan(some[index])] for index in range(len(columns))]


def _number(key: int) -> float:
    bits = key - (1 << 31)
    whole = np.array([-bits if bits < 0 else bits], np.int32)
    return float(whole.view(np.float32)[0]) * (-1.0 if bits < 0 else 1.0)
