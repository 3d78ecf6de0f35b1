"""The few rows that are shown one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workers.inference.ports import Array


class Examples:
    """The ``most`` largest of all that are offered; of equals those that came first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[float, dict[str, object]]] = []

    def offer(self, sizes: Array, make: Callable[[int], dict[str, object]]) -> None:
        """A number for each of some rows; ``make`` tells of the row at an index among them."""
        if len(self._found) >= self._most > 0:
            sizes = np.where(sizes > self._found[-1][0], sizes, -np.inf)
        for at in np.argsort(-sizes, kind="stable")[: self._most].tolist():
            if sizes[at] > -np.inf:
                self._found.append((float(sizes[at]), make(at)))
        self._found.sort(key=lambda one: -one[0])
        del self._found[self._most :]

    def told(self) -> list[dict[str, object]]:
        """The largest first."""
        return [one for _, one in self._found]
