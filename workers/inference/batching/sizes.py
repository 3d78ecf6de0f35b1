"""How many rows to run now, and padded to which allowed size.

Compilers want fixed shapes, so a pass takes one of a few sizes. Whether to pad up to the next one
or to run a full smaller one first and leave the rest for the next pass is a matter of time per
useful row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

WORTHWHILE = 1.02  # a larger pass than the objective allows has to be cheaper by this, per row

Estimate = Callable[[int], float]


def padded(rows: int, sizes: Sequence[int]) -> int:
    """The smallest size that holds the rows; the largest there is when none does."""
    return sizes[min(bisect_left(sizes, rows), len(sizes) - 1)]


def next_size(rows: int, sizes: Sequence[int], estimate: Estimate) -> tuple[int, int]:
    """(rows to run now, size to run them in) of ``rows`` waiting; ``sizes`` ascend.

    The cheapest bucket: with ``n`` waiting between the sizes ``d < n < u``, run ``d`` full when
    that takes less time per useful row, ``t(d)/d < t(u)/n``.
    """
    up = padded(rows, sizes)
    if rows >= up:
        return up, up
    index = sizes.index(up)
    if index:
        down = sizes[index - 1]
        if estimate(down) / down < estimate(up) / rows:
            return down, down
    return rows, up


def within(sizes: Sequence[int], largest: float) -> Sequence[int]:
    """The sizes up to ``largest``; the smallest is always among them."""
    if sizes[-1] <= largest:
        return sizes
    return [size for size in sizes if size <= largest] or sizes[:1]


def worthwhile(sizes: Sequence[int], estimate: Estimate, objective_s: float) -> Sequence[int]:
    """The sizes without those that only make everybody wait longer.

    Within the objective larger is better, as everything around the pass is cheaper per row too.
    Beyond it a size has to pay for the wait with device time.
    """
    if estimate(sizes[-1]) <= objective_s:
        return sizes
    seconds = [estimate(size) for size in sizes]
    enough = min(s / size for s, size in zip(seconds, sizes, strict=True)) * WORTHWHILE
    prompt = max((i for i, s in enumerate(seconds) if s <= objective_s), default=0)
    pays = (i for i in range(prompt, len(sizes)) if seconds[i] / sizes[i] <= enough)
    return sizes[: next(pays, prompt) + 1]
