"""What travels through the pipeline: claimed jobs with their rows, then with their answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from storage.records.errors import ItemError
from storage.records.jobs import ClaimedJob
from workers.inference.ledger import RowSpan
from workers.inference.ports import Array, Ragged, Row
from workers.inference.spans import RowRef, Spans
from workers.inference.versions import Lease
from workers.inference.waiting import Line


@dataclass(frozen=True, slots=True)
class Fault:
    """The model failed on a job that was alone in its pass."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of a shard that wait for the device together. ``arrays`` by input, or None where they
    are rows of a work's own."""

    number: int  # the shard's
    positions: Array  # of each row, ascending
    arrays: Mapping[str, Array] | None
    deliver: Callable[[Answered | None], None]  # None: it did not run, and shall not

    def span(self, job_id: str, first: int, last: int) -> RowSpan:
        """What the ledger says of its rows ``first … last - 1``."""
        start, stop = int(self.positions[first]), int(self.positions[last - 1]) + 1
        return RowSpan(job_id, self.number, start, stop)


@dataclass(slots=True, eq=False)
class Work:
    """One claimed job. ``refused``: its whole input is wrong, it has no rows.

    With a ``block`` it is some rows of a bulk job: their answers are delivered to whoever sent
    them, and not stored here.
    """

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
    block: Block | None = None

    def here_s(self, at: int) -> float:
        """A moment of the database's clock on this process's monotonic one."""
        claimed_at = self.job.claimed_at
        return self.claimed_s + (at - claimed_at) / 1000 if claimed_at else math.inf


@dataclass(frozen=True, slots=True)
class Segment:
    """One pass's outputs without any padding: row ``i`` belongs to ``refs[i]``."""

    outputs: dict[str, Ragged]
    refs: Sequence[RowRef]


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


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a block: outputs for ranges of its rows, and the rows that have none."""

    outputs: Sequence[tuple[int, int, Mapping[str, Ragged]]]  # first row, behind the last, by name
    faults: Mapping[int, ItemError]
    device_s: float
    fault: Fault | None = None  # the device stage itself failed


def deliver(batch: Batch, seconds: float) -> None:
    """Hand a batch of blocks back to whoever sent them; each with its share of the seconds."""
    batch.release()
    outputs: dict[int, list[tuple[int, int, Mapping[str, Ragged]]]] = {}
    for segment in batch.segments:
        at = 0
        for place, first, last in _runs(segment.refs):
            part = {name: array[at : at + last - first] for name, array in segment.outputs.items()}
            outputs.setdefault(place, []).append((first, last, part))
            at += last - first
    faults: dict[int, dict[int, ItemError]] = {}
    for ref, error in batch.faults.items():
        faults.setdefault(ref.work, {})[ref.row] = error
    total = sum(len(work.block.positions) for work in batch.works if work.block) or 1
    for index, work in enumerate(batch.works):
        assert work.block is not None
        share = len(work.block.positions) / total
        found = sorted(outputs.get(index, ()), key=lambda one: one[0])
        work.block.deliver(
            Answered(found, faults.get(index, {}), seconds * share, fault=work.fault)
        )


def _runs(refs: Sequence[RowRef]) -> Sequence[tuple[int, int, int]]:
    """(work, first row, behind the last) of refs that follow each other."""
    if isinstance(refs, Spans):
        return refs.parts
    runs: list[tuple[int, int, int]] = []
    for work, row in refs:
        if runs and runs[-1][0] == work and runs[-1][2] == row:
            runs[-1] = (work, runs[-1][1], row + 1)
        else:
            runs.append((work, row, row + 1))
    return runs
