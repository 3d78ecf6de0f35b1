"""Where the time of a job that somebody waits for goes: from the times in its rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from tests.bench.report import percentile
from tests.bench.rig import rows
from tests.support.stack import FullStack

STAGES = "where it goes, ms (row times are whole milliseconds)"
_NAMES = ("created", "published", "claimed", "finished")
_STEPS = [
    ("sent", "created"),
    ("created", "published"),
    ("published", "claimed"),
    ("claimed", "finished"),
    ("finished", "seen"),
    ("sent", "accepted"),
]
_SLOWEST = 0.02


class Seen(NamedTuple):
    """When a caller began, had its 202 and saw the end: milliseconds on the clock of the rows."""

    sent: float
    accepted: float
    seen: float


def stages(stack: FullStack, seen: Mapping[str, Seen]) -> list[list[str]]:
    """A table of the steps between the moments that the rows and the caller know of."""
    moments: list[dict[str, float]] = []
    for job_id, *row in rows(
        stack.services,
        "SELECT j.id::text, j.created_at, e.published_at, e.started_at, e.finished_at"
        " FROM jobs AS j JOIN ends AS e ON e.id = j.id WHERE j.id = ANY(%s::uuid[])",
        list(seen),
    ):
        moments.append({**seen[job_id]._asdict(), **dict(zip(_NAMES, row, strict=True))})
    moments.sort(key=lambda moment: moment["seen"] - moment["sent"])
    slowest = moments[-max(1, round(len(moments) * _SLOWEST)) :]
    table = [["step", "p50", "p99", "mean", f"mean of the slowest {_SLOWEST:.0%}"]]
    for first, then in _STEPS:
        took, of_slowest = (
            [moment[then] - moment[first] for moment in some] for some in (moments, slowest)
        )
        cells = (
            percentile(took, 50),
            percentile(took, 99),
            statistics.fmean(took),
            statistics.fmean(of_slowest),
        )
        table.append([f"{first} → {then}", *(f"{cell:.1f}" for cell in cells)])
    return table
