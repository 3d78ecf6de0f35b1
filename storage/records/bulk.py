"""Bulk jobs: what is asked for, how it is cut into shards, and what came of it.

A *run* is a bulk job's own record: it is planned once into *shards*, each a range of positions in
one file. A position is a row's number (Parquet, NPY, NPZ) or the byte at which its line begins
(text): so a row's id, ``FILE:POSITION``, is the same however the work was cut and whoever did it.
A shard is claimed under a session and an epoch like a job; what was scored of it is committed as a
*part*, which moves the shard's start. Whatever is between start and stop is still to be done.

::

            plan               claim              commit of its last part
    (none) ─────▶ open ─────────────────▶ running ───────────────────────▶ done
                   ▲                        │  └─┐ commit of another part
                   └── release/blame/reap ──┘ ◀──┘
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from storage.records.evaluations import (
    EvaluationSpec,
    evaluation_from_json,
    evaluation_to_json,
)
from storage.records.jobs import JobError, Millis

_PAYLOAD = b'{"bulk":'  # no inference input begins so: their forms are others


MANIFEST, PARTIAL_MANIFEST = "manifest.json", "_manifest.partial.json"
ERRORS = "errors.jsonl"
OUTPUT = "output"  # in a plan's notes: the listed prefix that its base lies below, if any


class BulkFormat(StrEnum):
    """What an input's files hold."""

    PARQUET = "parquet"
    CSV = "csv"  # with a header line
    JSONL = "jsonl"  # one object of columns a line
    NPY = "npy"  # the first axis is the rows
    NPZ = "npz"  # several arrays of equal length, by the model's input names
    IMAGES = "images"  # a prefix: every object below it is a row
    URIS = "uris"  # one address a line: every object is a row
    REQUESTS = "requests"  # JSON lines of {custom_id, body: {input}}: any form of input


class PartFormat(StrEnum):
    """What the outputs are written as."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


class ShardState(StrEnum):
    """Where a shard stands."""

    OPEN = "open"  # nobody's: whoever is free takes it
    RUNNING = "running"  # claimed by one live session under one epoch
    DONE = "done"  # every row of it is in a part


class Control(StrEnum):
    """What a worker is to do with the shards that it has of a run."""

    GO = "go"
    PAUSE = "pause"  # commit what is scored and give the rest back
    STOP = "stop"  # the job is over or about to be: drop everything


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a ``where``; all of them must hold."""

    column: str
    op: str  # = != < <= > >= in, is_null, not_null
    value: object = None


@dataclass(frozen=True, slots=True)
class BulkInput:
    """Which rows. ``columns`` by the model's input (or record column); under ``""`` a bare list,
    for a model with one input or whose columns are named so in the file; empty means by name."""

    uris: tuple[str, ...]
    format: BulkFormat | None = None  # None: by the files' names
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class BulkOutput:
    """Where to and how. Without a ``uri`` the parts lie in the service's own store."""

    uri: str | None = None
    format: PartFormat = PartFormat.PARQUET
    join: bool = False  # every input column goes beside the prediction
    keep: tuple[str, ...] = ()  # or these
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class BulkSpec:
    """What a bulk job is asked to do, as its payload holds it."""

    input: BulkInput
    output: BulkOutput
    max_error_share: float = 0.1  # more rows than this wrong: the run stops
    max_attempts: int = 3  # deaths of a device process that a single row may cause
    dry_run: bool = False
    resume_of: str | None = None  # a job whose parts stay and whose other shards are done here
    failed_rows_of: str | None = None  # a job of whose rows only those in its error file are done
    evaluation: EvaluationSpec | None = None  # what is worked out of the answers at the end


def payload_of(spec: BulkSpec) -> bytes:
    """The job's payload."""
    told: dict[str, object] = {
        "input": {
            "uris": spec.input.uris,
            "format": spec.input.format,
            "columns": spec.input.columns,
            "where": [[one.column, one.op, one.value] for one in spec.input.where],
        },
        "output": {
            "uri": spec.output.uri,
            "format": spec.output.format,
            "join": spec.output.join,
            "keep": spec.output.keep,
            "overwrite": spec.output.overwrite,
        },
        "max_error_share": spec.max_error_share,
        "max_attempts": spec.max_attempts,
        "dry_run": spec.dry_run,
        "resume_of": spec.resume_of,
        "failed_rows_of": spec.failed_rows_of,
    }
    if spec.evaluation is not None:
        told["evaluation"] = evaluation_to_json(spec.evaluation)
    return json.dumps({"bulk": told}, separators=(",", ":"), ensure_ascii=False).encode()


def is_bulk_payload(payload: object) -> bool:
    """Whether a claimed job is a run to look after rather than an input to score."""
    return isinstance(payload, bytes) and payload.startswith(_PAYLOAD)


