"""The manifest: what it says, and that none is made of parts that miss or double a row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.bulk import (
    BulkFormat,
    BulkInput,
    BulkOutput,
    BulkProgress,
    BulkRun,
    BulkSpec,
    Condition,
    NewPart,
    Part,
    Plan,
    PlannedFile,
)
from storage.records.jobs import JobError, JobState
from storage.records.models import ModelFormat, ModelVersion, VersionState
from workers.bulk.error_lines import ErrorsSummary
from workers.bulk.manifest import Outcome, manifest_of
from workers.bulk.manifest_schema import MANIFEST_SCHEMA

SHA = "0123456789abcdef" * 4
MODEL = ModelVersion(
    id="v-7",
    tenant="t",
    name="digits",
    version=7,
    state=VersionState.READY,
    format=ModelFormat.KERAS,
    digest=SHA,
    size_bytes=1,
    object_key="k",
    signature={},
    trusted=False,
    error=None,
    created_at=0,
    loaded_at=None,
)
SPEC = BulkSpec(
    BulkInput(("s3://in/*.parquet",), columns={"x": ("a", "b")}, where=(Condition("a", ">", 1),)),
    BulkOutput("s3://out/run"),
)
FILES = (
    PlannedFile("s3://in/a.parquet", BulkFormat.PARQUET, 900, 100, 100, digest="etag"),
    PlannedFile("s3://in/empty.parquet", BulkFormat.PARQUET, 90, 0, 0),
    PlannedFile("s3://in/b.csv.gz", BulkFormat.CSV, 700, None, 5_000, gzip=True),
)


def run_of(*files: PlannedFile, error: JobError | None = None) -> BulkRun:
    plan = Plan(files, ("a", "b"), "bulk/out", None)
    return BulkRun("job-1", "t", 1_000, None, 3_000, plan, error, BulkProgress())


def part(file: int, start: int, stop: int, *, failed: int = 0, rows: int | None = None) -> Part:
    rows = stop - start - failed if rows is None else rows
    told = NewPart(
        start=start,
        stop=stop,
        rows=rows,
        failed=failed,
        size_bytes=rows * 10,
        key=f"part-{file}-{start}.parquet" if rows else None,
        digest=SHA if rows else None,
        device_ms=250,
    )
    return Part(file, file, 1, told, 5_000)


PARTS = [part(2, 0, 5_000, rows=40), part(0, 60, 100, failed=2), part(0, 0, 60)]
DONE = Outcome(JobState.SUCCEEDED, True, 13_000, ErrorsSummary(2, 120, SHA))


def made(run: BulkRun, parts: list[Part], outcome: Outcome = DONE, spec: BulkSpec = SPEC) -> dict:
    manifest = manifest_of(run, spec, parts, MODEL, outcome)
    read = orjson.loads(orjson.dumps(manifest))
    jsonschema.validate(read, MANIFEST_SCHEMA)
    return read


def test_it_says_what_was_read_and_written_and_how_long_it_took() -> None:
    columns = [{"name": "row_id", "type": "string"}]
    found = made(run_of(*FILES), PARTS, replace(DONE, columns=columns))
    assert {name: found[name] for name in ("version", "job", "complete", "state")} == {
        "version": 1,
        "job": "job-1",
        "complete": True,
        "state": "succeeded",
    }
    assert found["model"] == {"name": "digits", "version": 7, "version_id": "v-7", "sha256": SHA}
    assert (found["rows"], found["failed"], found["skipped"]) == (138, 2, 0)
    assert found["size_bytes"] == 1_380
    assert found["input"]["where"] == [{"column": "a", "op": ">", "value": 1}]
    assert found["input"]["files"][2] == {
        "uri": "s3://in/b.csv.gz",
        "format": "csv",
        "gzip": True,
        "rows": None,
        "size_bytes": 700,
        "digest": None,
    }
    assert found["output"] == {"uri": "s3://out/run", "format": "parquet", "columns": columns}
    assert found["errors"] == {"name": "errors.jsonl", "lines": 2, "size_bytes": 120, "sha256": SHA}
    assert found["timings"] == {
        "created_at": "1970-01-01T00:00:01.000Z",
        "planned_at": "1970-01-01T00:00:03.000Z",
        "finished_at": "1970-01-01T00:00:13.000Z",
        "wall_s": 12.0,
        "device_s": 0.75,
        "rows_per_s": 14.0,
    }
    assert "error" not in found


def test_parts_stand_in_the_order_of_the_input() -> None:
    found = made(run_of(*FILES), PARTS)["parts"]
    assert [(one["file"], one["start"], one["stop"]) for one in found] == [
        (0, 0, 60),
        (0, 60, 100),
        (2, 0, 5_000),
    ]
    assert found[0] == {
        "name": "part-0-0.parquet",
        "rows": 60,
        "failed": 0,
        "skipped": 0,
        "size_bytes": 600,
        "sha256": SHA,
        "file": 0,
        "start": 0,
        "stop": 60,
    }


def test_a_part_without_predictions_has_no_name() -> None:
    outcome = replace(DONE, errors=ErrorsSummary(100, 9, SHA))
    (found,) = made(run_of(FILES[0]), [part(0, 0, 100, failed=100)], outcome)["parts"]
    assert (found["name"], found["sha256"], found["failed"]) == (None, None, 100)


def test_a_run_that_stopped_says_why_and_may_have_gaps() -> None:
    run = run_of(*FILES, error=JobError("too_many_errors", "half of them"))
    outcome = Outcome(JobState.FAILED, False, 13_000)
    found = made(run, [part(0, 60, 80)], outcome)
    assert found["error"] == {"code": "too_many_errors", "message": "half of them"}
    assert (found["complete"], found["errors"]) == (False, None)


def test_a_run_that_was_never_planned_has_a_manifest_too() -> None:
    run = replace(run_of(), plan=None, planned_at=None)
    found = made(run, [], Outcome(JobState.CANCELLED, False, 13_000))
    assert found["parts"] == found["input"]["files"] == []
    assert found["timings"]["planned_at"] is None
    with pytest.raises(RuntimeError, match="never planned"):
        made(run, [], Outcome(JobState.SUCCEEDED, True, 13_000))


def test_rows_done_again_are_named_after_their_first_job() -> None:
    spec = replace(SPEC, failed_rows_of="job-0", resume_of="job-00")
    outcome = replace(DONE, errors=None, planned=[(0, 5, 10), (0, 50, 51)])
    parts = [part(0, 5, 10, rows=1), part(0, 50, 51)]
    found = made(run_of(*FILES), parts, outcome, spec)
    assert found["input"]["failed_rows_of"] == "job-0"
    assert found["input"]["resume_of"] == "job-00"


@pytest.mark.parametrize("complete", [True, False])
def test_parts_that_overlap_make_no_manifest(complete: bool) -> None:
    parts = [part(0, 0, 60), part(0, 59, 100, failed=2), PARTS[0]]
    with pytest.raises(RuntimeError, match="held twice"):
        made(run_of(*FILES), parts, replace(DONE, complete=complete))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        PARTS[:2],
        PARTS[1:],
        [PARTS[0], part(0, 60, 99, failed=2), PARTS[2]],
        [PARTS[0], part(0, 61, 100, failed=2), PARTS[2]],
        [*PARTS, part(1, 0, 1)],
        [*PARTS, part(2, 5_000, 5_001)],
    ],
)
def test_a_gap_or_a_surplus_is_no_complete_run(parts: list[Part]) -> None:
    with pytest.raises(RuntimeError, match="each planned position once"):
        made(run_of(*FILES), parts)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4_999), unique=True, max_size=30), st.randoms())
def test_a_run_of_any_parts_is_complete_until_one_is_missing_or_doubled(cuts, chance) -> None:
    ends = [0, *sorted(cuts), 5_000]
    parts = [part(0, a, b, rows=1) for a, b in pairwise(ends)]
    chance.shuffle(parts)
    run, outcome = run_of(FILES[2]), replace(DONE, errors=None)
    made(run, parts, outcome)
    with pytest.raises(RuntimeError, match="planned position once"):
        made(run, parts[1:], outcome)
    with pytest.raises(RuntimeError, match="held twice"):
        made(run, [*parts, parts[0]], outcome)


def test_a_row_without_an_answer_in_a_part_is_no_complete_run() -> None:
    parts = [PARTS[0], part(0, 60, 100, failed=2, rows=37), PARTS[2]]
    with pytest.raises(RuntimeError, match="answers 39 of 40 rows"):
        made(run_of(*FILES), parts)


def test_text_of_known_rows_is_counted_as_a_whole() -> None:
    known = replace(FILES[2], rows=41)
    with pytest.raises(RuntimeError, match=r"answers 40 of the 41 rows of s3://in/b.csv.gz"):
        made(run_of(known), [part(0, 0, 5_000, rows=40)], replace(DONE, errors=None))


@pytest.mark.parametrize("errors", [None, ErrorsSummary(1, 60, SHA), ErrorsSummary(3, 180, SHA)])
def test_each_failed_row_is_in_the_error_file(errors: ErrorsSummary | None) -> None:
    with pytest.raises(RuntimeError, match="2 rows of bulk job job-1 failed"):
        made(run_of(*FILES), PARTS, replace(DONE, errors=errors))
