"""What a worker process counts about itself: the words of the document in its session's row.

The worker adds up and the API exposes, so both sides share these. Everything but ``busy_ratio``
and ``loaded`` only grows while the process lives, so that a reader may take differences. Reading
is lenient: a document from another version of Forebay loses what is not understood, and never
breaks the page that shows it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from storage.records.jobs import JobState

T = TypeVar("T")

ONLINE, BULK = "online", "bulk"
CLASSES = (ONLINE, BULK)
STAGES = ("claim", "decode", "device", "store", "commit")
STATES = tuple(state.value for state in JobState)
ROWS_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FILL_BOUNDS = (0.25, 0.5, 0.625, 0.75, 0.875, 1.0)
AGE_BOUNDS_S = (
    *(0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 21600.0),
)


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each bound; one more for what is larger."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Self) -> None:
        """Another one's values."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def to_json(self) -> list[float]:
        """The total, then the counts."""
        return [round(self.total, 6), *self.counts]

    def read(self, value: object) -> None:
        """Take over a document's; one with other bounds is not ours to understand."""
        if isinstance(value, list) and len(value) == len(self.bounds) + 2:
            self.total = number(value[0])
            self.counts = [int(number(one)) for one in value[1:]]


@dataclass(slots=True)
class StageCounts:
    """One stage of the pipeline."""

    batches: int = 0
    jobs: int = 0
    seconds: float = 0.0

    def add(self, other: Self) -> None:
        """Another one's."""
        self.batches += other.batches
        self.jobs += other.jobs
        self.seconds += other.seconds

    def to_json(self) -> list[float]:
        """In the order of the fields."""
        return [self.batches, self.jobs, round(self.seconds, 6)]

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read it back."""
        if not isinstance(value, list) or len(value) != 3:
            return cls()
        batches, jobs, seconds = (number(one) for one in value)
        return cls(int(batches), int(jobs), seconds)


@dataclass(slots=True)
class ClassCounts:
    """The passes of one class: online, or bulk alone."""

    rows: Histogram = field(default_factory=lambda: Histogram(ROWS_BOUNDS))  # of one pass
    fill: Histogram = field(default_factory=lambda: Histogram(FILL_BOUNDS))  # rows ÷ bucket
    age_s: Histogram = field(default_factory=lambda: Histogram(AGE_BOUNDS_S))  # created → device
    slots: int = 0  # rows that the passes had room for
    device_s: float = 0.0

    def add(self, other: Self) -> None:
        """Another one's."""
        self.rows.add(other.rows)
        self.fill.add(other.fill)
        self.age_s.add(other.age_s)
        self.slots += other.slots
        self.device_s += other.device_s

    def to_json(self) -> dict[str, object]:
        """As in the document."""
        return {
            "rows": self.rows.to_json(),
            "fill": self.fill.to_json(),
            "age_s": self.age_s.to_json(),
            "slots": self.slots,
            "device_s": round(self.device_s, 6),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read it back."""
        document, counts = mapping(value), cls()
        counts.rows.read(document.get("rows"))
        counts.fill.read(document.get("fill"))
        counts.age_s.read(document.get("age_s"))
        counts.slots = int(number(document.get("slots")))
        counts.device_s = number(document.get("device_s"))
        return counts


@dataclass(slots=True)
class VersionCounts:
    """Everything about one version, or about all those that are not counted by name."""

    classes: dict[str, ClassCounts] = field(default_factory=dict)
    stages: dict[str, StageCounts] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)  # by state
    expired: int = 0  # claimed, but could not make it
    bisections: int = 0
    out_of_memory: int = 0
    loads: int = 0
    load_s: float = 0.0
    evictions: int = 0

    def of_class(self, name: str) -> ClassCounts:
        """The class's counts."""
        return self.classes.setdefault(name, ClassCounts())

    def add(self, other: Self) -> None:
        """Another one's."""
        for name, counts in other.classes.items():
            self.of_class(name).add(counts)
        for name, stage in other.stages.items():
            self.stages.setdefault(name, StageCounts()).add(stage)
        add_counts(self.settled, other.settled)
        self.expired += other.expired
        self.bisections += other.bisections
        self.out_of_memory += other.out_of_memory
        self.loads += other.loads
        self.load_s += other.load_s
        self.evictions += other.evictions

    def to_json(self) -> dict[str, object]:
        """What is zero is left out."""
        document: dict[str, object] = {
            "classes": {name: counts.to_json() for name, counts in self.classes.items()},
            "stages": {name: stage.to_json() for name, stage in self.stages.items()},
            "settled": dict(self.settled),
            "expired": self.expired,
            "bisections": self.bisections,
            "out_of_memory": self.out_of_memory,
            "loads": self.loads,
            "load_s": round(self.load_s, 6),
            "evictions": self.evictions,
        }
        return {name: value for name, value in document.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read it back."""
        document = mapping(value)
        return cls(
            classes=_known(document.get("classes"), CLASSES, ClassCounts.from_json),
            stages=_known(document.get("stages"), STAGES, StageCounts.from_json),
            settled=_known(document.get("settled"), STATES, _count),
            expired=_count(document.get("expired")),
            bisections=_count(document.get("bisections")),
            out_of_memory=_count(document.get("out_of_memory")),
            loads=_count(document.get("loads")),
            load_s=number(document.get("load_s")),
            evictions=_count(document.get("evictions")),
        )


@dataclass(slots=True)
class TenantCounts:
    """Everything about one tenant, or about all those that are not counted by name."""

    settled: dict[str, int] = field(default_factory=dict)  # by state
    expired: int = 0

    def add(self, other: Self) -> None:
        """Another one's."""
        add_counts(self.settled, other.settled)
        self.expired += other.expired

    def to_json(self) -> dict[str, object]:
        """As in the document."""
        return {"settled": dict(self.settled), "expired": self.expired}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read it back."""
        document = mapping(value)
        settled = _known(document.get("settled"), STATES, _count)
        return cls(settled, _count(document.get("expired")))


@dataclass(slots=True)
class WorkerCounts:
    """A whole document. ``versions`` and ``tenants`` are bounded; ``other_*`` holds the rest."""

    uptime_s: float = 0.0  # when this was counted, since the process started
    busy_s: float = 0.0  # the device computed
    busy_ratio: float = 0.0  # the same as a share of the time since the last document
    versions: dict[str, VersionCounts] = field(default_factory=dict)  # by version id
    other_versions: VersionCounts = field(default_factory=VersionCounts)
    tenants: dict[str, TenantCounts] = field(default_factory=dict)
    other_tenants: TenantCounts = field(default_factory=TenantCounts)
    loaded: dict[str, int] = field(default_factory=dict)  # version id → bytes on the device

    def all_versions(self) -> VersionCounts:
        """The sum over all versions."""
        whole = VersionCounts()
        for counts in (*self.versions.values(), self.other_versions):
            whole.add(counts)
        return whole

    def to_json(self) -> dict[str, object]:
        """The document."""
        return {
            "uptime_s": round(self.uptime_s, 3),
            "busy_s": round(self.busy_s, 6),
            "busy_ratio": round(self.busy_ratio, 4),
            "versions": {name: counts.to_json() for name, counts in self.versions.items()},
            "other_versions": self.other_versions.to_json(),
            "tenants": {name: counts.to_json() for name, counts in self.tenants.items()},
            "other_tenants": self.other_tenants.to_json(),
            "loaded": dict(self.loaded),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read it back."""
        document = mapping(value)
        return cls(
            uptime_s=number(document.get("uptime_s")),
            busy_s=number(document.get("busy_s")),
            busy_ratio=min(1.0, number(document.get("busy_ratio"))),
            versions=_each(document.get("versions"), VersionCounts.from_json),
            other_versions=VersionCounts.from_json(document.get("other_versions")),
            tenants=_each(document.get("tenants"), TenantCounts.from_json),
            other_tenants=TenantCounts.from_json(document.get("other_tenants")),
            loaded=_each(document.get("loaded"), _count),
        )


def add_counts(into: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add by name."""
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count


def number(value: object) -> float:
    """A finite number that is not negative, or 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) and value >= 0 else 0.0


def mapping(value: object) -> Mapping[str, object]:
    """An object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return int(number(value))


def _each(value: object, read: Callable[[object], T]) -> dict[str, T]:
    return {name: read(one) for name, one in mapping(value).items() if isinstance(name, str)}


def _known(value: object, names: Iterable[str], read: Callable[[object], T]) -> dict[str, T]:
    document = mapping(value)
    return {name: read(document[name]) for name in names if name in document}