def spec_of(payload: bytes) -> BulkSpec:
    """What ``payload_of`` wrote."""
    told = json.loads(payload)["bulk"]
    given, output, evaluation = told["input"], told["output"], told.get("evaluation")
    form = given["format"]
    return BulkSpec(
        input=BulkInput(
            uris=tuple(given["uris"]),
            format=None if form is None else BulkFormat(form),
            columns={name: tuple(columns) for name, columns in given["columns"].items()},
            where=tuple(Condition(*one) for one in given["where"]),
        ),
        output=BulkOutput(
            uri=output["uri"],
            format=PartFormat(output["format"]),
            join=output["join"],
            keep=tuple(output["keep"]),
            overwrite=output["overwrite"],
        ),
        max_error_share=told["max_error_share"],
        max_attempts=told["max_attempts"],
        dry_run=told["dry_run"],
        resume_of=told["resume_of"],
        failed_rows_of=told["failed_rows_of"],
        evaluation=None if evaluation is None else evaluation_from_json(evaluation),
    )


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a planned run."""

    uri: str  # as it is shown
    format: BulkFormat
    size_bytes: int
    rows: int | None  # None where only reading tells
    stop: int  # the position behind its last row
    gzip: bool = False
    digest: str | None = None  # of what pins its content (an ETag, a footer), if there is one


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of; written once."""

    files: tuple[PlannedFile, ...]
    columns: tuple[str, ...]  # that the files have, in their order
    base: str  # where the parts go: a prefix of the output's store, without a slash at its end
    rows: int | None  # None where only reading tells
    extra: Mapping[str, object] = field(default_factory=dict)  # the planner's own notes


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A range of positions in one file."""

    number: int
    file: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """Positions that were on the device when its process died, and how often just these were."""

    start: int
    stop: int
    deaths: int


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A shard that this session works on. Every later write names ``(job, number, session,
    epoch)``."""

    job_id: str
    tenant: str
    number: int
    file: int
    start: int
    stop: int
    epoch: int
    losses: int
    version_id: str
    priority: int
    created_at: Millis  # of the job
    suspect: Suspect | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """Job, number and epoch."""
        return self.job_id, self.number, self.epoch


@dataclass(frozen=True, slots=True)
class NewPart:
    """Rows of a shard that are scored and stored: those at ``start`` and before ``stop``."""

    start: int
    stop: int
    rows: int  # that have a prediction
    failed: int  # that have an error instead
    size_bytes: int
    key: str | None  # below the plan's base; None where no row has a prediction
    digest: str | None  # SHA-256 hex
    errors_key: str | None = None  # in the service's own store, whole
    errors_bytes: int = 0
    device_ms: int = 0
    skipped: int = 0  # rows that the ``where`` left out


@dataclass(frozen=True, slots=True)
class Part:
    """A committed part."""

    number: int  # the shard's
    file: int
    epoch: int
    part: NewPart
    committed_at: Millis


@dataclass(frozen=True, slots=True)
class ShardNote:
    """How far a worker is with a shard beyond its last part."""

    job_id: str
    number: int
    epoch: int
    rows: int
    failed: int
    device_ms: int


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a run is. Rows that are scored but in no part yet count as done."""

    rows_done: int = 0
    rows_failed: int = 0
    rows_skipped: int = 0
    rows_total: int | None = None
    units_done: int = 0  # positions
    units_total: int = 0
    shards_done: int = 0
    shards_running: int = 0
    shards_total: int = 0
    device_ms: int = 0
    size_bytes: int = 0
    rows_per_s: float = 0.0

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.units_done / self.units_total if self.units_total else 0.0


@dataclass(frozen=True, slots=True)
class BulkRun:
    """A run as a reader sees it."""

    job_id: str
    tenant: str
    created_at: Millis
    paused_at: Millis | None
    planned_at: Millis | None
    plan: Plan | None
    error: JobError | None  # why it is to fail
    progress: BulkProgress


def row_id(file: int, position: int) -> str:
    """The id of one row."""
    return f"{file}:{position}"


def errors_of(ids: Sequence[str]) -> dict[int, list[int]]:
    """Row ids by file, ascending: what ``row_id`` wrote."""
    found: dict[int, list[int]] = {}
    for one in ids:
        file, _, position = one.partition(":")
        found.setdefault(int(file), []).append(int(position))
    return {file: sorted(set(positions)) for file, positions in found.items()}


def own_name(name: str, epoch: int) -> str:
    """What a manifest or an error file is called in the service's own store: every owner writes
    under a name of its own there, as a pack's row says who may."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}-{epoch}{dot}{ending}"
