"""The table: a row for each fault, over all of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.runner import BOUND_S, Run

COLUMNS = ("fault", "runs", "accepted", "lost", "doubled", "crossed", "stuck", "worst recovery")
_WIDTHS = (52, 5, 9, 5, 8, 8, 6, 15)


def header() -> str:
    return _line(COLUMNS)


def row(fault: str, runs: Sequence[Run]) -> dict[str, Any]:
    """One fault's row."""
    counts = {
        name: sum(getattr(run, name) for run in runs)
        for name in ("accepted", "lost", "doubled", "crossed", "stuck")
    }
    worst = max((run.recovery_s for run in runs), default=0.0)
    return {
        "fault": fault,
        "runs": len(runs),
        **counts,
        "worst_recovery_s": round(worst, 2),
        "bound_s": BOUND_S,
        "good": all(run.good for run in runs),
        "trouble": [line for run in runs for line in run.trouble][:20],
    }


def line_of(one: dict[str, Any]) -> str:
    """For people."""
    cells = [one[name] for name in ("fault", "runs", "accepted", "lost", "doubled", "crossed")]
    text = _line((*cells, one["stuck"], f"{one['worst_recovery_s']:.1f} s"))
    return text if one["good"] else f"{text}  NOT GOOD"


def write(rows: Iterable[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(list(rows), indent=1) + "\n")


def _line(cells: Sequence[object]) -> str:
    first, *rest = (str(cell) for cell in cells)
    return first.ljust(_WIDTHS[0]) + "".join(
        cell.rjust(width) for cell, width in zip(rest, _WIDTHS[1:], strict=True)
    )
