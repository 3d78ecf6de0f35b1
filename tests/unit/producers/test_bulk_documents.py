"""How far a bulk job is said to be: its state in a word, and when it will be over."""

from __future__ import annotations

from dataclasses import replace

import jsonschema_rs
import pytest

from producers.api.bulk_documents import end_of, progress_document, state_of
from producers.api.schemas import SCHEMAS
from producers.drafting import as_written
from storage.records.bulk import BulkProgress, BulkRun, Plan
from storage.records.jobs import JobError, JobKind, JobState, NewJob

NOW = 1_000_000
NEW = NewJob("j", JobKind.BULK, "m", "v", 1, "default", b"{}")
QUEUED = as_written(NEW, "t", NOW)
RUNNING = replace(QUEUED, state=JobState.RUNNING)
UNPLANNED = BulkRun("j", "t", NOW, None, None, None, None, BulkProgress())
SEEN = BulkProgress(
    rows_done=30, rows_failed=5, rows_skipped=5, rows_total=100, units_done=40, units_total=100
)
PLANNED = replace(
    UNPLANNED,
    planned_at=NOW,
    plan=Plan((), (), "b", 100),
    progress=replace(SEEN, shards_total=4, shards_done=1, rows_per_s=2.0),
)
DONE = replace(PLANNED, progress=replace(PLANNED.progress, shards_done=4))

STATES = [
    (QUEUED, None, "waiting"),
    (QUEUED, UNPLANNED, "waiting"),
    (RUNNING, UNPLANNED, "planning"),
    (RUNNING, PLANNED, "running"),
    (QUEUED, PLANNED, "running"),  # its owner died; others score on
    (RUNNING, replace(PLANNED, paused_at=NOW), "paused"),
    (QUEUED, replace(UNPLANNED, paused_at=NOW), "paused"),
    (RUNNING, DONE, "finishing"),
    (RUNNING, replace(PLANNED, error=JobError("a", "b")), "finishing"),
    (replace(QUEUED, state=JobState.CANCELLED), replace(PLANNED, paused_at=NOW), "ended"),
    (replace(QUEUED, state=JobState.SUCCEEDED), DONE, "ended"),
]


@pytest.mark.parametrize(("job", "run", "state"), STATES)
def test_the_state_in_a_word(job, run, state):
    assert state_of(job, run) == state
    document = progress_document(job, run, NOW)
    assert document["state"] == state
    assert jsonschema_rs.validator_for(dict(SCHEMAS["BulkProgress"])).is_valid(document)
    assert (document["estimated_end_at"] is not None) == (state == "running")


def test_rows_count_before_their_part_is_committed():
    early = replace(PLANNED, progress=replace(PLANNED.progress, units_done=0))
    assert progress_document(RUNNING, early, NOW)["share"] == 0.4
    unknown = replace(early, progress=replace(early.progress, rows_total=None))
    assert progress_document(RUNNING, unknown, NOW)["share"] == 0.0


def test_the_end_is_what_is_left_by_the_speed_of_late():
    assert end_of(PLANNED, NOW) == NOW + 30_000
    unknown = replace(PLANNED, progress=replace(PLANNED.progress, rows_total=None))
    assert end_of(unknown, NOW) == NOW + 30_000  # 40 rows are 40 % of the files
    for wrong in ({"rows_per_s": 0.0}, {"rows_total": None, "units_done": 0}):
        assert end_of(replace(PLANNED, progress=replace(PLANNED.progress, **wrong)), NOW) is None
    over = replace(PLANNED, progress=replace(PLANNED.progress, rows_done=500))
    assert end_of(over, NOW) == NOW
