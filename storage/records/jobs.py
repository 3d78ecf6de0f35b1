"""Jobs: the one state machine for every kind of work, declared once.

::

                 publish (a mark, not a state)
                     ┌──┐
    submit ──▶ queued ──┴── claim ──▶ running ──▶ succeeded
                 │  ▲                  │  │ └───▶ failed
                 │  └── release/retry/reap ┘ └──▶ cancelled
                 ├──▶ cancelled
                 ├──▶ expired
                 └──▶ failed        (its model turned out broken, too many losses)

Terminal states never change: a retry is a new job with ``retry_of``.
A bulk job or training that has begun was started in time: given back, it expires if it has not
gone on within ``MOST_REST_MS``. One that is paused is queued until it may go on, which nobody
claims: its run's ``paused_at`` tells it apart.
All times are integer milliseconds since 1970 on the database's clock (``Millis``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Millis: TypeAlias = int
NEVER: Millis = 253_370_764_800_000  # the year 9999
MOST_REST_MS = 30 * 86_400_000  # what has begun may lie for so long before it goes on


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # accepted and durable; in the backlog or in the ready window
    RUNNING = "running"  # claimed by one live session under one epoch
    SUCCEEDED = "succeeded"  # it has a result
    FAILED = "failed"  # it has an error
    CANCELLED = "cancelled"  # somebody asked for it before it was committed
    EXPIRED = "expired"  # it was not started before expires_at


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
LIVE = frozenset({JobState.QUEUED, JobState.RUNNING})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.CANCELLED, JobState.EXPIRED, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


class JobKind(StrEnum):
    """What kind of work it is. Only ``BUILT_KINDS`` are served; the others are refused by name."""

    INFERENCE = "inference"
    BULK = "bulk"
    TRAINING = "training"
    EVALUATION = "evaluation"


BUILT_KINDS = frozenset(JobKind)
BULK_KINDS = frozenset({JobKind.BULK, JobKind.EVALUATION})  # that have a bulk run, shards and parts

MIN_PRIORITY, MAX_PRIORITY, DEFAULT_PRIORITY = 0, 9, 5
HIGH_PRIORITY = 8  # from here on a job travels in the ``.hi`` lane
BULK_PRIORITY = 2  # down from here a job is bulk: it fills what online jobs leave over
MAX_LOSSES = 10  # so often may a job lose its session before it fails: no host is to blame for ever
AGEING_MS_PER_PRIORITY = 30_000  # one step of priority is worth this much waiting


def is_bulk(priority: int) -> bool:
    """Whether jobs of this priority only fill what online jobs leave over."""
    return priority <= BULK_PRIORITY


def backlog_rank(created_at: Millis, priority: int) -> int:
    """Virtual time of arrival: lower goes first.

    Linear ageing as a constant: a job of priority p overtakes those of p-1 that came at most
    ``AGEING_MS_PER_PRIORITY`` before it, and none that waited longer. So nothing starves, and
    an index on the rank serves the choice without touching rows.
    """
    return created_at - priority * AGEING_MS_PER_PRIORITY


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable code, a sentence for people, and the attempt that failed."""

    code: str
    message: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class PackSlice:
    """Where bytes lie inside a pack. ``digest`` is the SHA-256 hex of exactly these bytes."""

    pack_id: str
    offset_bytes: int
    length_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """One validated job, ready to be written. The store adds tenant, group and times."""

    id: str
    kind: JobKind
    model_name: str
    version_id: str
    version: int
    pool: str
    payload: bytes | PackSlice  # the input as JSON: in line, or in an input pack
    priority: int = DEFAULT_PRIORITY
    custom_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_in_ms: int = 86_400_000
    run_timeout_ms: int = 900_000
    max_attempts: int = 3
    retry_of: str | None = None
    webhook: str | None = None  # the URL that is told when it is over
    arm_id: str | None = None  # of the trial that it takes part in
    shadow_of: str | None = None  # the job whose input it scores again, unseen by its tenant


@dataclass(frozen=True, slots=True)
class Job:
    """One row as a reader sees it."""

    id: str
    tenant: str
    kind: JobKind
    state: JobState
    model_name: str
    version: int
    version_id: str
    pool: str
    priority: int
    group_id: str | None
    custom_id: str | None
    metadata: Mapping[str, str]
    seq: int  # raised by every transition: what watchers and events compare
    epoch: int
    attempts: int
    max_attempts: int
    losses: int
    session_id: str | None
    created_at: Millis
    expires_at: Millis
    not_before: Millis
    published_at: Millis | None
    started_at: Millis | None
    run_deadline_at: Millis | None
    run_timeout_ms: int
    cancel_requested_at: Millis | None
    finished_at: Millis | None
    error: JobError | None
    result: PackSlice | None
    retry_of: str | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a list asks for; ``None`` means any."""

    states: frozenset[JobState] = frozenset()
    kind: JobKind | None = None
    model_name: str | None = None
    version: int | None = None
    group_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The little that a watcher compares."""

    id: str
    state: JobState
    seq: int


@dataclass(frozen=True, slots=True)
class BacklogHead:
    """A job in the backlog, as the relay weighs it."""

    id: str
    tenant: str
    pool: str
    version_id: str
    priority: int
    rank: int
    expires_at: Millis


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job this session runs now. Every later write names ``(id, session, epoch)``."""

    id: str
    tenant: str
    epoch: int
    version_id: str
    priority: int
    attempts: int
    max_attempts: int
    created_at: Millis
    expires_at: Millis
    run_deadline_at: Millis
    payload: bytes | PackSlice
    suspicions: int = 0  # deaths of a device process that this job shared with others
    claimed_at: Millis = 0  # the database's clock at the claim: deadlines are told from it

    @property
    def rank(self) -> int:
        """Its place in any queue: lower goes first."""
        return backlog_rank(self.created_at, self.priority)

    @property
    def is_bulk(self) -> bool:
        """Whether it only fills what online jobs leave over."""
        return is_bulk(self.priority)


class Verdict(StrEnum):
    """What a worker found out about one claimed job."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the item is at fault and repeating cannot help
    RETRY = "retry"  # try again after a delay; fails when the attempts are spent
    RELEASED = "released"  # nobody's fault: back to the backlog, no attempt spent
    EXPIRED = "expired"  # claimed, but it could not enter the device in time


@dataclass(frozen=True, slots=True)
class Outcome:
    """One claimed job's verdict, as the bulk commit takes it."""

    id: str
    epoch: int
    verdict: Verdict
    entered_device: bool  # whether it was in a device batch: only then an attempt is spent
    result: PackSlice | None = None
    error: JobError | None = None
    retry_in_ms: int = 0


@dataclass(frozen=True, slots=True)
class CommitReport:
    """What the compare-and-swap made of the outcomes. ``lost`` had another owner by then."""

    settled: Mapping[str, JobState]
    lost: frozenset[str]


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """How many of a group's jobs are in each state."""

    group_id: str
    tenant: str
    created_at: Millis
    total: int
    by_state: Mapping[JobState, int]

    @property
    def done(self) -> bool:
        """Whether every job is terminal."""
        return sum(self.by_state.get(state, 0) for state in TERMINAL) >= self.total
