"""What the service answers of bulk jobs beyond what it answers of any job."""

from __future__ import annotations

from collections.abc import Sequence

from producers.api.schemas import rfc3339
from storage.records.bulk import BulkProgress, BulkRun, Part, Plan
from storage.records.jobs import TERMINAL, Job, JobState, Millis


def progress_document(job: Job, run: BulkRun | None, now: Millis) -> dict[str, object]:
    """How far a bulk job is. ``now`` is the database's clock."""
    state = state_of(job, run)
    if run is None:
        return _NOTHING | {"state": state}
    seen = run.progress
    return {
        "state": state,
        "rows_done": seen.rows_done,
        "rows_failed": seen.rows_failed,
        "rows_skipped": seen.rows_skipped,
        "rows_total": seen.rows_total,
        "share": round(min(1.0, max(seen.share, _share_of_rows(seen))), 6),
        "rows_per_s": round(seen.rows_per_s, 3),
        "estimated_end_at": rfc3339(end_of(run, now) if state == "running" else None),
        "device_s": round(seen.device_ms / 1000, 3),
        "shards": {
            "total": seen.shards_total,
            "done": seen.shards_done,
            "running": seen.shards_running,
        },
    }


_NOTHING: dict[str, object] = {
    "state": "waiting",
    "rows_done": 0,
    "rows_failed": 0,
    "rows_skipped": 0,
    "rows_total": None,
    "share": 0.0,
    "rows_per_s": 0.0,
    "estimated_end_at": None,
    "device_s": 0.0,
    "shards": {"total": 0, "done": 0, "running": 0},
}


def _share_of_rows(seen: BulkProgress) -> float:
    """By rows, which are counted before their part is committed; 0 where nobody knows how many
    there are."""
    done = seen.rows_done + seen.rows_failed + seen.rows_skipped
    return done / seen.rows_total if seen.rows_total else 0.0


def state_of(job: Job, run: BulkRun | None) -> str:
    """One of ``BULK_STATES``. Shards are worked on also while the job waits for a new owner."""
    if job.state in TERMINAL:
        return "ended"
    if run is None:
        return "waiting"
    if run.paused_at is not None:
        return "paused"
    if run.planned_at is None:
        return "waiting" if job.state is JobState.QUEUED else "planning"
    over = run.progress.shards_done >= run.progress.shards_total
    return "finishing" if over or run.error is not None else "running"


def end_of(run: BulkRun, now: Millis) -> Millis | None:
    """When it will be over at the rate of late. Where nobody knows how many rows there are, by how
    much of the files is done."""
    seen = run.progress
    done = seen.rows_done + seen.rows_failed + seen.rows_skipped
    if seen.rows_per_s <= 0:
        return None
    if seen.rows_total is not None:
        left = float(max(0, seen.rows_total - done))
    elif 0 < seen.share <= 1 and done:
        left = done / seen.share - done
    else:
        return None
    return now + round(left / seen.rows_per_s * 1000)


def part_document(job_id: str, part: Part, plan: Plan | None) -> dict[str, object]:
    """A committed part. ``name`` is null where no row of it has a prediction."""
    key, errors = part.part.key, part.part.errors_key
    name = name_in(key) if key else None
    here = f"/v1/jobs/{job_id}/parts"
    return {
        "name": name,
        "shard": part.number,
        "file": plan.files[part.file].uri if plan and part.file < len(plan.files) else None,
        "start": part.part.start,
        "stop": part.part.stop,
        "rows": part.part.rows,
        "failed": part.part.failed,
        "skipped": part.part.skipped,
        "size_bytes": part.part.size_bytes,
        "sha256": part.part.digest,
        "committed_at": rfc3339(part.committed_at),
        "href": f"{here}/{name}" if name else None,
        "errors_href": f"{here}/{name or name_in(errors)}/errors" if errors else None,
        "errors_bytes": part.part.errors_bytes,
    }


def name_in(key: str) -> str:
    """What a part is called: the last segment of its key."""
    return key.rpartition("/")[2]


def manifest_so_far(
    job: Job, run: BulkRun, parts: Sequence[Part], now: Millis
) -> dict[str, object]:
    """What there is to say of a run that has not written its manifest (yet)."""
    return {
        "complete": False,
        "job": job.id,
        "state": job.state.value,
        "model": f"{job.model_name}:{job.version}",
        "progress": progress_document(job, run, now),
        "parts": [part_document(job.id, part, run.plan) for part in parts],
    }
