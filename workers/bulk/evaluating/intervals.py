"""How far a figure may be from what more rows would show: intervals of 95 %. Pure arithmetic."""

from __future__ import annotations

import math

Interval = tuple[float, float]

Z = 1.959963984540054  # the normal distribution's 97.5 % point
_FEW = 30  # rows, below which Student's distribution is the wider one


def of_share(some: int, rows: int) -> Interval | None:
    """Wilson's, of ``some`` in ``rows``; None of no rows."""
    if not rows:
        return None
    share, per = some / rows, Z**2 / rows
    middle = (share + per / 2) / (1 + per)
    half = Z * math.sqrt(share * (1 - share) / rows + per / (4 * rows)) / (1 + per)
    return max(0.0, middle - half), min(1.0, middle + half)


def of_mean(total: float, squares: float, rows: int) -> Interval | None:
    """Of the mean of ``rows`` values by their sum and the sum of their squares; None of fewer than
    two."""
    if rows < 2:
        return None
    mean = total / rows
    variance = max(0.0, squares - rows * mean**2) / (rows - 1)
    half = _point(rows - 1) * math.sqrt(variance / rows)
    return mean - half, mean + half


def around(value: float, variance: float, low: float, high: float) -> Interval | None:
    """Of an estimate with this variance, within its bounds; None where there is no variance to
    tell it from."""
    if not variance > 0:
        return None
    half = Z * math.sqrt(variance)
    return max(low, value - half), min(high, value + half)


def _point(freedom: int) -> float:
    """Student's 97.5 % point, by its expansion in the normal one."""
    if freedom >= _FEW:
        return Z + (Z**3 + Z) / (4 * freedom)
    if freedom <= 2:
        return (12.706204736, 4.302652730)[freedom - 1]
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3
