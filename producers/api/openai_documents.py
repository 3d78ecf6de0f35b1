"""The shapes of the OpenAI Batch API: ours, told by its words. Pure.

A batch is a bulk job of ``requests``, so its id is the job's; the files with its outputs and its
errors are told from that id as well, and made of the job's parts when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from producers.batch_files import (
    ENDPOINT,
    OWN_LABELS,
    REQUESTS_LABEL,
    WINDOW,
    BatchError,
    errors_of,
)
from storage.records.bulk import BulkRun, BulkSpec
from storage.records.ids import is_id
from storage.records.jobs import Job, JobState, Millis
from storage.records.models import Model, ModelVersion
from storage.records.refs import FILES_PREFIX
from storage.records.tenants import StoredFile
from storage.records.webhooks import BATCH_LABEL, batch_id

BATCH, FILE, OUTPUT, ERRORS = "batch_", "file-", "file-out-", "file-err-"
_ENDS = {
    JobState.SUCCEEDED: "completed",
    JobState.CANCELLED: "cancelled",
    JobState.EXPIRED: "expired",
}


def id_in(text: str, prefix: str) -> str | None:
    """The id of ours that an id of theirs holds, if it is one with this prefix."""
    digits = text.removeprefix(prefix)
    if digits == text or len(digits) != 32:
        return None
    found = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return found if is_id(found) else None


def spelled(prefix: str, our_id: str) -> str:
    """An id as they spell it."""
    return prefix + our_id.replace("-", "")


def status_of(job: Job, run: BulkRun | None) -> str:
    """A batch's status. What runs longer than its window has expired."""
    if job.state is JobState.FAILED:
        slow = job.error is not None and job.error.code == "run_timeout"
        return "expired" if slow else "failed"
    if job.state in _ENDS:
        return _ENDS[job.state]
    if job.cancel_requested_at is not None:
        return "cancelling"
    if run is None or run.planned_at is None:
        return "validating"
    if run.error is not None or run.progress.shards_done >= run.progress.shards_total:
        return "finalizing"
    return "in_progress"


def batch_document(job: Job, run: BulkRun | None, spec: BulkSpec | None) -> dict[str, object]:
    """A batch. Its files are named once it is over: what is in them changes no more."""
    status = status_of(job, run)
    done, failed = (run.progress.rows_done, run.progress.rows_failed) if run else (0, 0)
    over = job.finished_at
    failure = job.error if status == "failed" else None
    return {
        "id": batch_id(job.id),
        "object": "batch",
        "endpoint": ENDPOINT,
        "model": f"{job.model_name}:{job.version}",
        "errors": _errors(errors_of(failure)) if failure else None,
        "input_file_id": _input_of(spec),
        "completion_window": WINDOW,
        "status": status,
        "output_file_id": spelled(OUTPUT, job.id) if over and done else None,
        "error_file_id": spelled(ERRORS, job.id) if over and failed else None,
        "created_at": seconds(job.created_at),
        "in_progress_at": seconds(run.planned_at if run else None),
        "expires_at": seconds(job.run_deadline_at or job.expires_at),
        "finalizing_at": None,
        "completed_at": seconds(over if status == "completed" else None),
        "failed_at": seconds(over if status == "failed" else None),
        "expired_at": seconds(over if status == "expired" else None),
        "cancelling_at": seconds(job.cancel_requested_at),
        "cancelled_at": seconds(over if status == "cancelled" else None),
        "request_counts": {
            "total": _requests_of(job, spec, done + failed),
            "completed": done,
            "failed": failed,
        },
        "usage": None,
        "metadata": {k: v for k, v in job.metadata.items() if not k.startswith(OWN_LABELS)} or None,
    }


def _requests_of(job: Job, spec: BulkSpec | None, seen: int) -> int:
    """Of a retry of some rows only those that were seen."""
    told = job.metadata.get(REQUESTS_LABEL, "")
    some = spec is not None and spec.failed_rows_of is not None
    return seen if some or not told.isdecimal() else int(told)


def _errors(errors: Sequence[BatchError]) -> dict[str, object]:
    data = [
        {"code": one.code, "line": one.line, "message": one.message, "param": one.param}
        for one in errors
    ]
    return {"object": "list", "data": data}


