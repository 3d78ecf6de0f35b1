"""What travels through the pipeline: claimed jobs with their rows, then with their answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.records.errors import ItemError
from storage.records.jobs import ClaimedJob
from workers.inference.ports import Ragged, Row
from workers.inference.versions import Lease
from workers.inference.waiting import Line


@dataclass(frozen=True, slots=True)
class Fault:
    """The model failed on a job that was alone in its pass."""

    code: str
    message: str


@dataclass(slots=True, eq=False)
class Work:
    """One claimed job. ``refused``: its whole input is wrong, it has no rows."""

    job: ClaimedJob
    session_id: str
    line: Line  # the line it was taken from, and counts in
    claimed_s: float  # monotonic, just before ``job.claimed_at`` was read off the database's clock
    rows: list[Row | ItemError] = field(default_factory=list)
    is_list: bool = False
    refused: ItemError | None = None
    fault: Fault | None = None
    postpone_ms: int = 0  # its reference cannot be reached now: nobody's fault, try later
    expired: bool = False  # it could not enter the device in time
    entered_device: bool = False
    credit: int = 1  # rows it counts as among those that wait
    size_bytes: int = 0  # of its decoded rows

    def here_s(self, at: int) -> float:
        """A moment of the database's clock on this process's monotonic one."""
        claimed_at = self.job.claimed_at
        return self.claimed_s + (at - claimed_at) / 1000 if claimed_at else math.inf


class RowRef(NamedTuple):
    """Which row of which work: how an answer finds back to its question."""

    work: int
    row: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One pass's outputs without any padding: row ``i`` belongs to ``refs[i]``."""

    outputs: dict[str, Ragged]
    refs: tuple[RowRef, ...]


@dataclass(slots=True, eq=False)
class Batch:
    """Works that leave together. ``lease`` is None where nothing of it needs a model any more."""

    works: list[Work]
    lease: Lease | None = None
    segments: list[Segment] = field(default_factory=list)
    faults: dict[RowRef, ItemError] = field(default_factory=dict)

    @property
    def version_id(self) -> str:
        """Whose it is; of several, the first one's."""
        return self.works[0].job.version_id

    def release(self) -> None:
        """The model is not needed any more."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None
