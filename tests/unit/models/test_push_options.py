"""The options of a push: read strictly, every mistake named with its field."""

from __future__ import annotations

import pytest

from storage.records.errors import InvalidInput
from storage.records.push_options import (
    Column,
    ColumnType,
    InputForm,
    Missing,
    ScoreKind,
    parse_push_options,
)


def test_nothing_said_is_everything_derived() -> None:
    options = parse_push_options(None)
    assert options.input is None
    assert options.to_json() == {}
    assert parse_push_options({}) == options


def test_everything_said_survives_a_round_trip() -> None:
    said = {
        "input": "record",
        "labels": ["no", "yes"],
        "top_k": 2,
        "scores": "logits",
        "label_output": "out",
        "columns": [
            "age",
            {"name": "income", "type": "number", "missing": "nan"},
            {"name": "count", "type": "integer", "missing": {"fill": 0}},
            {"name": "colour", "categories": ["red", "blue", 3], "one_hot": True},
            {"name": "alive", "type": "boolean"},
        ],
    }
    options = parse_push_options(said)
    assert options.input is InputForm.RECORD
    assert options.scores is ScoreKind.LOGITS
    assert options.columns[0] == Column("age")
    assert options.columns[1].missing is Missing.NAN
    assert options.columns[2].fill == 0
    assert options.columns[3].type is ColumnType.CATEGORY
    assert options.columns[3].width == 3
    assert parse_push_options(options.to_json()) == options


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ([], "options"),
        ({"labls": []}, "options.labls"),
        ({"input": "video"}, "options.input"),
        ({"input": 3}, "options.input"),
        ({"labels": []}, "options.labels"),
        ({"labels": "abc"}, "options.labels"),
        ({"labels": ["a", 3]}, "options.labels[1]"),
        ({"labels": ["a", "b\x00"]}, "options.labels[1]"),
        ({"top_k": 3}, "options.top_k"),
        ({"labels": ["a"], "top_k": 0}, "options.top_k"),
        ({"labels": ["a"], "top_k": True}, "options.top_k"),
        ({"scores": "votes"}, "options.scores"),
        ({"image": []}, "options.image"),
        ({"columns": "a"}, "options.columns"),
        ({"columns": []}, "options.columns"),
        ({"columns": ["a", "a"]}, "options.columns[1].name"),
        ({"columns": [{"type": "number"}]}, "options.columns[0].name"),
        ({"columns": [{"name": "a", "type": "date"}]}, "options.columns[0].type"),
        ({"columns": [{"name": "a", "kind": "date"}]}, "options.columns[0].kind"),
        ({"columns": [{"name": "a", "type": "category"}]}, "options.columns[0].categories"),
        ({"columns": [{"name": "a", "categories": [1.5]}]}, "options.columns[0].categories"),
        ({"columns": [{"name": "a", "categories": [1, 1]}]}, "options.columns[0].categories"),
        ({"columns": [{"name": "a", "missing": "mean"}]}, "options.columns[0].missing"),
        ({"columns": [{"name": "a", "missing": {"fill": "x"}}]}, "options.columns[0].missing"),
        (
            {"columns": [{"name": "a", "type": "integer", "missing": "nan"}]},
            "options.columns[0].missing",
        ),
        ({"columns": [{"name": "a", "one_hot": 1}]}, "options.columns[0].one_hot"),
    ],
)
def test_a_mistake_is_named(said: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_push_options(said)
    assert caught.value.field == field
    assert caught.value.stable_code in {"invalid_options", "unknown_field"}
