"""A training on a version means by columns, categories and labels what the version means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.push_options import Column, ColumnType, InputForm, PushOptions
from storage.records.signatures import InputSpec, build_signature
from tests.contracts.test_runtime import version_of
from workers.training.parents import must_go_on
from workers.training.ports import Feature, Part, Prepared, Target

COLOURS = ("blue", "red")
COLUMNS = (
    Column("a"),
    Column("colour", ColumnType.CATEGORY, categories=COLOURS, one_hot=True),
    Column("c"),
)
LABELS = ("ant", "bee", "cat")


def options_of(columns: tuple[Column, ...] = COLUMNS, **said: Any) -> PushOptions:
    return PushOptions(**{"input": InputForm.RECORD, "columns": columns, "labels": LABELS, **said})


def parent_of(options: PushOptions, *, deferred: bool = False) -> ModelVersion:
    inputs = (InputSpec("record", "float32", (sum(one.width for one in options.columns),)),)
    signature = build_signature(None if deferred else inputs, options)
    return replace(version_of(inputs), signature=signature.to_json())


def prepared_of(options: PushOptions) -> Prepared:
    features = (Feature("features", "float32", (4,)),)
    return Prepared(features, Target.INDEX, options.labels, {Part.TRAIN: 9}, options=options)


@pytest.mark.parametrize("deferred", [False, True])
def test_the_same_columns_and_labels_go_on(deferred: bool) -> None:
    whole = replace(COLUMNS[0], type=ColumnType.INTEGER)  # as it comes to the network, a number
    parent = parent_of(options_of((whole, *COLUMNS[1:])), deferred=deferred)
    must_go_on(parent, prepared_of(options_of()))


def test_what_the_version_does_not_tell_is_not_compared() -> None:
    inputs = (InputSpec("record", "float32", (4,)),)
    parent = replace(version_of(inputs), signature=build_signature(inputs, PushOptions()).to_json())
    must_go_on(parent, prepared_of(options_of()))


def coloured(*words: str) -> tuple[Column, ...]:
    return (COLUMNS[0], replace(COLUMNS[1], categories=words), COLUMNS[2])


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        (
            {"columns": (COLUMNS[2], COLUMNS[1], COLUMNS[0])},
            "data.features",
            ("column 1", "is 'a'", "is 'c'", "[a, colour, c]"),
        ),
        ({"columns": COLUMNS[:2]}, "data.features", ("column 3", "is 'c'", "missing")),
        ({"columns": (*COLUMNS, Column("d"))}, "data.features", ("column 4", "'d'", "missing")),
        (
            {"columns": (COLUMNS[0], Column("colour"), COLUMNS[2])},
            "data.features",
            ("'colour' is of categories", "of numbers in the data"),
        ),
        (
            {"columns": coloured("blue", "green")},
            "prepare.categories.colour",
            ("category 2 of 'colour' is 'red'", "'green' in the data", "[blue, red]"),
        ),
        ({"columns": coloured("red", "blue")}, "prepare.categories.colour", ("category 1",)),
        (
            {"labels": ("ant", "cow", "cat")},
            "prepare.labels",
            ("label 2", "is 'bee'", "is 'cow'", "[ant, bee, cat]"),
        ),
        ({"labels": ("ant", "cat", "bee")}, "prepare.labels", ("label 2",)),
        ({"labels": ("ant", "bee")}, "prepare.labels", ("label 3", "missing")),
    ],
)
def test_the_first_difference_is_named_with_what_to_do(
    said: dict[str, Any], field: str, words: tuple[str, ...], deferred: bool
) -> None:
    parent = parent_of(options_of(), deferred=deferred)
    with pytest.raises(InvalidInput) as caught:
        must_go_on(parent, prepared_of(options_of(**said)))
    assert (caught.value.stable_code, caught.value.field) == ("version_mismatch", f"spec.{field}")
    assert all(word in caught.value.message for word in words), caught.value.message
