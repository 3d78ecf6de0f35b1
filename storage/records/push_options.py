"""What somebody pushing a model says about its inputs and outputs.

``{"input": "image", "labels": ["cat", "dog"], "top_k": 2, "image": {"resize": "crop"}}``.
Everything is optional: what is not said is derived from the model (``signatures``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from storage.records.option_values import (
    as_choice,
    as_integer,
    as_object,
    as_text,
    no_unknown_keys,
    refuse,
)
from storage.records.serving import Serving, parse_serving, serving_to_json

MAX_LABELS, MAX_COLUMNS = 100_000, 10_000


class InputForm(StrEnum):
    """The form in which callers write one item. Tensors are taken whatever the form."""

    TENSOR = "tensor"  # the model's own tensors, one or several by name
    IMAGE = "image"  # an encoded picture
    TEXT = "text"  # a string; the model's own layers cut it into tokens
    RECORD = "record"  # named columns


class ScoreKind(StrEnum):
    """How the labelled output becomes scores between 0 and 1."""

    AUTO = "auto"  # decided when a worker loads the model, by its last activation
    PROBABILITIES = "probabilities"  # they are scores already (softmax, sigmoid)
    LOGITS = "logits"  # softmax over the labels; a single logit goes through a sigmoid


class ColumnType(StrEnum):
    """What a record's column holds."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    STRING = "string"
    CATEGORY = "category"  # one of ``categories``; becomes its index, or one-hot


class Missing(StrEnum):
    """What an absent or null column means."""

    REFUSE = "refuse"
    NAN = "nan"
    FILL = "fill"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a record."""

    name: str
    type: ColumnType = ColumnType.NUMBER
    missing: Missing = Missing.REFUSE
    fill: float | int | bool | str | None = None
    categories: tuple[str | int, ...] = ()
    one_hot: bool = False

    @property
    def width(self) -> int:
        """How many numbers it becomes in a feature vector."""
        return len(self.categories) if self.one_hot else 1


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Parsed options. ``image`` holds overrides of what is derived from the model's input."""

    input: InputForm | None = None
    labels: tuple[str, ...] = ()
    top_k: int | None = None
    scores: ScoreKind = ScoreKind.AUTO
    label_output: str | None = None
    image: Mapping[str, object] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    serving: Serving = field(default_factory=Serving)

    def to_json(self) -> dict[str, object]:
        """As it was pushed, without what was left out."""
        out: dict[str, object] = {}
        if self.input:
            out["input"] = self.input.value
        if self.labels:
            out["labels"] = list(self.labels)
        if self.top_k is not None:
            out["top_k"] = self.top_k
        if self.scores is not ScoreKind.AUTO:
            out["scores"] = self.scores.value
        if self.label_output is not None:
            out["label_output"] = self.label_output
        if self.image:
            out["image"] = dict(self.image)
        if self.columns:
            out["columns"] = [column_to_json(column) for column in self.columns]
        serving = serving_to_json(self.serving)
        if serving:
            out["serving"] = serving
        return out


def parse_push_options(value: object, *, field: str = "options") -> PushOptions:
    """Read the options of a push, or say which of them is wrong."""
    if value is None:
        return PushOptions()
    options = as_object(value, field)
    no_unknown_keys(
        options,
        {"input", "labels", "top_k", "scores", "label_output", "image", "columns", "serving"},
        field,
    )
    labels = _labels(options.get("labels"), f"{field}.labels")
    top_k = options.get("top_k")
    if top_k is not None:
        top_k = as_integer(top_k, 1, 1_000, f"{field}.top_k")
        if not labels:
            raise refuse("top_k needs labels", f"{field}.top_k")
    label_output = options.get("label_output")
    if label_output is not None:
        label_output = as_text(label_output, f"{field}.label_output")
    form = options.get("input")
    return PushOptions(
        input=None if form is None else InputForm(as_choice(form, InputForm, f"{field}.input")),
        labels=labels,
        top_k=top_k,
        scores=ScoreKind(as_choice(options.get("scores", "auto"), ScoreKind, f"{field}.scores")),
        label_output=label_output,
        image=as_object(options.get("image", {}), f"{field}.image"),
        columns=parse_columns(options.get("columns"), f"{field}.columns"),
        serving=parse_serving(options.get("serving"), f"{field}.serving"),
    )


