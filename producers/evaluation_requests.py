"""What a caller writes to have a version measured, and the spec that it becomes.

The rows are named as a bulk job's are, or taken over from a job or a group that is over: what
those were is looked up by ``evaluation_references``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from producers import bulk_requests
from producers.bulk_requests import BULK_INPUT, COLUMN, DEFAULT_MAX_SHARE, check_length
from producers.names import ID
from producers.shapes import Fields, ListOf, Number, Schema, Wrong, present, show
from storage.records.bulk import BulkFormat, BulkInput, BulkOutput, BulkSpec
from storage.records.errors import Unprocessable
from storage.records.evaluations import (
    DEFAULT_EXAMPLES,
    FOLDER,
    MAX_EXAMPLES,
    MAX_SLICES,
    EvaluationSpec,
)

DEFAULT_TOLERANCE = EvaluationSpec().tolerance
PICTURES = frozenset({BulkFormat.IMAGES, BulkFormat.URIS})  # the label may be their folder's name
WITHOUT_LABELS = frozenset({BulkFormat.REQUESTS, BulkFormat.NPY})

_ONE_OF_THREE = 'is one too many: an input is {"uri": …}, {"job": ID} or {"group": ID}'
_TAKEN_OVER = "is taken over from there: it goes with uri alone"
_WITH_URI = dict.fromkeys(("format", "columns", "where"), _TAKEN_OVER)
_INPUTS = {
    "job": Fields(
        "EvaluationOfJob",
        required={"job": ID},
        foreign={"uri": _ONE_OF_THREE, "group": _ONE_OF_THREE, **_WITH_URI},
    ),
    "group": Fields(
        "EvaluationOfGroup",
        required={"group": ID},
        foreign={"uri": _ONE_OF_THREE, "job": _ONE_OF_THREE, **_WITH_URI},
    ),
}


@dataclass(frozen=True, slots=True)
class _Input:
    """Files, or a job or group that is over."""

    def check(self, value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be a JSON object, not {show(value)}", code="invalid_type")
        named = next((name for name in _INPUTS if name in value), None)
        (BULK_INPUT if named is None else _INPUTS[named]).check(value)

    def schema(self) -> Schema:
        shapes = (BULK_INPUT, *_INPUTS.values())
        return {"title": "EvaluationInput", "anyOf": [shape.schema() for shape in shapes]}


@dataclass(frozen=True, slots=True)
class _Slices:
    """Columns, each once."""

    columns: ListOf

    def check(self, value: object) -> None:
        self.columns.check(value)
        assert isinstance(value, list)
        for index, column in enumerate(value):
            if column in value[:index]:
                raise Wrong(f"names {show(column)} again: each column once").under(index)

    def schema(self) -> Schema:
        return {**self.columns.schema(), "uniqueItems": True}


EVALUATION_INPUT = _Input()
EVALUATION = Fields(
    "EvaluationRequest",
    required={},
    optional={
        "label": COLUMN,
        "slices": _Slices(ListOf(COLUMN, 0, MAX_SLICES)),
        "against": ID,
        "examples": Number(0, MAX_EXAMPLES, default=DEFAULT_EXAMPLES),
        "tolerance": Number(0, 1, whole=False, default=DEFAULT_TOLERANCE),
    },
)


def read_spec(given: Mapping[str, Any], *, max_attempts: int) -> BulkSpec:
    """The spec of a checked request; what it takes over from a job is not in it yet."""
    told, source = present(given.get("evaluation")), present(given["input"])
    group = source.get("group")
    evaluation = EvaluationSpec(
        label=told.get("label"),
        slices=tuple(told.get("slices", ())),
        against=told.get("against") or source.get("job") or group,
        of_group=group,
        examples=int(told.get("examples", DEFAULT_EXAMPLES)),
        tolerance=float(told.get("tolerance", DEFAULT_TOLERANCE)),
    )
    if "uri" in source:
        spec = bulk_requests.read_spec(given, max_attempts=max_attempts)
    else:
        spec = BulkSpec(
            BulkInput(()),
            BulkOutput(),
            max_error_share=float(
                present(given.get("on_error")).get("max_share", DEFAULT_MAX_SHARE)
            ),
            max_attempts=max_attempts,
        )
    spec = replace(spec, evaluation=evaluation)
    if "job" not in source:
        check_evaluation(spec)
    return spec


def check_evaluation(spec: BulkSpec) -> None:
    """What shows without a look at the files, of a spec that is whole. ``Unprocessable`` with code
    ``no_labels``, ``Wrong``, or ``TooLarge``."""
    check_length(spec)
    assert spec.evaluation is not None
    told, form = spec.evaluation, spec.input.format
    if told.of_group is not None:
        form = BulkFormat.REQUESTS
    if told.label is not None and told.label in told.slices:
        says = f"is the label, {show(told.label)}: how each label does is told anyway"
        raise Wrong(says).under("evaluation", "slices", told.slices.index(told.label))
    if form in WITHOUT_LABELS and told.label is not None:
        raise _no_labels(_OTHER_FORMAT[form])
    if form in WITHOUT_LABELS and told.slices:
        says = f"name columns, and {_HAS_NONE[form]}"
        raise Wrong(says).under("evaluation", "slices")
    if form in PICTURES and told.label not in (None, FOLDER):
        says = f'must be "{FOLDER}" for pictures, the name of the folder each lies in'
        raise Wrong(f"{says}, not {show(told.label)}").under("evaluation", "label")
    if told.label is None and told.against is None:
        if form in WITHOUT_LABELS:
            raise _no_labels(f"{_HAS_NONE[form]}: say with against what to compare with")
        if form is BulkFormat.URIS:
            raise _no_labels(f'say "{FOLDER}" if it is the name of the folder each lies in')
        if form is not None and form is not BulkFormat.IMAGES:
            raise _no_labels(
                "name the column that holds the right answers, or with against a job over the same"
                " rows to compare with"
            )


_HAS_NONE = {
    BulkFormat.REQUESTS: "requests hold inputs alone",
    BulkFormat.NPY: "an NPY file holds one array",
}
_OTHER_FORMAT = {
    BulkFormat.REQUESTS: "requests hold inputs alone: leave it out, and compare with what a job or"
    " a group answered",
    BulkFormat.NPY: "an NPY file holds one array: put the labels beside it into an NPZ file",
}


def _no_labels(says: str) -> Unprocessable:
    field = "evaluation.label"
    return Unprocessable(f"{field}: {says}", code="no_labels", field=field)
