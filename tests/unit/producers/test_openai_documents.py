"""Our nouns in the shapes of the OpenAI Batch API: states, moments, files, lines, errors."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from openai.types import Batch, FileObject

from producers.api.openai_documents import (
    ERRORS,
    FILE,
    OUTPUT,
    batch_document,
    error_document,
    error_lines,
    file_document,
    id_in,
    output_document,
    output_lines,
    spelled,
    status_of,
)
from producers.api.problems import problem
from producers.batch_files import Checked, bulk_request, check_file, job_error
from producers.drafting import as_written
from storage.records.bulk import BulkProgress, BulkRun, Plan
from storage.records.jobs import Job, JobError, JobState, NewJob
from storage.records.tenants import StoredFile

JOB_ID, FILE_ID = (f"01970000-0000-7000-8000-00000000000{n}" for n in (1, 2))
HEX, FILE_HEX = (one.replace("-", "") for one in (JOB_ID, FILE_ID))
AT = 1_800_000_000_000


def job(state: JobState = JobState.QUEUED, **fields: object) -> Job:
    asked = bulk_request(FILE_ID, Checked(9, "digits", ()), {"mine": "a"})
    new = NewJob(JOB_ID, asked.kind, "digits", FILE_ID, 3, "default", b"", metadata=asked.metadata)
    return replace(as_written(new, "t", AT), state=state, **fields)


def run(done: int = 0, shards: int = 4, **fields: object) -> BulkRun:
    plan = Plan((), (), "bulk/t/d/j", None)
    seen = BulkProgress(rows_done=done, shards_done=done, shards_total=shards)
    plain = BulkRun(JOB_ID, "t", AT, None, AT + 2_000, plan, None, seen)
    return replace(plain, **fields)


def told(a_job: Job, a_run: BulkRun | None = None) -> dict:
    document = batch_document(a_job, a_run, bulk_request(FILE_ID, Checked(9, "m", ()), {}).bulk)
    Batch.model_validate(document)  # as strictly as the client has it
    return document


UNPLANNED = {"planned_at": None, "plan": None}
SLOW, WRONG = JobError("run_timeout", "too slow"), JobError("bad_file", "cut off")


@pytest.mark.parametrize(
    ("a_job", "a_run", "status"),
    [
        (job(), None, "validating"),
        (job(), run(**UNPLANNED), "validating"),
        (job(JobState.RUNNING), run(**UNPLANNED), "validating"),
        (job(JobState.RUNNING), run(), "in_progress"),
        (job(), run(), "in_progress"),  # its owner died; its shards are worked on
        (job(JobState.RUNNING), run(3), "in_progress"),
        (job(JobState.RUNNING), run(4), "finalizing"),
        (job(JobState.RUNNING), run(error=WRONG), "finalizing"),
        (job(JobState.RUNNING), run(paused_at=AT), "in_progress"),
        (job(JobState.RUNNING, cancel_requested_at=AT), run(), "cancelling"),
        (job(JobState.RUNNING, cancel_requested_at=AT), run(**UNPLANNED), "cancelling"),
        (job(JobState.SUCCEEDED, finished_at=AT), run(4), "completed"),
        (job(JobState.FAILED, error=WRONG, finished_at=AT), run(), "failed"),
        (job(JobState.FAILED, error=WRONG, finished_at=AT), None, "failed"),
        (job(JobState.FAILED, error=SLOW, finished_at=AT), run(), "expired"),
        (job(JobState.EXPIRED, finished_at=AT), run(**UNPLANNED), "expired"),
        (job(JobState.CANCELLED, cancel_requested_at=AT, finished_at=AT), run(), "cancelled"),
    ],
)
def test_every_state_is_one_of_theirs_with_its_moment(a_job, a_run, status):
    assert status_of(a_job, a_run) == status
    document = told(a_job, a_run)
    assert document["status"] == status
    ends = {"completed", "failed", "expired", "cancelled"}
    for end in ends:
        assert (document[f"{end}_at"] is not None) == (end == status)
    assert (document["errors"] is not None) == (status == "failed")


def test_a_batch_says_what_it_is_and_nothing_of_ours():
    document = told(job())
    assert document["id"] == f"batch_{HEX}" and document["input_file_id"] == f"file-{FILE_HEX}"
    assert (document["model"], document["metadata"]) == ("digits:3", {"mine": "a"})
    assert document["request_counts"] == {"total": 9, "completed": 0, "failed": 0}
    plain = replace(job(), metadata={})
    assert told(plain)["metadata"] is None


def test_moments_are_whole_seconds():
    over = job(JobState.SUCCEEDED, finished_at=AT + 9_999, run_deadline_at=AT + 86_401_000)
    document = told(over, run(4))
    assert (document["created_at"], document["in_progress_at"]) == (AT // 1000, AT // 1000 + 2)
    assert (document["completed_at"], document["expires_at"]) == (
        AT // 1000 + 9,
        AT // 1000 + 86_401,
    )


def test_files_are_named_when_it_is_over_and_there_is_a_line_for_them():
    seen = BulkProgress(rows_done=3, rows_failed=2, shards_done=1, shards_total=2)
    running = told(job(JobState.RUNNING), run(progress=seen))
    assert (running["output_file_id"], running["error_file_id"]) == (None, None)
    over = job(JobState.CANCELLED, cancel_requested_at=AT, finished_at=AT)
    document = told(over, run(progress=seen))
    assert document["output_file_id"] == f"file-out-{HEX}"
    assert document["error_file_id"] == f"file-err-{HEX}"
    assert told(over, run())["output_file_id"] is None


def test_a_wrong_files_errors_are_told_one_by_one():
    error = job_error(check_file([b"{\n[]"]).errors)
    data = told(job(JobState.FAILED, error=error, finished_at=AT))["errors"]["data"]
    assert [(one["line"], one["code"]) for one in data] == [
        (1, "invalid_json"),
        (2, "invalid_type"),
    ]


def test_ids_are_read_as_they_are_spelled_and_only_so():
    assert id_in(spelled(FILE, FILE_ID), FILE) == FILE_ID
    assert id_in(spelled(OUTPUT, JOB_ID), OUTPUT) == JOB_ID
    for text in (HEX, f"file-{JOB_ID}", f"file-{'A' * 32}", f"file-{HEX}0", f"batch_{HEX}", ""):
        assert id_in(text, FILE) is None, text
    assert id_in(spelled(OUTPUT, JOB_ID), FILE) is None
    assert id_in("file-" + "ÀÀ" * 16, FILE) is None


def test_files_have_the_shape_that_the_client_knows():
    stored = StoredFile(FILE_ID, "t", "in.jsonl", "a/b", "files/k", 12, "d", AT)
    found = FileObject.model_validate(file_document(stored, 1_000_000))
    assert (found.bytes, found.purpose, found.expires_at) == (12, "batch", AT // 1000 + 1000)
    over = job(JobState.SUCCEEDED, finished_at=AT)
    for prefix, name in ((OUTPUT, "output"), (ERRORS, "errors")):
        found = FileObject.model_validate(output_document(prefix, over, 7, 0))
        assert (found.filename, found.bytes) == (f"batch_{HEX}_{name}.jsonl", 7)


class TestLines:
    def test_a_row_becomes_what_a_single_job_answers(self):
        row = {"row_id": "0:120", "custom_id": "a", "prediction": [0.1, 1e-07]}
        convert = output_lines(JOB_ID, ["probabilities"], labelled=False)
        assert orjson.loads(convert(orjson.dumps(row))) == {
            "id": f"batch_req_{HEX}_0_120",
            "custom_id": "a",
            "response": {
                "status_code": 200,
                "request_id": f"batch_req_{HEX}_0_120",
                "body": {"outputs": {"probabilities": [0.1, 1e-07]}},
            },
            "error": None,
        }

    def test_outputs_keep_their_names_whatever_the_columns_are_called(self):
        """An output whose name another column has is written under another one."""
        row = {"row_id": "0:0", "custom_id": "a", "label": "cat", "score": 0.5}
        row |= {"output_label": [1], "output_custom_id": [2], "x": 3}
        convert = output_lines(JOB_ID, ["label", "custom_id", "x"], labelled=True)
        body = orjson.loads(convert(orjson.dumps(row)))["response"]["body"]
        assert body == {
            "outputs": {"label": [1], "custom_id": [2], "x": 3},
            "label": "cat",
            "top": [{"label": "cat", "score": 0.5}],
        }
        bare = {"row_id": "0:0", "custom_id": "a", "label": [1], "score": [2]}
        convert = output_lines(JOB_ID, ["label", "score"], labelled=False)
        body = orjson.loads(convert(orjson.dumps(bare)))["response"]["body"]
        assert body == {"outputs": {"label": [1], "score": [2]}}

    def test_an_error_has_no_response(self):
        row = {"row_id": "0:7", "custom_id": None, "code": "bad_request_line", "message": "no"}
        assert orjson.loads(error_lines(JOB_ID)(orjson.dumps(row))) == {
            "id": f"batch_req_{HEX}_0_7",
            "custom_id": None,
            "response": None,
            "error": {"code": "bad_request_line", "message": "no"},
        }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_a_problem_is_told_in_their_envelope(status: int, kind: str):
    ours = orjson.loads(problem(status, "some_code", "it is so", more={"field": "a.b"}).body)
    assert error_document(ours) == {
        "error": {"message": "it is so", "type": kind, "param": "a.b", "code": "some_code"}
    }
    bare = orjson.loads(problem(status, "internal", "look", more={"incident": "77"}).body)
    assert error_document(bare)["error"]["message"] == "look (77)"
    assert error_document(bare)["error"]["param"] is None