def parse_columns(value: object, where: str) -> tuple[Column, ...]:
    """The columns: names alone, or objects with type, missing rule and categories."""
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_COLUMNS:
        raise refuse(f"{where} must be a list of 1 to {MAX_COLUMNS} columns", where)
    columns = tuple(_column(entry, f"{where}[{index}]") for index, entry in enumerate(value))
    seen: set[str] = set()
    for index, column in enumerate(columns):
        if column.name in seen:
            raise refuse(f"column {column.name!r} is named twice", f"{where}[{index}].name")
        seen.add(column.name)
    return columns


def column_to_json(column: Column) -> dict[str, object]:
    """One column, spelled in full."""
    out: dict[str, object] = {"name": column.name, "type": column.type.value}
    out["missing"] = (
        {"fill": column.fill} if column.missing is Missing.FILL else column.missing.value
    )
    if column.categories:
        out["categories"] = list(column.categories)
        out["one_hot"] = column.one_hot
    return out


def _column(value: object, where: str) -> Column:
    if isinstance(value, str):
        return Column(as_text(value, where))
    entry = as_object(value, where)
    no_unknown_keys(entry, {"name", "type", "missing", "categories", "one_hot"}, where)
    categories = _categories(entry.get("categories"), f"{where}.categories")
    default = ColumnType.CATEGORY if categories else ColumnType.NUMBER
    kind = ColumnType(as_choice(entry.get("type", default), ColumnType, f"{where}.type"))
    if (kind is ColumnType.CATEGORY) != bool(categories):
        raise refuse("categories and the type 'category' go together", f"{where}.categories")
    one_hot = entry.get("one_hot", False)
    if not isinstance(one_hot, bool):
        raise refuse("one_hot must be true or false", f"{where}.one_hot")
    missing, fill = _missing(entry.get("missing", "refuse"), kind, categories, where)
    name = as_text(entry.get("name"), f"{where}.name")
    return Column(name, kind, missing, fill, categories, one_hot and bool(categories))


def _missing(
    value: object, kind: ColumnType, categories: tuple[str | int, ...], where: str
) -> tuple[Missing, float | int | bool | str | None]:
    where = f"{where}.missing"
    if value == Missing.REFUSE:
        return Missing.REFUSE, None
    if value == Missing.NAN:
        if kind is not ColumnType.NUMBER:
            raise refuse("only a column of numbers can be NaN", where)
        return Missing.NAN, None
    if not isinstance(value, dict) or set(value) != {"fill"}:
        raise refuse('missing must be "refuse", "nan" or {"fill": value}', where)
    fill = value["fill"]
    if not column_accepts(kind, fill, categories):
        raise refuse(f"the fill value does not fit a column of type {kind.value}", where)
    return Missing.FILL, fill


def column_accepts(kind: ColumnType, value: object, categories: tuple[str | int, ...]) -> bool:
    """Whether a JSON value may stand in a column of this type."""
    is_bool = isinstance(value, bool)
    match kind:
        case ColumnType.NUMBER:
            return isinstance(value, int | float) and not is_bool and math.isfinite(value)
        case ColumnType.INTEGER:
            return isinstance(value, int) and not is_bool
        case ColumnType.BOOLEAN:
            return is_bool
        case ColumnType.STRING:
            return isinstance(value, str) and "\x00" not in value
        case ColumnType.CATEGORY:
            return isinstance(value, str | int) and not is_bool and value in categories


def _categories(value: object, where: str) -> tuple[str | int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LABELS:
        raise refuse(f"categories must be a list of 1 to {MAX_LABELS} values", where)
    if any(isinstance(v, bool) or not isinstance(v, str | int) for v in value):
        raise refuse("categories must be strings or integers", where)
    if len(set(value)) != len(value):
        raise refuse("a category is named twice", where)
    return tuple(value)


def _labels(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LABELS:
        raise refuse(f"labels must be a list of 1 to {MAX_LABELS} strings", where)
    return tuple(as_text(label, f"{where}[{index}]") for index, label in enumerate(value))
