"""What an evaluation asks of the files is there, or the job is told what it named."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from storage.records.bulk import BulkFormat, BulkInput, BulkOutput, BulkSpec
from storage.records.errors import InvalidInput
from storage.records.evaluations import EvaluationSpec
from workers.bulk.evaluating.asked import asked_of, folders

TABLE = ("x", "label", "hour", "folder")
PICTURES = ("uri", "data")


def spec(form: BulkFormat | None = None, **evaluation: Any) -> BulkSpec:
    given = BulkInput(("s3://in/rows",), form)
    return BulkSpec(given, BulkOutput(), evaluation=EvaluationSpec(**evaluation))


def test_the_label_and_the_slices_are_kept_each_once() -> None:
    asked = asked_of(spec(label="label", slices=("hour", "label")), TABLE, BulkFormat.PARQUET)
    assert asked is not None and asked.kept == ("label", "hour")
    plain = BulkSpec(BulkInput(("s3://in/rows",)), BulkOutput())
    assert asked_of(plain, TABLE, BulkFormat.PARQUET) is None


def test_a_column_that_is_called_folder_is_a_column() -> None:
    asked = asked_of(spec(label="folder"), TABLE, BulkFormat.CSV)
    assert asked is not None and asked.kept == ("folder",)
    column = pa.array(["a"])
    assert asked.column("folder", {"folder": column}) is column


def test_of_a_prefix_of_pictures_the_folders_are_the_labels() -> None:
    asked = asked_of(spec(BulkFormat.IMAGES), PICTURES, BulkFormat.URIS)
    assert asked is not None and (asked.label, asked.kept) == ("folder", ("uri",))
    uris = pa.array(["s3://in/p/cat/1.png", "s3://in/p/dog/2.png"])
    assert asked.column("folder", {"uri": uris}).to_pylist() == ["cat", "dog"]


def test_a_list_of_addresses_has_labels_only_if_it_is_said() -> None:
    with pytest.raises(InvalidInput) as caught:
        asked_of(spec(BulkFormat.URIS), PICTURES, BulkFormat.URIS)
    assert caught.value.stable_code == "no_labels"
    asked = asked_of(spec(label="folder", slices=("folder",)), PICTURES, BulkFormat.URIS)
    assert asked is not None and asked.kept == ("uri",)


def test_requests_can_only_be_compared() -> None:
    columns = ("custom_id", "body")
    asked = asked_of(spec(against="job"), columns, BulkFormat.REQUESTS)
    assert asked is not None and asked.label is None and asked.kept == ()
    for wrong in ({}, {"label": "body", "against": "job"}):
        with pytest.raises(InvalidInput) as caught:
            asked_of(spec(**wrong), columns, BulkFormat.REQUESTS)
        assert caught.value.stable_code == "no_labels"


@pytest.mark.parametrize(
    ("columns", "form", "asked", "field"),
    [
        (TABLE, BulkFormat.PARQUET, {"label": "lable"}, "evaluation.label"),
        (TABLE, BulkFormat.NPZ, {"label": "x", "slices": ("x", "y")}, "evaluation.slices[1]"),
        (PICTURES, BulkFormat.URIS, {"label": "data"}, "evaluation.label"),
        (PICTURES, BulkFormat.URIS, {"label": "folder", "slices": ("x",)}, "evaluation.slices[0]"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_field(
    columns: tuple[str, ...], form: BulkFormat, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput, match="which is no column") as caught:
        asked_of(spec(**asked), columns, form)
    assert (caught.value.stable_code, caught.value.field) == ("unknown_column", field)
    assert caught.value.message.startswith(field)


def test_an_object_that_lies_in_no_folder_has_no_label() -> None:
    none = ["file:///a.png", "s3://bucket/a.png", "forebay://files/1", None]
    assert folders(pa.array(none)).to_pylist() == [None] * 4
    some = ["file:///b/a.png", "s3://bucket/a/b/c.png"]
    assert folders(pa.array(some)).to_pylist() == ["b", "b"]
