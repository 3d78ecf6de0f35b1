"""Figures: what was measured, what was asked, and how to measure it again."""

from __future__ import annotations

import json
import math
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
    baseline_command: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that ``percent`` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def write(figures: Sequence[Figure], path: Path) -> None:
    """The list that others read."""
    path.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n")


def show(figures: Sequence[Figure]) -> None:
    """The table that people read."""
    rows = [("figure", "value", "asked", "")]
    for one in figures:
        value = f"{one.value:,.3g}" if one.value < 1_000 else f"{one.value:,.0f}"
        rows.append((one.figure, f"{value} {one.unit}", one.asked, "" if one.met else "NOT MET"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    for one in figures:
        if one.detail:
            print(f"\n{one.figure}: {json.dumps(one.detail)}")
