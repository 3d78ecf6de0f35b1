"""What a caller writes to have many rows scored, and the spec that it becomes.

Said here as far as it shows by itself. Whether the addresses may be read and written is for
``references``; what the files hold is found by the worker that plans the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from producers.shapes import (
    Choice,
    Fields,
    Flag,
    ListOf,
    Number,
    Schema,
    Shape,
    Text,
    Wrong,
    present,
    show,
)
from storage.records.bulk import (
    BulkFormat,
    BulkInput,
    BulkOutput,
    BulkSpec,
    Condition,
    PartFormat,
    payload_of,
)
from storage.records.errors import TooLarge
from storage.records.refs import MAX_REF_CHARS

MAX_SPEC_BYTES = 32 << 10  # it is kept in SQL with the job
MAX_URIS, MAX_COLUMNS, MAX_CONDITIONS, MAX_ALTERNATIVES = 1_000, 1_000, 32, 1_000
DEFAULT_MAX_SHARE = 0.1

URI = Text(1, MAX_REF_CHARS, is_called="an address")
COLUMN = Text(1, 256, r"^[^\u0000]*$", "a column's name without NUL")
INPUT_NAME = Text(1, 256, r"^[^\u0000]*$", "the name of an input of the model without NUL")
SPEC_FIELDS = ("uri", "format", "columns", "where")  # of a bulk job's input

ORDERED, EQUAL = ("<", "<=", ">", ">="), ("=", "!=")
WITHOUT_VALUE = ("is_null", "not_null")
OPS = (*EQUAL, *ORDERED, "in", *WITHOUT_VALUE)


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """A text, or a list of such."""

    one: Text
    most: int

    def check(self, value: object) -> None:
        if type(value) is list:
            ListOf(self.one, 1, self.most).check(value)
        elif type(value) is str:
            self.one.check(value)
        else:
            says = f"must be a string or a list of strings, not {show(value)}"
            raise Wrong(says, code="invalid_type")

    def schema(self) -> Schema:
        return {
            **self.one.schema(),
            **ListOf(self.one, 1, self.most).schema(),
            "type": ["string", "array"],
        }


@dataclass(frozen=True, slots=True)
class Columns:
    """A list of columns, or by the model's input (a record's column) one or several."""

    def check(self, value: object) -> None:
        if type(value) is list:
            _LIST_OF_COLUMNS.check(value)
            return
        if type(value) is not dict or not 1 <= len(value) <= MAX_COLUMNS:
            says = "must be a list of columns, or an object of them by the model's inputs"
            raise Wrong(f"{says}, not {show(value)}", code="invalid_type")
        for name, columns in value.items():
            try:
                INPUT_NAME.check(name)
            except Wrong as wrong:
                raise Wrong(f"has a key that {wrong.says}") from None
            try:
                _COLUMN_OR_COLUMNS.check(columns)
            except Wrong as wrong:
                raise wrong.under(name) from None

    def schema(self) -> Schema:
        return {
            **_LIST_OF_COLUMNS.schema(),
            "type": ["array", "object"],
            "minProperties": 1,
            "maxProperties": MAX_COLUMNS,
            "propertyNames": INPUT_NAME.schema(),
            "additionalProperties": _COLUMN_OR_COLUMNS.schema(),
            "description": (
                "For a model with one input, or whose inputs are called otherwise in the files:"
                " columns in their order, or an object of them by the model's input (or column)."
            ),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """``[column, op]`` or ``[column, op, value]``."""

    def check(self, value: object) -> None:
        if type(value) is not list or not 2 <= len(value) <= 3:
            raise Wrong(f"must be [column, op, value] or [column, op], not {show(value)}")
        shapes: tuple[Shape, ...] = (COLUMN, _OP)
        for place, shape in enumerate(shapes):
            try:
                shape.check(value[place])
            except Wrong as wrong:
                raise wrong.under(place) from None
        op, values = value[1], value[2:]
        if op in WITHOUT_VALUE:
            if values:
                raise Wrong(f"has a value, and {op} takes none").under(2)
        elif not values:
            raise Wrong(f"has no value to go with {op}")
        elif op == "in":
            if type(values[0]) is not list or not 1 <= len(values[0]) <= MAX_ALTERNATIVES:
                says = f"must be a list of 1 to {MAX_ALTERNATIVES} values"
                raise Wrong(f"{says}, not {show(values[0])}").under(2)
            for index, each in enumerate(values[0]):
                _check_scalar(each, (str, int, float, bool), 2, index)
        else:
            kinds = (str, int, float) if op in ORDERED else (str, int, float, bool)
            _check_scalar(values[0], kinds, 2)

    def schema(self) -> Schema:
        scalar: Schema = {"type": ["string", "number", "boolean"]}
        some = {"type": "array", "items": scalar, "minItems": 1, "maxItems": MAX_ALTERNATIVES}
        return {
            "type": "array",
            "anyOf": [
                _tuple(WITHOUT_VALUE),
                _tuple(EQUAL, scalar),
                _tuple(ORDERED, {"type": ["string", "number"]}),
                _tuple(("in",), some),
            ],
        }


def _tuple(ops: Sequence[str], *value: Schema) -> Schema:
    length = 2 + len(value)
    items = [COLUMN.schema(), {"enum": list(ops)}, *value]
    return {"prefixItems": items, "minItems": length, "maxItems": length}


def _check_scalar(value: object, kinds: tuple[type, ...], *where: int) -> None:
    if type(value) not in kinds:
        names = "a string, a number or true or false" if bool in kinds else "a string or a number"
        hint = "; is_null asks for what is missing" if value is None else ""
        says = f"must be {names}, not {show(value)}{hint}"
        raise Wrong(says, code="invalid_type").under(*where)


_OP = Choice(OPS)
_LIST_OF_COLUMNS = ListOf(COLUMN, 1, MAX_COLUMNS)
_COLUMN_OR_COLUMNS = OneOrMany(COLUMN, MAX_COLUMNS)
_FOR_INFERENCE = (
    "is an inference's input; a bulk job's is {\"uri\": …}, the files that hold its rows"
)
_FORMS = ("tensor", "inputs", "image", "text", "record", "ref", "items")


@dataclass(frozen=True, slots=True)
class _Output:
    """The output's fields, of which two exclude each other."""

    fields: Fields

    def check(self, value: object) -> None:
        self.fields.check(value)
        assert isinstance(value, dict)
        if value.get("join") is True and value.get("keep") is not None:
            says = "names some of the input's columns, and join takes all of them: give one"
            raise Wrong(says).under("keep")

    def schema(self) -> Schema:
        both = {"join": {"const": True}, "keep": {"type": "array"}}
        excluded = {"type": "object", "properties": both, "required": ["join", "keep"]}
        return {**self.fields.schema(), "not": excluded}


