"""What the batcher weighs and what it hands out.

All times in this package are seconds on the caller's monotonic clock, passed in; ranks are the
milliseconds of ``storage.records.jobs.backlog_rank``, which only compare with each other.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

MIXED = "*"
"""The shape of a list job whose rows fall in several buckets: it runs by itself."""

UNLIMITED = sys.maxsize
"""``Candidate.companions`` of a job that nobody suspects."""

BLOCKS = UNLIMITED - 1
"""The same of a block of a bulk job's rows: blocks share passes with their like alone, as what
comes of them goes another way."""


@dataclass(slots=True, eq=False)
class Candidate:
    """A claimed, decoded job that waits for the device."""

    job_id: str
    tenant: str
    version_id: str
    shape: str  # its shape bucket as the runtime spells it; "" where there is only one
    rows: int
    cost: float  # of all its rows at the padded shape
    rank_ms: int
    bulk: bool
    latest_start_s: float  # math.inf when it may start whenever
    companions: int  # most jobs it may share a pass with, itself included
    payload: object = None  # the caller's own


@dataclass(frozen=True)
class Limits:
    """What one version's passes must keep to."""

    sizes: tuple[int, ...]  # allowed rows of a pass, ascending
    max_cost: float | None  # most cost of a pass, padding included
    objective_s: float  # a bulk job must not delay an online one by more
    instances: int = 1  # passes that may run at once; ``free`` knows how many do


@dataclass(frozen=True)
class Pick:
    """One pass: jobs of one version and shape that enter the device together, now.

    A single job may bring more rows than ``bucket`` or rows of several shapes (``MIXED``): then it
    is alone here and its caller runs it in several passes of at most ``bucket`` rows.
    """

    version_id: str
    shape: str
    candidates: tuple[Candidate, ...]
    bucket: int  # rows the device computes
    rows: int  # of them real ones
    fill: float  # the real share of what the device computes
    bulk: bool  # nobody online is in it
    estimate_s: float = 0.0
    overdue: bool = False  # picked because somebody's patience had ended
