"""The manifest: what a run read, what it wrote, and the last check that each row has one answer.

Pure. Its form is ``workers.bulk.manifest_schema``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from storage.records.bulk import ERRORS, BulkFormat, BulkRun, BulkSpec, Part, Plan, PlannedFile
from storage.records.jobs import JobState, Millis
from storage.records.models import ModelVersion
from workers.bulk.error_lines import ErrorsSummary

VERSION = 1
_BY_ROW = frozenset({BulkFormat.PARQUET, BulkFormat.NPY, BulkFormat.NPZ})

Range = tuple[int, int, int]
"""File, start and stop."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``complete`` says that every row of the plan has its answer."""

    state: JobState
    complete: bool
    finished_at: Millis
    errors: ErrorsSummary | None = None  # None: there is no error file
    columns: Sequence[Mapping[str, str]] = ()  # name and type, as the parts have them
    planned: Iterable[Range] | None = None  # what was to be done; None: all of every file


def manifest_of(
    run: BulkRun, spec: BulkSpec, parts: Iterable[Part], model: ModelVersion, outcome: Outcome
) -> dict[str, object]:
    """The manifest. Raises ``RuntimeError`` where parts overlap, or where a complete run's parts
    do not hold each planned position, and each row known, exactly once."""
    ordered = sorted(parts, key=lambda one: (one.file, one.part.start))
    check_parts(run, spec, ordered, outcome)
    plan = run.plan
    manifest: dict[str, object] = {
        "version": VERSION,
        "job": run.job_id,
        "complete": outcome.complete,
        "state": outcome.state.value,
        "model": {
            "name": model.name,
            "version": model.version,
            "version_id": model.id,
            "sha256": model.digest,
        },
        "input": _input(spec, plan.files if plan else ()),
        "output": {
            "uri": spec.output.uri,
            "format": spec.output.format.value,
            "columns": [dict(column) for column in outcome.columns],
        },
        "rows": sum(one.part.rows for one in ordered),
        "failed": sum(one.part.failed for one in ordered),
        "skipped": sum(one.part.skipped for one in ordered),
        "size_bytes": sum(one.part.size_bytes for one in ordered),
        "parts": [_part(one) for one in ordered],
        "errors": _errors(outcome.errors),
        "timings": _timings(run, ordered, outcome.finished_at),
    }
    if run.error is not None:
        manifest["error"] = {"code": run.error.code, "message": run.error.message}
    return manifest


def check_parts(run: BulkRun, spec: BulkSpec, ordered: Sequence[Part], outcome: Outcome) -> None:
    """The check alone, of parts by file and start."""
    held = _joined([(one.file, one.part.start, one.part.stop) for one in ordered])
    if not outcome.complete:
        return
    plan = run.plan
    if plan is None:
        raise RuntimeError(f"bulk job {run.job_id} cannot be complete: it was never planned")
    planned = outcome.planned
    if planned is None:
        planned = [(file, 0, one.stop) for file, one in enumerate(plan.files)]
    wanted = _joined(sorted(one for one in planned if one[1] < one[2]))
    if held != wanted:
        different = sorted(set(held) ^ set(wanted))[:3]
        raise RuntimeError(
            f"the parts of bulk job {run.job_id} do not hold each planned position once:"
            f" look at (file, start, stop) {different}"
        )
    if outcome.planned is None:
        _check_counts(run.job_id, plan, ordered)
    failed = sum(one.part.failed for one in ordered)
    lines = outcome.errors.lines if outcome.errors else 0
    if failed != lines:
        raise RuntimeError(
            f"{failed:,} rows of bulk job {run.job_id} failed, and its error file has {lines:,}"
        )


def _check_counts(job_id: str, plan: Plan, ordered: Sequence[Part]) -> None:
    """Where it is known how many rows a file or a range has, so many were answered."""
    answered = [0] * len(plan.files)
    for one in ordered:
        rows = one.part.rows + one.part.failed + one.part.skipped
        answered[one.file] += rows
        wide = one.part.stop - one.part.start
        if plan.files[one.file].format in _BY_ROW and rows != wide:
            raise RuntimeError(
                f"the part from row {one.part.start} of file {one.file} of bulk job {job_id}"
                f" answers {rows:,} of {wide:,} rows"
            )
    for file, rows in zip(plan.files, answered, strict=True):
        if file.rows is not None and rows != file.rows:
            raise RuntimeError(
                f"bulk job {job_id} answers {rows:,} of the {file.rows:,} rows of {file.uri}"
            )


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Neighbours as one; ``ranges`` are in order."""
    joined: list[Range] = []
    for file, start, stop in ranges:
        if joined and joined[-1][0] == file and start < joined[-1][2]:
            raise RuntimeError(f"positions {start} … {joined[-1][2]} of file {file} are held twice")
        if joined and joined[-1][0] == file and start == joined[-1][2]:
            joined[-1] = (file, joined[-1][1], stop)
        else:
            joined.append((file, start, stop))
    return joined


def _input(spec: BulkSpec, files: Sequence[PlannedFile]) -> dict[str, object]:
    told: dict[str, object] = {
        "uris": list(spec.input.uris),
        "columns": {name: list(columns) for name, columns in spec.input.columns.items()},
        "where": [
            {"column": one.column, "op": one.op, "value": one.value} for one in spec.input.where
        ],
        "files": [
            {
                "uri": one.uri,
                "format": one.format.value,
                "gzip": one.gzip,
                "rows": one.rows,
                "size_bytes": one.size_bytes,
                "digest": one.digest,
            }
            for one in files
        ],
    }
    if spec.failed_rows_of is not None:
        told["failed_rows_of"] = spec.failed_rows_of
    if spec.resume_of is not None:
        told["resume_of"] = spec.resume_of
    return told


def _part(one: Part) -> dict[str, object]:
    part = one.part
    return {
        "name": None if part.key is None else part.key.rpartition("/")[2],
        "rows": part.rows,
        "failed": part.failed,
        "skipped": part.skipped,
        "size_bytes": part.size_bytes,
        "sha256": part.digest,
        "file": one.file,
        "start": part.start,
        "stop": part.stop,
    }


def _errors(errors: ErrorsSummary | None) -> dict[str, object] | None:
    if errors is None:
        return None
    return {
        "name": ERRORS,
        "lines": errors.lines,
        "size_bytes": errors.size_bytes,
        "sha256": errors.sha256_hex,
    }


def _timings(run: BulkRun, parts: Sequence[Part], finished_at: Millis) -> dict[str, object]:
    """``rows_per_s`` is over the time since the run was planned, and counts rows with an error."""
    done = sum(one.part.rows + one.part.failed for one in parts)
    worked_ms = finished_at - (run.created_at if run.planned_at is None else run.planned_at)
    return {
        "created_at": _rfc3339(run.created_at),
        "planned_at": None if run.planned_at is None else _rfc3339(run.planned_at),
        "finished_at": _rfc3339(finished_at),
        "wall_s": max(0, finished_at - run.created_at) / 1000,
        "device_s": sum(one.part.device_ms for one in parts) / 1000,
        "rows_per_s": round(done / (worked_ms / 1000), 3) if worked_ms > 0 else 0.0,
    }


def _rfc3339(at: Millis) -> str:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
