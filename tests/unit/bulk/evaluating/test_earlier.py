"""Rows at one position are the same rows only where the files are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.records.bulk import BulkFormat, Plan, PlannedFile
from workers.bulk.evaluating.earlier import _difference
from workers.bulk.files import LISTED, LISTING

FILE = PlannedFile("s3://in/a.parquet", BulkFormat.PARQUET, 1_000, 10, 10, digest="0" * 32)
OF_A_FOLDER = replace(FILE, digest="18bd1f6e9a-3e8")  # when it was changed, and its size
LIST = PlannedFile("s3://in/pictures/", BulkFormat.URIS, 500, None, 500)


def plan(*files: PlannedFile, **extra: object) -> Plan:
    return Plan(files, ("x",), "base", None, extra)


def listing(digest: str | None) -> Plan:
    return plan(LIST, **{LISTING: "a key", **({LISTED: digest} if digest else {})})


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (plan(FILE), plan(FILE)),
        (plan(FILE), plan(replace(FILE, uri="s3://moved/b.parquet"))),  # the same content
        (plan(replace(FILE, digest="1" * 32 + "-7")), plan(replace(FILE, digest="1" * 32 + "-7"))),
        (plan(OF_A_FOLDER), plan(OF_A_FOLDER)),
        (plan(replace(FILE, digest=None)), plan(replace(FILE, digest=None))),
        (listing("d1"), listing("d1")),
    ],
)
def test_the_same_files_are_the_same(before: Plan, now: Plan) -> None:
    assert _difference(before, now) is None


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        (plan(FILE), plan(FILE, FILE), "1 files then, and 2 now"),
        (plan(FILE), plan(replace(FILE, digest="1" * 32)), "file 0 was"),
        (plan(OF_A_FOLDER), plan(replace(OF_A_FOLDER, uri="file:///other")), "file 0 was"),
        (plan(FILE), plan(replace(FILE, digest=None)), "file 0 was"),
        (plan(FILE, FILE), plan(FILE, replace(FILE, size_bytes=999)), "file 1 was"),
        (plan(FILE), plan(replace(FILE, stop=11)), "file 0 was"),
        (plan(replace(FILE, gzip=True)), plan(FILE), "file 0 was"),
        (
            plan(replace(FILE, digest=None)),
            plan(replace(FILE, digest=None, uri="s3://in/b.parquet")),
            "b.parquet",
        ),
        (listing("d1"), listing("d2"), "other objects"),
        (listing(None), listing(None), "other objects"),  # planned before lists were pinned
        (plan(LIST), listing("d1"), "other objects"),
    ],
)
def test_other_files_are_told_apart(before: Plan, now: Plan, says: str) -> None:
    told = _difference(before, now)
    assert told is not None and says in told
