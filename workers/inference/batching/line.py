"""A line through measured passes: what a size that never ran will probably take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GUESSED_OVERHEAD = 32.0  # a pass costs as much as so many rows before its first row
GUESSED_ROW_S = 1e-4
_FLAT = 1e-6  # spread of the costs, relative, under which no slope can be told
_LEAST_S = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """Passes of one cost and how long they take."""

    cost: float
    seconds: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """``seconds = fixed_s + per_cost_s * cost``, neither of them negative."""

    fixed_s: float
    per_cost_s: float

    def at(self, cost: float) -> float:
        """Seconds of a pass of this cost."""
        return self.fixed_s + self.per_cost_s * cost

    def cost_within(self, seconds: float) -> float:
        """The most that can be done in so long."""
        if seconds <= self.fixed_s:
            return 0.0
        return (seconds - self.fixed_s) / self.per_cost_s if self.per_cost_s > 0 else math.inf


def guessed(row_cost: float) -> Line:
    """Before anything was measured: only the ratios between sizes mean something."""
    return Line(GUESSED_OVERHEAD * GUESSED_ROW_S, GUESSED_ROW_S / row_cost)


def fit(points: Sequence[Point], row_cost: float) -> Line | None:
    """Weighted least squares on relative errors; None without points.

    Relative, as a small pass's estimate must be as good as a large one's. With a single cost
    measured it is divided between the two terms as in the guess.
    """
    if not points:
        return None
    w_sum = x_sum = y_sum = xx_sum = xy_sum = 0.0
    for point in points:
        x, y = point.cost, max(point.seconds, _LEAST_S)
        w = point.weight / (y * y)
        w_sum += w
        x_sum += w * x
        y_sum += w * y
        xx_sum += w * x * x
        xy_sum += w * x * y
    mean_x, mean_y = x_sum / w_sum, y_sum / w_sum
    spread = xx_sum / w_sum - mean_x * mean_x
    if spread <= _FLAT * mean_x * mean_x:
        overhead = GUESSED_OVERHEAD * row_cost
        per_cost_s = mean_y / (overhead + mean_x)
        return Line(per_cost_s * overhead, per_cost_s)
    slope = (xy_sum / w_sum - mean_x * mean_y) / spread
    if slope <= 0:
        return Line(mean_y, 0.0)
    fixed_s = mean_y - slope * mean_x
    if fixed_s < 0:
        return Line(0.0, xy_sum / xx_sum)
    return Line(fixed_s, slope)
