"""What a request may look like, said once: the same value checks bodies and draws the OpenAPI.

A thousand jobs come in one request, so a check is plain Python over parsed JSON and builds no
path or message until something is wrong. ``schema()`` says the same in JSON Schema; a test feeds
both with the same values and holds them equal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from storage.records.errors import InvalidInput, NotBuilt

Schema: TypeAlias = dict[str, object]


class Wrong(Exception):
    """A value does not fit. The path grows from the inside out while the error travels."""

    def __init__(self, says: str, *, code: str = "invalid_value", not_built: bool = False) -> None:
        super().__init__(says)
        self.says = says
        self.code = code
        self.not_built = not_built
        self.path: list[str | int] = []

    def under(self, *steps: str | int) -> Wrong:
        """The same, found below ``steps``."""
        self.path[:0] = steps
        return self

    def error(self) -> InvalidInput:
        """The error that the caller gets."""
        where = spell(self.path)
        kind = NotBuilt if self.not_built else InvalidInput
        says = f"{where} {self.says}" if where else f"the body {self.says}"
        return kind(says, code=self.code, field=where or None)


def spell(path: Sequence[str | int]) -> str:
    """``jobs[3].input.tensor``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def show(value: object) -> str:
    """A value as a message shows it: short, and never the whole of somebody's data."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return str(value)[:60]
    return "a list" if isinstance(value, list) else "an object"


class Shape(Protocol):
    """One rule."""

    def check(self, value: object) -> None:
        """Raise ``Wrong`` unless the value fits."""
        ...

    def schema(self) -> Schema:
        """The rule as JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A string without control characters, unless ``pattern`` says what it is made of."""

    least: int = 0
    most: int = 1024
    pattern: str = r"^[^\u0000-\u001f\u007f]*$"
    is_called: str = "text without control characters"
    _re: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_re", re.compile(self.pattern.removesuffix("$") + r"\Z"))

    def check(self, value: object) -> None:
        if type(value) is not str:
            raise Wrong(f"must be a string, not {show(value)}", code="invalid_type")
        if not self.least <= len(value) <= self.most or not self._re.match(value):
            length = f"{self.least} to {self.most} characters"
            raise Wrong(f"must be {self.is_called}, {length}, not {show(value)}")

    def schema(self) -> Schema:
        return {
            "type": "string",
            "minLength": self.least,
            "maxLength": self.most,
            "pattern": self.pattern,
        }


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds; ``whole`` ones are integers (``3.0`` is one, as in JSON Schema)."""

    least: float
    most: float
    whole: bool = True
    default: float | None = None

    def check(self, value: object) -> None:
        kind = type(value)
        if kind is not int and (kind is not float or (self.whole and not value.is_integer())):  # type: ignore[attr-defined]
            name = "an integer" if self.whole else "a number"
            raise Wrong(f"must be {name}, not {show(value)}", code="invalid_type")
        if not self.least <= value <= self.most:  # type: ignore[operator]
            raise Wrong(
                f"must be from {self.least} to {self.most}, not {show(value)}", code="out_of_range"
            )

    def schema(self) -> Schema:
        schema: Schema = {
            "type": "integer" if self.whole else "number",
            "minimum": self.least,
            "maximum": self.most,
        }
        return schema if self.default is None else {**schema, "default": self.default}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; ``later`` ones are known but not built, ``elsewhere`` ones are taken in
    another place, with what to say of them."""

    built: tuple[str, ...]
    later: frozenset[str] = frozenset()
    default: str | None = None
    code: str = "invalid_value"
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def check(self, value: object) -> None:
        if type(value) is str and value in self.built:
            return
        if isinstance(value, str) and value in self.elsewhere:
            raise Wrong(f"{value!r} {self.elsewhere[value]}", code=self.code)
        words = ", ".join((*self.built, *self.elsewhere))
        if isinstance(value, str) and value in self.later:
            says = f"{value!r} is not built yet; this version serves {words}"
            raise Wrong(says, code="not_built", not_built=True)
        raise Wrong(f"must be one of {words}, not {show(value)}", code=self.code)

    def schema(self) -> Schema:
        schema: Schema = {"type": "string", "enum": list(self.built)}
        return schema if self.default is None else {**schema, "default": self.default}


@dataclass(frozen=True, slots=True)
class NotYet:
    """A documented field that this version does not serve: refused by name, never ignored."""

    what: str

    def check(self, value: object) -> None:
        raise Wrong(f"is not built yet: {self.what}", code="not_built", not_built=True)

    def schema(self) -> Schema:
        return {"type": "null", "description": f"Not built yet: {self.what}"}


@dataclass(frozen=True, slots=True)
class Raw:
    """An object whose inside is checked elsewhere, with the schema that says so."""

    inner: Schema

    def check(self, value: object) -> None:
        if type(value) is not dict or not value:
            raise Wrong(f"must be an object that is not empty, not {show(value)}")

    def schema(self) -> Schema:
        return {"type": "object", "minProperties": 1, **self.inner}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: object) -> None:
        if type(value) is not bool:
            raise Wrong(f"must be true or false, not {show(value)}", code="invalid_type")

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of so many of one shape."""

    entry: Shape
    least: int
    most: int

    def check(self, value: object) -> None:
        if type(value) is not list:
            raise Wrong(f"must be a list, not {show(value)}", code="invalid_type")
        if not self.least <= len(value) <= self.most:
            says = f"has {len(value)} entries; it takes {self.least} to {self.most}"
            raise Wrong(says, code="too_many" if value else "invalid_value")
        for index, entry in enumerate(value):
            try:
                self.entry.check(entry)
            except Wrong as wrong:
                raise wrong.under(index) from None

    def schema(self) -> Schema:
        entry, least, most = self.entry.schema(), self.least, self.most
        return {"type": "array", "items": entry, "minItems": least, "maxItems": most}