def is_batch(job: Job) -> bool:
    """Whether a job came as a batch."""
    key, value = BATCH_LABEL
    return job.metadata.get(key) == value


def file_document(file: StoredFile, kept_ms: int) -> dict[str, object]:
    """An uploaded file."""
    return _file(
        spelled(FILE, file.id),
        file.filename,
        file.size_bytes,
        file.created_at,
        "batch",
        file.created_at + kept_ms,
    )


def output_name(prefix: str, job: Job) -> str:
    """What the file of a batch's outputs or errors is called."""
    return f"{batch_id(job.id)}_{'output' if prefix == OUTPUT else 'errors'}.jsonl"


def output_document(prefix: str, job: Job, size_bytes: int, kept_ms: int) -> dict[str, object]:
    """The file of a batch's outputs or errors. Its size is that of the parts it is made of."""
    made_at = job.finished_at or job.created_at
    return _file(
        spelled(prefix, job.id),
        output_name(prefix, job),
        size_bytes,
        made_at,
        "batch_output",
        made_at + kept_ms,
    )


def _file(
    file_id: str, filename: str, size_bytes: int, at: Millis, purpose: str, until: Millis
) -> dict[str, object]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": seconds(at),
        "expires_at": seconds(until),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }


def model_document(model: Model) -> dict[str, object]:
    """A model, by its name."""
    return _model(model.name, model.created_at, model.tenant)


def version_document(version: ModelVersion, called: str) -> dict[str, object]:
    """A model as it was asked for: ``name``, ``name:version`` or ``name@alias``."""
    return _model(called, version.created_at, version.tenant)


def _model(name: str, created_at: Millis, tenant: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": seconds(created_at), "owned_by": tenant}


def list_document(data: Sequence[Mapping[str, object]], *, has_more: bool) -> dict[str, object]:
    """A page."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def error_document(problem: Mapping[str, Any]) -> dict[str, object]:
    """One of our problems in their envelope."""
    status = int(problem.get("status", 500))
    kind = "invalid_request_error"
    if status >= 500:
        kind = "server_error"
    elif status == 429:
        kind = "rate_limit_error"
    message = str(problem.get("detail", ""))
    if incident := problem.get("incident"):
        message += f" ({incident})"
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": problem.get("field"),
            "code": problem.get("code"),
        }
    }


Convert = Callable[[bytes], bytes]


def output_lines(job_id: str, outputs: Sequence[str], *, labelled: bool) -> Convert:
    """From a line of a part to a line of the output file. A part's columns are the row's id, the
    ``custom_id``, the label and its score where the model has labels, and then the model's
    ``outputs`` in their order, whatever they had to be called there."""
    before = 4 if labelled else 2

    def convert(line: bytes) -> bytes:
        row = orjson.loads(line)
        columns = list(row.values())
        result: dict[str, object] = {"outputs": dict(zip(outputs, columns[before:], strict=True))}
        if labelled:
            label, score = columns[2:before]
            result |= {"label": label, "top": [{"label": label, "score": score}]}
        ids = _ids_of(job_id, row)
        response = {"status_code": 200, "request_id": ids["id"], "body": result}
        return orjson.dumps(ids | {"response": response, "error": None}) + b"\n"

    return convert


def error_lines(job_id: str) -> Convert:
    """The same for the error file."""

    def convert(line: bytes) -> bytes:
        row = orjson.loads(line)
        error = {"code": row.get("code"), "message": row.get("message")}
        return orjson.dumps(_ids_of(job_id, row) | {"response": None, "error": error}) + b"\n"

    return convert


def _ids_of(job_id: str, row: Mapping[str, Any]) -> dict[str, object]:
    """Of a row: the same whenever the file is read."""
    place = str(row["row_id"]).replace(":", "_")
    return {
        "id": f"{spelled('batch_req_', job_id)}_{place}",
        "custom_id": row.get("custom_id"),
    }


def _input_of(spec: BulkSpec | None) -> str:
    uri = spec.input.uris[0] if spec and spec.input.uris else ""
    return spelled(FILE, uri.removeprefix(FILES_PREFIX)) if uri.startswith(FILES_PREFIX) else uri


def seconds(at: Millis | None) -> int | None:
    """A moment as they tell it."""
    return None if at is None else at // 1000
