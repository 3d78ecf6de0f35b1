"""Two evaluations have one data digest exactly when they saw the same rows and labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.records.bulk import (
    BulkFormat,
    BulkInput,
    BulkOutput,
    BulkSpec,
    Condition,
    Plan,
    PlannedFile,
)
from workers.bulk.evaluating.digest import data_digest

FILE = PlannedFile("s3://in/a.csv", BulkFormat.CSV, 10, None, 10, digest="etag")
SPEC = BulkSpec(BulkInput((FILE.uri,)), BulkOutput())
PLAN = Plan((FILE,), ("x", "label"), "base", None)
UPLOADS = [replace(FILE, uri=f"forebay://files/{n}", digest=f"etag {n}") for n in range(2)]


def test_what_is_asked_of_the_rows_changes_nothing() -> None:
    spec = replace(SPEC, input=BulkInput((FILE.uri,), columns={"": ("x",)}), max_error_share=1.0)
    assert data_digest(spec, replace(PLAN, base="other"), "label") == data_digest(
        SPEC, PLAN, "label"
    )


@pytest.mark.parametrize(
    ("spec", "plan", "label"),
    [
        (SPEC, PLAN, "other"),
        (SPEC, PLAN, None),
        (replace(SPEC, input=BulkInput((), where=(Condition("x", ">", 1),))), PLAN, "label"),
        (SPEC, replace(PLAN, files=(replace(FILE, digest="e"),)), "label"),
        (SPEC, replace(PLAN, files=(replace(FILE, uri="s3://in/b.csv"),)), "label"),
        (SPEC, replace(PLAN, files=(FILE, replace(FILE, uri="s3://in/b.csv"))), "label"),
        (SPEC, replace(PLAN, files=()), "label"),
    ],
    ids=["label", "no label", "where", "content", "address", "more", "less"],
)
def test_other_rows_or_labels_are_other_data(spec: BulkSpec, plan: Plan, label: str) -> None:
    assert data_digest(spec, plan, label) != data_digest(SPEC, PLAN, "label")


def test_a_file_that_is_uploaded_twice_is_the_same_data() -> None:
    one, other = (replace(PLAN, files=(file,)) for file in UPLOADS)
    contents = {file.uri: "ab" * 32 for file in UPLOADS}
    assert data_digest(SPEC, one, "label", contents) == data_digest(SPEC, other, "label", contents)
    contents[UPLOADS[1].uri] = "cd" * 32
    assert data_digest(SPEC, one, "label", contents) != data_digest(SPEC, other, "label", contents)