@dataclass(frozen=True, slots=True)
class Labels:
    """A small map: keys as ``key`` says, values all of one shape."""

    most: int
    key: Text
    value: Shape
    least: int = 0

    def check(self, value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be an object, not {show(value)}", code="invalid_type")
        if len(value) > self.most:
            raise Wrong(f"has {len(value)} keys; at most {self.most}", code="too_many")
        if len(value) < self.least:
            raise Wrong(f"has {len(value)} keys; at least {self.least}")
        for name, item in value.items():
            try:
                self.key.check(name)
            except Wrong as wrong:
                raise Wrong(f"has a key that {wrong.says}") from None
            try:
                self.value.check(item)
            except Wrong as wrong:
                raise wrong.under(name) from None

    def schema(self) -> Schema:
        least: Schema = {"minProperties": self.least} if self.least else {}
        return {
            "type": "object",
            **least,
            "maxProperties": self.most,
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True, slots=True)
class Either:
    """A value of one of several JSON types, each with a shape of its own. ``what`` says which."""

    what: str
    text: Shape | None = None
    number: Shape | None = None
    entries: Shape | None = None  # of a list
    fields: Shape | None = None  # of an object

    def check(self, value: object) -> None:
        shape = {
            str: self.text,
            int: self.number,
            float: self.number,
            list: self.entries,
            dict: self.fields,
        }.get(type(value))
        if shape is None:
            raise Wrong(f"must be {self.what}, not {show(value)}", code="invalid_type")
        shape.check(value)

    def schema(self) -> Schema:
        shapes = (self.text, self.number, self.entries, self.fields)
        return {"anyOf": [shape.schema() for shape in shapes if shape is not None]}


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of named fields and no others. ``null`` for an optional field means absent.
    ``foreign`` are fields of another object that people put here, with what to say of them."""

    name: str
    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    _all: dict[str, Shape] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_all", {**self.required, **self.optional})

    def check(self, value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be a JSON object, not {show(value)}", code="invalid_type")
        for name, item in value.items():
            shape = self._all.get(name)
            if shape is None:
                raise Wrong(self._unknown(name), code="unknown_field").under(name)
            if item is None and name in self.optional:
                continue
            try:
                shape.check(item)
            except Wrong as wrong:
                raise wrong.under(name) from None
        for name in self.required:
            if name not in value:
                raise Wrong("is missing", code="missing_field").under(name)

    def _unknown(self, name: str) -> str:
        if name in self.foreign:
            return self.foreign[name]
        near = difflib.get_close_matches(name, self._all, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self._all)}"
        return f"is not a field of {self.name}; {hint}"

    def schema(self) -> Schema:
        optional = {name: nullable(shape.schema()) for name, shape in self.optional.items()}
        return {
            "title": self.name,
            "type": "object",
            "properties": {n: s.schema() for n, s in self.required.items()} | optional,
            "required": list(self.required),
            "additionalProperties": False,
        }


def present(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of a checked object that are there; null is absence."""
    return {name: item for name, item in (value or {}).items() if item is not None}


def whole(value: object) -> int:
    """The integer that a checked ``Number`` is, also when it was spelled ``3.0``."""
    assert isinstance(value, int | float)
    return int(value)


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    if schema.get("type") == "null":
        return schema
    if "type" not in schema and isinstance(either := schema.get("anyOf"), list):
        return {**schema, "anyOf": [*either, {"type": "null"}]}
    kinds = schema["type"]
    widened: Schema = {**schema, "type": [*(kinds if isinstance(kinds, list) else [kinds]), "null"]}
    if isinstance(choices := schema.get("enum"), list):
        widened["enum"] = [*choices, None]
    return widened
