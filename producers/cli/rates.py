"""What happened lately: differences between the two last things that each worker told.

Workers tell their counts every few seconds, with the age of their process. So the time between
two tellings is the worker's own, whenever and however often the page is read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from producers.cli.exposition import Page

UPTIME = "forebay_worker_uptime_seconds"
_GROWING = ("_total", "_sum", "_count", "_bucket")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One worker's counters at one moment."""

    uptime_s: float
    counts: Mapping[tuple[str, Labels], float]


@dataclass(slots=True)
class Rates:
    """Fed with pages; remembers two tellings of each worker that is alive."""

    last: dict[str, Told] = field(default_factory=dict)
    before: dict[str, Told] = field(default_factory=dict)
    _per_s: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    def feed(self, page: Page) -> None:
        """One more page."""
        fresh = told_by_worker(page)
        for worker, told in fresh.items():
            known = self.last.get(worker)
            if known is not None and known.uptime_s != told.uptime_s:
                self.before[worker] = known
        self.last = fresh
        self.before = {worker: told for worker, told in self.before.items() if worker in fresh}
        self._per_s = self._grown()

    def moved_since(self, others: Mapping[str, Told]) -> bool:
        """Whether each worker of ``others`` that is still alive has told something new."""
        return all(
            worker not in self.last or self.last[worker].uptime_s != told.uptime_s
            for worker, told in others.items()
        )

    def per_s(self, name: str, **where: str) -> float | None:
        """A counter's growth a second, over all workers and series that match; None as long as
        nobody has told twice."""
        if not self.before:
            return None
        rows = self._per_s.get(name, ())
        return sum((value for labels, value in rows if where.items() <= labels.items()), 0.0)

    def ratio(self, over: str, under: str, **where: str) -> float | None:
        """Growth of one counter ÷ growth of another; None where nothing grew."""
        bottom = self.per_s(under, **where)
        return (self.per_s(over, **where) or 0.0) / bottom if bottom else None

    def quantiles(self, name: str, shares: Sequence[float], **where: str) -> list[float | None]:
        """Of a histogram's values lately; None if there were none."""
        found: defaultdict[float, float] = defaultdict(float)
        for labels, value in self._per_s.get(f"{name}_bucket", ()):
            if where.items() <= labels.items():
                found[float(labels.get("le", "inf"))] += value
        bounds = sorted(found)
        return [quantile(share, bounds, [found[bound] for bound in bounds]) for share in shares]

    def _grown(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        found: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for worker, before in self.before.items():
            last = self.last[worker]
            span_s = last.uptime_s - before.uptime_s
            if span_s <= 0:
                continue
            for (name, labels), value in last.counts.items():
                old = before.counts.get((name, labels), 0.0)
                more = value - old if value >= old else value  # else it started anew
                if more:
                    found[name].append((dict(labels), more / span_s))
        return found


def told_by_worker(page: Page) -> dict[str, Told]:
    """What each live worker has told."""
    counts: defaultdict[str, dict[tuple[str, Labels], float]] = defaultdict(dict)
    for name, samples in page.items():
        if name.endswith(_GROWING):
            for sample in samples:
                if "worker" in sample.labels:
                    labels = tuple(sorted(sample.labels.items()))
                    counts[sample.labels["worker"]][name, labels] = sample.value
    return {
        sample.labels["worker"]: Told(sample.value, counts[sample.labels["worker"]])
        for sample in page.get(UPTIME, ())
        if "worker" in sample.labels
    }


def quantile(share: float, bounds: Sequence[float], cumulative: Sequence[float]) -> float | None:
    """By interpolation within the bucket; what is beyond the last bound counts as that."""
    total = cumulative[-1] if cumulative else 0.0
    if total <= 0:
        return None
    lower = seen = 0.0
    for bound, count in zip(bounds, cumulative, strict=True):
        if count >= share * total and count > seen and not math.isinf(bound):
            return lower + (bound - lower) * max(0.0, share * total - seen) / (count - seen)
        if not math.isinf(bound):
            lower, seen = bound, max(seen, count)
    return lower
