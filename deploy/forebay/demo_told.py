"""What the demo's worker told of itself: how full its batches were and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from producers.cli.curve import seconds_text
from producers.cli.exposition import Page, parse_page
from producers.cli.screen import STAGES, total

if TYPE_CHECKING:
    from producers.client import ModelVersion

TOLD_WITHIN_S, LOOK_EVERY_S = 10.0, 0.2


@dataclass(frozen=True, slots=True)
class Told:
    """Counted by the worker; empty when it did not tell in time."""

    passes: Mapping[str, int]  # rows in a pass, as "65-128" → passes
    rows_per_pass: float
    fill: float  # rows ÷ rows that the passes had room for
    stages: Mapping[str, float]  # seconds that a batch spent in each
    latency: Sequence[Mapping[str, Any]]  # seconds of a pass by bucket, as learned

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def lines(self) -> dict[str, str]:
        """A few lines for people."""
        if not self.passes:
            return {}
        sizes = "  ".join(f"{rows}: {passes}" for rows, passes in self.passes.items())
        found = {
            "rows in a pass": f"{sizes}   ({self.fill:.0%} of the room used)",
            "time of a batch": "  ".join(
                f"{stage} {seconds_text(seconds)}" for stage, seconds in self.stages.items()
            ),
        }
        if self.latency:
            found["learned curve"] = "  ".join(
                f"{row['bucket']} rows {seconds_text(row['mean_s'])}" for row in self.latency
            )
        return found


def ask(read: Callable[[], str], look: Callable[[], ModelVersion], jobs: int) -> Told:
    """Read the figures until all ``jobs`` are in them: workers tell them now and then."""
    deadline_s = time.monotonic() + TOLD_WITHIN_S
    page = parse_page(read())
    while _settled(page) < jobs and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
        page = parse_page(read())
    return told(page, look().document.get("latency", ()))


def told(page: Page, latency: Sequence[Mapping[str, Any]]) -> Told:
    """Read out of a page of figures and a version's measured passes."""
    rows = total(page, "forebay_batch_rows_sum")
    return Told(
        passes=_sizes(page),
        rows_per_pass=rows / max(1.0, total(page, "forebay_batch_rows_count")),
        fill=rows / max(1.0, total(page, "forebay_batch_slots_total")),
        stages={stage: _seconds(page, stage) for stage in STAGES},
        latency=[{"bucket": row["bucket"], "mean_s": row["mean_s"]} for row in latency],
    )


def _settled(page: Page) -> float:
    return total(page, "forebay_jobs_settled_total", state="succeeded")


def _seconds(page: Page, stage: str) -> float:
    batches = total(page, "forebay_stage_seconds_count", stage=stage)
    return total(page, "forebay_stage_seconds_sum", stage=stage) / max(1.0, batches)


def _sizes(page: Page) -> dict[str, int]:
    """Passes by size, without the sizes that none had."""
    found: dict[str, int] = {}
    seen = above = 0
    bounds = {one.labels["le"] for one in page.get("forebay_batch_rows_bucket", ())}
    for bound in sorted(bounds, key=float):
        passes = int(total(page, "forebay_batch_rows_bucket", le=bound)) - seen
        if passes:
            found[_range(above, bound)] = passes
        seen += passes
        above = above if bound == "+Inf" else int(float(bound))
    return found


def _range(above: int, bound: str) -> str:
    if bound == "+Inf":
        return f"over {above}"
    upto = int(float(bound))
    return str(upto) if upto == above + 1 else f"{above + 1}-{upto}"
