"""The measured latency of a version as a table with bars: time of a pass over rows in a pass."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.cli.output import say

BAR = 30  # characters of the longest bar
COLUMNS = ("rows", "passes", "mean", "p95", "rows/s", "")


@dataclass(frozen=True, slots=True)
class Line:
    """One bucket. ``solid`` characters of bar are the mean, ``faint`` more the p95."""

    cells: tuple[str, ...]
    solid: int
    faint: int


def show_curves(rows: Sequence[Mapping[str, Any]]) -> None:
    """One table for each kind of device and each shape."""
    kinds = sorted({(str(row["device"]), str(row["shape"])) for row in rows})
    for device, shape in kinds:
        of_kind = [row for row in rows if (row["device"], row["shape"]) == (device, shape)]
        title = f"latency on {device}" + (f", shape {shape}" if shape else "")
        say()
        if sys.stdout.isatty():
            _draw(title, lines_of(of_kind))
        else:
            say(title)
            _print(lines_of(of_kind))


def lines_of(rows: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The lines of one table, by bucket."""
    rows = sorted(rows, key=lambda row: int(row["bucket"]))
    longest_s = max((max(float(row["mean_s"]), float(row["p95_s"])) for row in rows), default=0.0)
    scale = BAR / longest_s if longest_s > 0 else 0.0
    found = []
    for row in rows:
        mean_s, p95_s = float(row["mean_s"]), float(row["p95_s"])
        solid = max(1, round(mean_s * scale))
        rate = f"{int(row['bucket']) / mean_s:,.0f}" if mean_s > 0 else "-"
        cells = (
            f"{int(row['bucket']):,}",
            f"{int(row['count']):,}",
            seconds_text(mean_s),
            seconds_text(p95_s),
            rate,
        )
        found.append(Line(cells, solid, max(0, round(p95_s * scale) - solid)))
    return found


def seconds_text(seconds: float) -> str:
    """Three digits and a unit."""
    for least, factor, unit in ((1.0, 1.0, "s"), (0.001, 1e3, "ms"), (0.0, 1e6, "µs")):
        if seconds >= least:
            value = seconds * factor
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return "-"


def bytes_text(size: float) -> str:
    """Two or three digits and a unit."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.{1 if unit != 'B' and size < 100 else 0}f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _print(lines: Sequence[Line]) -> None:
    table = [[name.upper() for name in COLUMNS[:-1]], *(line.cells for line in lines)]
    widths = [max(len(row[place]) for row in table) for place in range(len(COLUMNS) - 1)]
    bars = ["", *("#" * line.solid + "." * line.faint for line in lines)]
    for cells, bar in zip(table, bars, strict=True):
        aligned = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        say(f"  {aligned}  {bar}".rstrip())


def _draw(title: str, lines: Sequence[Line]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in lines:
        bar = Text("█" * line.solid, style="cyan") + Text("░" * line.faint, style="dim")
        table.add_row(*line.cells, bar)
    Console().print(table)
    say("  █ mean  ░ p95")
