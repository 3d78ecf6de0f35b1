"""The rows as the course takes them: in memory where they fit a budget, else from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.training.data.flat import FlatFile
from workers.training.data.targets import targets
from workers.training.ports import Array, Batch, Order, Part, Prepared

BUDGET_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class PartRows:
    """One part of the split: where its rows are, their labels, and how much each counts."""

    rows: npt.NDArray[np.signedinteger[Any]]
    labels: npt.NDArray[Any]  # int32 indices of labels, or float32 numbers
    weights: npt.NDArray[np.float32] | None = None


class KeptRows:
    """``Rows`` over flat files. Threads may take at once."""

    def __init__(
        self,
        prepared: Prepared,
        files: Mapping[str, FlatFile],
        parts: Mapping[Part, PartRows],
        budget_bytes: int,
    ) -> None:
        self._prepared, self._files, self._parts = prepared, dict(files), dict(parts)
        size_bytes = sum(one.size_bytes for one in files.values())
        self.in_memory = size_bytes <= budget_bytes
        self._blocks: dict[str, Array] = {}

    @property
    def prepared(self) -> Prepared:
        return self._prepared

    def take(self, part: Part, order: Order) -> Batch:
        """As the port has it. ``IndexError`` for a row that there is not."""
        some = self._parts[part]
        rows = some.rows[order].astype(np.int64, copy=False)
        inputs = {name: self._gathered(name, file, rows) for name, file in self._files.items()}
        target = targets(self._prepared.target, some.labels[order], len(self._prepared.labels))
        weights = None if some.weights is None else some.weights[order]
        return Batch(inputs, target, weights)

    def labels_of(self, part: Part) -> Array:
        """As the port has it."""
        labels = self._parts[part].labels
        return labels.astype(np.int64) if labels.dtype == np.int32 else labels

    def close(self) -> None:
        """Let go of memory and files; the folder is its owner's to delete."""
        self._blocks = {}
        for file in self._files.values():
            file.close()

    def _gathered(self, name: str, file: FlatFile, rows: npt.NDArray[np.int64]) -> Array:
        if not self.in_memory:
            gathered: Array = file.gather(rows)
            return gathered
        block = self._blocks.get(name)
        if block is None:
            block = self._blocks[name] = file.read(0, file.rows)
        taken: Array = np.take(block, rows, axis=0)
        return taken
