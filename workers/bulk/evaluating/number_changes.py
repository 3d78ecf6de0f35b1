"""How far the rows' numbers moved, from one version to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa

from workers.bulk.evaluating.examples import Examples
from workers.bulk.evaluating.matching import Pair
from workers.inference.ports import Array

SMALL = 1e-3  # numbers smaller than that are compared as if they were as large
_MOST_KEPT = 1 << 20  # differences; of more every second, fourth, … row's is kept
_MOST_SHOWN = 16  # numbers of a row that is shown

Told = dict[str, object]


class NumberChanges:
    """A row disagrees where any of its numbers moved by more than ``tolerance`` times the larger of
    the two magnitudes, or times ``SMALL`` where both are smaller.

    A row's difference is the largest by which any of its numbers moved. ``outputs``: the names that
    are compared, as the two sides have them.
    """

    def __init__(self, examples: int, tolerance: float, outputs: Sequence[tuple[str, str]]) -> None:
        self.rows = self.disagreed = 0
        self._tolerance, self._outputs = tolerance, outputs
        self._differences = Differences()
        self._examples = Examples(examples)

    def add(self, pair: Pair, truth: pa.Array | None, name: Callable[[int], Told]) -> None:
        """Rows with what is true of them; ``name`` says which row is at an index."""
        before, after = pair
        rows = len(before.positions)
        moved = np.zeros(rows)
        differ = np.zeros(rows, np.bool_)
        for was, now in self._outputs:
            old, new = _flat(before.outputs[was]), _flat(after.outputs[now])
            difference = np.abs(new - old)
            least = np.maximum(np.maximum(np.abs(old), np.abs(new)), SMALL)
            differ |= (difference > self._tolerance * least).any(axis=1)
            moved = np.maximum(moved, difference.max(axis=1))
        self.rows += rows
        self.disagreed += int(differ.sum())
        self._differences.add(moved)
        changed = np.flatnonzero(differ)

        def make(at: int) -> Told:
            row = int(changed[at])
            told = name(row)
            if truth is not None:
                told["truth"] = _true(truth[row].as_py())
            told["before"] = _shown({was: before.outputs[was][row] for was, _ in self._outputs})
            told["after"] = _shown({now: after.outputs[now][row] for _, now in self._outputs})
            return told

        self._examples.offer(moved[changed], make)

    def told(self) -> Told:
        """The document's part."""
        return {
            "transitions": [],
            "fixed": None,
            "broken": None,
            "differences": self._differences.told(),
            "examples": self._examples.told(),
        }


class Differences:
    """Of rows. Mean and largest are of all of them; the 95th percentile is exact up to a million
    rows, and beyond them of every second, fourth, … row, so of half a million at least."""

    def __init__(self) -> None:
        self._rows, self._sum, self._max = 0, 0.0, 0.0
        self._kept: list[Array] = []
        self._held, self._step = 0, 1

    def add(self, moved: Array) -> None:
        """Of some rows, (n,)."""
        if not len(moved):
            return
        first = -self._rows % self._step
        self._rows += len(moved)
        self._sum += float(moved.sum())
        self._max = max(self._max, float(moved.max()))
        some = moved[first :: self._step]
        self._kept.append(some)
        self._held += len(some)
        while self._held > _MOST_KEPT:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._held, self._step = len(self._kept[0]), 2 * self._step

    def told(self) -> Told | None:
        """None of no rows."""
        if not self._rows:
            return None
        p95 = float(np.percentile(np.concatenate(self._kept), 95))
        return {"mean": self._sum / self._rows, "p95": p95, "max": self._max}


def _flat(output: Array) -> Array:
    """(n, numbers), float64."""
    return output.reshape(len(output), -1).astype(np.float64, copy=False)


def _true(value: object) -> object:
    """A label as it is shown: what JSON has no word for by its text, a decimal as a number."""
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_true(one) for one in value[:_MOST_SHOWN]]
    return str(value)


def _shown(outputs: dict[str, Array]) -> object:
    """A number, the first numbers of a list, or these by name where there are several outputs."""
    each = {name: _plain(output.reshape(-1)[:_MOST_SHOWN]) for name, output in outputs.items()}
    return next(iter(each.values())) if len(each) == 1 else each


def _plain(numbers: Array) -> object:
    """With the digits that tell a float32 from its neighbours, and no more."""
    if numbers.dtype == np.float32:
        plain = [float(str(number)) for number in numbers]
    else:
        plain = numbers.tolist()
    return plain[0] if len(plain) == 1 else plain
