"""Which lines a parser refuses, when all it says is that it does not like the lot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workers.bulk.ports import Positions


def refused(indices: Positions, accepts: Callable[[Positions], bool]) -> Positions:
    """Those of ``indices`` that are not accepted even alone, ascending: by halving.

    ``accepts`` must take a lot exactly if it takes each of it.
    """
    wrong: list[int] = []
    lots = [indices]
    while lots:
        lot = lots.pop()
        if not len(lot) or accepts(lot):
            continue
        if len(lot) == 1:
            wrong.append(int(lot[0]))
            continue
        middle = len(lot) // 2
        lots += [lot[middle:], lot[:middle]]
    return np.array(wrong, np.int64)
