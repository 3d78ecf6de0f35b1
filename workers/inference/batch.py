"""What travels through the pipeline: claimed jobs with their rows, then with their answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.records.errors import ItemError
from storage.records.jobs import ClaimedJob
from storage.records.packs import NewPack
from workers.inference.ports import Array, Row
from workers.inference.versions import Lease


@dataclass(slots=True)
class Work:
    """One claimed job. ``refused``: its whole input is wrong, it has no rows."""

    job: ClaimedJob
    rows: list[Row | ItemError] = field(default_factory=list)
    is_list: bool = False
    refused: ItemError | None = None
    culprit: str | None = None  # the model failed on it alone; says how
    postpone_ms: int = 0  # its reference cannot be reached now: nobody's fault, try later
    entered_device: bool = False


@dataclass(frozen=True, slots=True)
class RowRef:
    """Which row of which work: how an answer finds back to its question."""

    work: int
    row: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One forward pass's outputs, padding cut off: row ``i`` belongs to ``refs[i]``."""

    outputs: dict[str, Array]
    refs: tuple[RowRef, ...]


@dataclass(slots=True)
class Batch:
    """Claimed jobs of one version under one session."""

    session_id: str
    lease: Lease
    works: list[Work]
    packs: dict[str, NewPack]  # by tenant; their rows exist as ``writing`` since the claim
    segments: list[Segment] = field(default_factory=list)
    faults: dict[RowRef, ItemError] = field(default_factory=dict)

    @property
    def claims(self) -> list[tuple[str, int]]:
        """(id, epoch) of every job, as ``release`` takes them."""
        return [(work.job.id, work.job.epoch) for work in self.works]

    @property
    def ids(self) -> list[str]:
        return [work.job.id for work in self.works]
