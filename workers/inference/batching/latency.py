"""The latency model of one process: what passes, stages and switches take, and what fits.

Kept per (version, shape bucket, batch bucket) as ``LatencyRow`` and per version as ``VersionCost``,
so that a worker that loads the version again goes on where the last one stopped. Not locked:
its callers hold one lock around it and the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from storage.records.latency import LatencyRow, VersionCost
from workers.inference.batching.candidate import MIXED
from workers.inference.batching.line import Line
from workers.inference.batching.means import Duration, Share
from workers.inference.batching.passes import Passes
from workers.inference.batching.stages import Path


@dataclass(slots=True)
class _Version:
    """Everything known of one version."""

    passes: Passes = field(default_factory=Passes)
    path: Path = field(default_factory=Path)
    device: Share = field(default_factory=Share)
    whole: Share = field(default_factory=Share)
    switch: Duration = field(default_factory=Duration)
    caps: dict[str, int] = field(default_factory=dict)  # by shape: most rows that fit
    load_s: float = 0.0
    memory_bytes: int = 0
    changed: bool = False


class LatencyBook:
    """What was learned so far; everything has an answer before anything was measured."""

    def __init__(self) -> None:
        self._versions: dict[str, _Version] = {}

    # --- passes

    def observe(
        self, version_id: str, shape: str, bucket: int, seconds: float, cost: float | None = None
    ) -> None:
        """A pass of ``bucket`` rows, padding included, took this long on the device."""
        passes = self._of(version_id).passes
        if cost is not None:
            passes.price(shape, cost / bucket)
        passes.observe(shape, bucket, seconds)

    def ran(self, version_id: str, shape: str, bucket: int) -> bool:
        """Whether such a pass is known to have run."""
        return self._of(version_id).passes.ran(shape, bucket)

    def price(self, version_id: str, shape: str, row_cost: float) -> None:
        """A row of this shape costs so much: how unseen shapes compare with seen ones."""
        self._of(version_id).passes.price(shape, row_cost)

    def estimate_s(
        self, version_id: str, shape: str, bucket: int, cost: float | None = None
    ) -> float:
        """Expected seconds of a pass; with no sample at all only ratios mean something."""
        return self._of(version_id).passes.estimate_s(shape, bucket, cost)

    def p95_s(self, version_id: str, shape: str, bucket: int, cost: float | None = None) -> float:
        """What nineteen of twenty such passes stay within."""
        return self._of(version_id).passes.p95_s(shape, bucket, cost)

    def tried_rows(self, version_id: str, shape: str) -> float:
        """Rows of this shape that cost as much as the largest pass that ran so far."""
        return self._of(version_id).passes.tried_rows(shape)

    # --- memory

    def shrink(self, version_id: str, shape: str, bucket: int) -> int | None:
        """A pass of this size did not fit: half of it is the most from now on. Gives what was
        the most before, for ``unshrink``."""
        version = self._of(version_id)
        before = version.caps.get(shape)
        halved = max(1, bucket // 2)
        version.caps[shape] = halved if before is None else min(halved, before)
        version.changed = True
        return before

    def unshrink(self, version_id: str, shape: str, before: int | None) -> None:
        """It was not the size that did not fit."""
        version = self._of(version_id)
        version.caps.pop(shape, None)
        if before is not None:
            version.caps[shape] = before
        version.changed = True

    def cap(self, version_id: str, shape: str) -> int | None:
        """Most rows that fit, as far as is known.

        What did not fit in one shape will not in one whose rows cost more. A cap that was kept
        without its shape (``MIXED``) holds for all.
        """
        version = self._of(version_id)
        if not version.caps:
            return None
        row_cost = version.passes.row_cost
        mine = row_cost(shape)
        return min(
            (
                rows
                for other, rows in version.caps.items()
                if other in (shape, MIXED) or row_cost(other) <= mine
            ),
            default=None,
        )

    # --- stages and jobs

    def observe_stage(self, version_id: str, stage: str, rows: int, seconds: float) -> None:
        """A batch of so many rows spent so long in a stage: claim, device, store or commit."""
        self._of(version_id).path.observe(stage, rows, seconds)

    def path(self, version_id: str) -> Line | None:
        """The stages observed so far, together, over rows; None before there is one."""
        return self._of(version_id).path.line

    def path_s(self, version_id: str, rows: int) -> float:
        """What a batch of so many rows takes through all observed stages; 0.0 before any is."""
        line = self.path(version_id)
        return line.at(rows) if line is not None else 0.0

    def observe_jobs(self, version_id: str, jobs: int, seconds: float) -> None:
        """So many jobs took so much device time together."""
        version = self._of(version_id)
        version.device.observe(jobs, seconds)
        version.changed = True

    def device_s_per_job(self, version_id: str) -> float:
        """Device time that one job takes, lately; 0.0 before any was measured."""
        return self._of(version_id).device.s_per_job

    def observe_path(self, version_id: str, jobs: int, seconds: float) -> None:
        """So many jobs were finished in so long by a worker that had work all the while."""
        version = self._of(version_id)
        version.whole.observe(jobs, seconds)
        version.changed = True

    def observe_switch(self, version_id: str, seconds: float) -> None:
        """The first pass after another version's took so much longer than others do."""
        self._of(version_id).switch.observe(max(0.0, seconds))

    def switch_s(self, version_id: str) -> float:
        """What it costs to go over to this version; 0.0 before it was measured."""
        return self._of(version_id).switch.mean_s

    def observe_load(self, version_id: str, seconds: float, memory_bytes: int) -> None:
        """It was loaded and warmed."""
        version = self._of(version_id)
        version.load_s, version.memory_bytes = seconds, memory_bytes
        version.changed = True

    # --- kept

    def rows(self, device: str) -> list[LatencyRow]:
        """What was measured since the last call, to be written down."""
        return [
            LatencyRow(version_id, device, shape, bucket, times.count, times.mean_s, times.p95_s)
            for version_id, version in self._versions.items()
            for shape, bucket, times in version.passes.changed()
        ]

    def restore(self, rows: Iterable[LatencyRow]) -> None:
        """Go on from what was written down; what this process measured by itself stays."""
        for row in rows:
            self._of(row.version_id).passes.restore(
                row.shape, row.bucket, Duration.restored(row.count, row.mean_s, row.p95_s)
            )

    def costs(self, device: str) -> list[VersionCost]:
        """The versions whose costs changed since the last call, to be written down."""
        kept = []
        for version_id, version in self._versions.items():
            if version.changed:
                version.changed = False
                kept.append(_cost(version_id, device, version))
        return kept

    def restore_costs(self, costs: Iterable[VersionCost]) -> None:
        """Go on from costs that were written down; what this process measured by itself stays."""
        for cost in costs:
            version = self._of(cost.version_id)
            version.device.begin(cost.device_s_per_job)
            version.whole.begin(cost.path_s_per_job)
            version.load_s = version.load_s or cost.load_s
            version.memory_bytes = version.memory_bytes or cost.memory_bytes
            if cost.safe_rows is not None:
                version.caps.setdefault(MIXED, cost.safe_rows)

    def forget(self, version_id: str) -> None:
        """It will not be served here any more."""
        self._versions.pop(version_id, None)

    def _of(self, version_id: str) -> _Version:
        version = self._versions.get(version_id)
        if version is None:
            version = self._versions[version_id] = _Version()
        return version


def _cost(version_id: str, device: str, version: _Version) -> VersionCost:
    return VersionCost(
        version_id,
        device,
        device_s_per_job=version.device.s_per_job,
        path_s_per_job=version.whole.s_per_job,
        load_s=version.load_s,
        memory_bytes=version.memory_bytes,
        safe_rows=min(version.caps.values(), default=None),
    )