BULK_INPUT = Fields(
    "BulkInput",
    required={"uri": OneOrMany(URI, MAX_URIS)},
    optional={
        "format": Choice(tuple(one.value for one in BulkFormat)),
        "columns": Columns(),
        "where": ListOf(Comparison(), 0, MAX_CONDITIONS),
    },
    foreign=dict.fromkeys(_FORMS, _FOR_INFERENCE),
)
_COLUMNS_TO_KEEP = ListOf(COLUMN, 0, MAX_COLUMNS)
BULK_OUTPUT: Shape = _Output(
    Fields(
        "BulkOutput",
        required={},
        optional={
            "uri": URI,
            "format": Choice(
                tuple(one.value for one in PartFormat), default=PartFormat.PARQUET.value
            ),
            "join": Flag(),
            "keep": _COLUMNS_TO_KEEP,
            "overwrite": Flag(),
        },
    )
)
ON_ERROR = Fields(
    "OnError",
    required={},
    optional={"max_share": Number(0, 1, whole=False, default=DEFAULT_MAX_SHARE)},
)
RETRY = Fields(
    "RetryRequest",
    required={},
    optional={"failed_rows": Flag(), "output": BULK_OUTPUT},
)


def read_spec(given: Mapping[str, Any], *, max_attempts: int) -> BulkSpec:
    """The spec of a checked request; ``TooLarge`` if it cannot be kept with the job."""
    told = present(given["input"])
    uri = told["uri"]
    form = told.get("format")
    spec = BulkSpec(
        input=BulkInput(
            uris=(uri,) if isinstance(uri, str) else tuple(uri),
            format=None if form is None else BulkFormat(form),
            columns=_columns(told.get("columns")),
            where=tuple(Condition(*one) for one in told.get("where", ())),
        ),
        output=read_output(given.get("output"), BulkOutput()),
        max_error_share=float(present(given.get("on_error")).get("max_share", DEFAULT_MAX_SHARE)),
        max_attempts=max_attempts,
        dry_run=bool(given.get("dry_run", False)),
    )
    check_length(spec)
    return spec


def check_length(spec: BulkSpec) -> None:
    """``TooLarge`` if the spec cannot be kept with the job."""
    length = len(payload_of(spec))
    if length > MAX_SPEC_BYTES:
        raise TooLarge(
            f"input and output come to {length} bytes, and a bulk job's own may have"
            f" {MAX_SPEC_BYTES}: name its files by a glob, or by a file that lists them"
            ' ("format": "uris")',
            code="input_too_long",
            field="input",
        )


def read_output(value: Mapping[str, Any] | None, before: BulkOutput) -> BulkOutput:
    """A checked output: what it does not say stays as it was ``before``."""
    told = present(value)
    if told.get("join"):
        before = replace(before, keep=())
    if "keep" in told:
        before = replace(before, join=False)
    return BulkOutput(
        uri=told.get("uri", before.uri),
        format=PartFormat(told.get("format", before.format)),
        join=told.get("join", before.join),
        keep=tuple(told.get("keep", before.keep)),
        overwrite=told.get("overwrite", before.overwrite),
    )


def uris_of(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The addresses of a checked input, each with its field below the input."""
    uri = given["uri"]
    if isinstance(uri, str):
        return [("uri", uri)]
    return [(f"uri[{index}]", one) for index, one in enumerate(uri)]


def _columns(value: object) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if isinstance(value, list):
        return {"": tuple(value)}
    assert isinstance(value, dict)
    return {
        name: (columns,) if isinstance(columns, str) else tuple(columns)
        for name, columns in value.items()
    }
