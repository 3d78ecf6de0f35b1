"""Figures: what was measured, what was asked, and how to measure it again."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table and one entry of ``bench.json``."""

    figure: str
    value: float
    unit: str
    asked: str
    met: bool
    command: str
    aim: str = "-"
    aim_met: bool | None = None  # None where there is no aim
    baseline_command: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What a figure should reach: the least that was asked for, and what is aimed at."""

    asked: float
    aim: float | None = None
    most: bool = True  # the figure is to stay below it; else above

    def of(self, only: str, name: str, value: float, unit: str, **rest: Any) -> Figure:
        """The figure held against this goal. ``only`` is its name on the command line."""
        sign = "≤" if self.most else "≥"
        aimed = None if self.aim is None else self._reached(value, self.aim)
        return Figure(
            figure=name,
            value=value,
            unit=unit,
            asked=f"{sign} {self.asked:g}",
            met=self._reached(value, self.asked),
            aim="-" if self.aim is None else f"{sign} {self.aim:g}",
            aim_met=aimed,
            command=f"python -m tests.bench --only {only}",
            **rest,
        )

    def _reached(self, value: float, goal: float) -> bool:
        return value <= goal if self.most else value >= goal


def told(only: str, name: str, value: float, unit: str, **rest: Any) -> Figure:
    """A figure that is reported without a goal."""
    command = f"python -m tests.bench --only {only}"
    return Figure(name, value, unit, asked="-", met=True, command=command, **rest)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that ``percent`` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def upper_slope(points: Sequence[tuple[float, float]], confidence: float = 0.95) -> float:
    """The slope of a line through the points which the true one exceeds with 1 − ``confidence``.

    Neighbouring samples of memory are alike, and so are not as many witnesses as there are
    samples: the error is widened by how much each residual tells of the next.
    """
    line = statistics.linear_regression(*zip(*points, strict=True))
    residuals = [y - line.intercept - line.slope * x for x, y in points]
    free = len(points) - 2
    middle = statistics.fmean(x for x, _ in points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    squares = sum(r * r for r in residuals)
    if squares == 0:
        return line.slope
    alike = sum(a * b for a, b in itertools.pairwise(residuals)) / squares
    alike = min(max(alike, 0.0), 0.9)
    error = math.sqrt(squares / free / spread * (1 + alike) / (1 - alike))
    return line.slope + _student(confidence, free * (1 - alike) / (1 + alike)) * error


def _student(confidence: float, free: float) -> float:
    """Student's t at this confidence, by its expansion around the normal distribution."""
    z = statistics.NormalDist().inv_cdf(confidence)
    free = max(free, 2.0)
    first = (z**3 + z) / (4 * free)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return z + first + second


def write(figures: Sequence[Figure], path: Path) -> None:
    """The list that others read."""
    path.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")


def show(figures: Sequence[Figure]) -> None:
    """The table that people read, and under it what each figure is made of."""
    rows = [("figure", "value", "asked", "aim", "")]
    for one in figures:
        value = f"{one.value:,.3g}" if one.value < 1_000 else f"{one.value:,.0f}"
        mark = "NOT MET" if not one.met else {True: "aim", None: "", False: "asked"}[one.aim_met]
        rows.append((one.figure, f"{value} {one.unit}", one.asked, one.aim, mark))
    table(rows)
    for one in figures:
        for key, value in one.detail.items():
            if _is_table(value):
                print(f"\n{one.figure}: {key}")
                table([[str(cell) for cell in row] for row in value])
        plain = {k: v for k, v in one.detail.items() if not _is_table(v)}
        if plain:
            print(f"\n{one.figure}: {json.dumps(plain, ensure_ascii=False)}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Columns under one another."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list | tuple)
