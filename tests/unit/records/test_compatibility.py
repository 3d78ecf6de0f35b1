"""One version stands in for another only where no caller would notice."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from storage.records.compatibility import check_stands_in, differences
from storage.records.errors import Conflict
from storage.records.models import ModelFormat, ModelVersion, VersionState
from storage.records.push_options import Column, ColumnType, InputForm
from storage.records.serving import Serving
from storage.records.signatures import InputSpec, OutputSpec, Signature

ONE = Signature(
    form=InputForm.TENSOR,
    inputs=(InputSpec("x", "float32", (3,)),),
    outputs=(OutputSpec("y", "float32", (2,)),),
    labels=("no", "yes"),
    label_output="y",
)


def test_how_it_is_served_is_no_difference():
    other = replace(ONE, serving=Serving(max_batch=64), top_k=2)
    assert differences(ONE, other) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"form": InputForm.TEXT}, "takes text, not tensor"),
        ({"inputs": (InputSpec("x", "float32", (4,)),)}, r"inputs are x float32\[4\]"),
        ({"inputs": (InputSpec("z", "float32", (3,)),)}, "inputs are z"),
        ({"outputs": (OutputSpec("y", "float64", (2,)),)}, "outputs are y float64"),
        ({"outputs": ()}, "outputs are not known"),
        ({"columns": (Column("a", ColumnType.NUMBER),)}, "columns are others"),
        ({"labels": ("no", "maybe")}, "not the same 2"),
    ],
    ids=["form", "shape", "name", "type", "no outputs", "columns", "labels"],
)
def test_what_a_caller_would_notice_is_one(change, says):
    other = replace(ONE, **change)
    (found,) = differences(ONE, other)
    assert re.search(says, found)
    with pytest.raises(Conflict, match="digits:2 cannot stand in for digits:1") as refused:
        check_stands_in(version(1, ONE), version(2, other), field="version")
    assert (refused.value.stable_code, refused.value.field) == ("signature_differs", "version")


def version(number, signature):
    return ModelVersion(
        id="i",
        tenant="t",
        name="digits",
        version=number,
        state=VersionState.READY,
        format=ModelFormat.KERAS,
        digest="d",
        size_bytes=1,
        object_key="k",
        signature=signature.to_json(),
        trusted=False,
        error=None,
        created_at=1,
        loaded_at=1,
    )
