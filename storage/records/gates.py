"""Gates: what has to hold of a version's metrics before an alias may move to it.

::

    gate       = either { "or" either }
    either     = both { "and" both }
    both       = "not" both | "(" gate ")" | comparison
    comparison = sum ( ">=" | ">" | "<=" | "<" | "==" | "!=" ) sum
    sum        = ["-"] value { ("+" | "-") value }
    value      = number | metric | "@" alias "." metric

as in ``accuracy >= 0.97 and recall >= @prod.recall - 0.005``. A metric by itself is the
candidate's; ``@prod.recall`` is what the version that ``prod`` stands for was measured at, on the
same data. Pure: the values are somebody else's to find.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from storage.records.errors import InvalidInput

MAX_GATE = 1_000  # characters
MAX_NUMBER = 1e100
_MOST_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<other>@[a-z0-9][a-z0-9._-]*\.[a-zA-Z_][a-zA-Z0-9_]*|@[a-z0-9][a-z0-9_-]*)"
    r"|(?P<word>[a-zA-Z_][a-zA-Z0-9_]*)"
    r"|(?P<sign>>=|<=|==|!=|>|<|[()+-]))"
)
_SIGNS = {">=", ">", "<=", "<", "==", "!="}


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value: the candidate's, or of what an alias stands for."""

    name: str
    alias: str | None = None

    def __str__(self) -> str:
        return self.name if self.alias is None else f"@{self.alias}.{self.name}"


Values: TypeAlias = Mapping[Metric, float]


@dataclass(frozen=True, slots=True)
class Sum:
    """Values and numbers, each with its sign."""

    parts: tuple[tuple[int, Metric | float], ...]

    def value(self, values: Values) -> float:
        """Worked out."""
        return math.fsum(
            sign * (values[one] if isinstance(one, Metric) else one) for sign, one in self.parts
        )

    def __str__(self) -> str:
        shown = ""
        for number, (sign, one) in enumerate(self.parts):
            mark = ("" if sign > 0 else "-") if number == 0 else (" + " if sign > 0 else " - ")
            shown += mark + (str(one) if isinstance(one, Metric) else f"{one:g}")
        return shown


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sums."""

    left: Sum
    sign: str
    right: Sum

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Both:
    """All of them hold."""

    parts: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of them holds."""

    parts: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: Gate


Gate: TypeAlias = Comparison | Both | Either | Not


@dataclass(frozen=True, slots=True)
class Seen:
    """A comparison with its values."""

    comparison: str
    left: float
    right: float
    holds: bool

    def __str__(self) -> str:
        says = "holds" if self.holds else "does not hold"
        return f"{self.comparison}: {says} ({self.left:.6g} against {self.right:.6g})"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the gate holds, and each of its comparisons."""

    holds: bool
    seen: tuple[Seen, ...]


def parse_gate(text: str, *, field: str = "if") -> Gate:
    """Read a gate. ``InvalidInput``: ``invalid_gate`` with the place that is wrong, or
    ``gate_names_no_metric``."""
    if len(text) > MAX_GATE:
        raise _wrong(field, f"it is longer than {MAX_GATE} characters")
    gate = _Reader(text, field).gate()
    if not metrics_of(gate):
        raise InvalidInput(
            f"{field} {text[:80]!r} names no metric: compare one, as in accuracy >= 0.97",
            code="gate_names_no_metric",
            field=field,
        )
    return gate


def metrics_of(gate: Gate) -> frozenset[Metric]:
    """Every metric that the gate names."""
    return frozenset(
        one
        for comparison in comparisons_of(gate)
        for side in (comparison.left, comparison.right)
        for _, one in side.parts
        if isinstance(one, Metric)
    )


def comparisons_of(gate: Gate) -> Iterator[Comparison]:
    """In the order of the text."""
    match gate:
        case Comparison():
            yield gate
        case Not():
            yield from comparisons_of(gate.part)
        case _:
            for part in gate.parts:
                yield from comparisons_of(part)


def decide(gate: Gate, values: Values) -> Decision:
    """``values`` has every metric that the gate names."""
    seen = []
    for one in comparisons_of(gate):
        left, right = one.left.value(values), one.right.value(values)
        seen.append(Seen(str(one), left, right, _holds(one.sign, left, right)))
    return Decision(_decide(gate, iter(seen)), tuple(seen))


def _decide(gate: Gate, seen: Iterator[Seen]) -> bool:
    """``seen``: what is found of the comparisons, in their order; each is looked at."""
    match gate:
        case Comparison():
            return next(seen).holds
        case Not():
            return not _decide(gate.part, seen)
        case Both():
            found = [_decide(part, seen) for part in gate.parts]  # each of them, whatever the first
            return all(found)
        case Either():
            found = [_decide(part, seen) for part in gate.parts]
            return any(found)


def _holds(sign: str, left: float, right: float) -> bool:
    match sign:
        case ">=":
            return left >= right
        case ">":
            return left > right
        case "<=":
            return left <= right
        case "<":
            return left < right
        case "==":
            return left == right
    return left != right


def _wrong(field: str, says: str) -> InvalidInput:
    return InvalidInput(f"{field}: {says}", code="invalid_gate", field=field)


class _Reader:
    """From text to a gate, by the grammar above."""

    def __init__(self, text: str, field: str) -> None:
        self._text, self._field = text, field
        self._tokens = list(self._cut())
        self._at = 0
        self._depth = 0

    def gate(self) -> Gate:
        found = self._either()
        if self._at < len(self._tokens):
            raise self._expected("'and', 'or', or the end")
        return found

    def _cut(self) -> Iterator[tuple[str, str, int]]:
        """Kind, text and place of each token."""
        at, end = 0, len(self._text.rstrip())
        while at < end:
            found = _TOKEN.match(self._text, at)
            if found is None or found.lastgroup is None:
                place = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise _wrong(
                    self._field, f"{self._text[place : place + 20]!r} at {place + 1} means nothing"
                )
            kind = found.lastgroup
            yield kind, found[kind], found.start(kind)
            at = found.end()

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _takes(self, *words: str) -> str | None:
        """The next token, if it is one of these."""
        if self._peek() in words:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _either(self) -> Gate:
        parts = [self._both()]
        while self._takes("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Gate:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self) -> Gate:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _wrong(self._field, f"it is nested more than {_MOST_DEPTH} deep")
        try:
            if self._takes("not"):
                return Not(self._one())
            if self._takes("("):
                found = self._either()
                if not self._takes(")"):
                    raise self._expected("')'")
                return found
            left = self._sum()
            sign = self._takes(*_SIGNS)
            if sign is None:
                raise self._expected(f"one of {' '.join(sorted(_SIGNS))}")
            return Comparison(left, sign, self._sum())
        finally:
            self._depth -= 1

    def _sum(self) -> Sum:
        sign = -1 if self._takes("-") else 1
        parts = [(sign, self._value())]
        while mark := self._takes("+", "-"):
            parts.append((1 if mark == "+" else -1, self._value()))
        return Sum(tuple(parts))

    def _value(self) -> Metric | float:
        kind, text, _ = self._tokens[self._at] if self._at < len(self._tokens) else ("", "", 0)
        if kind == "number":
            self._at += 1
            number = float(text)
            if number > MAX_NUMBER:
                raise _wrong(self._field, f"{text[:20]} is too large")
            return number
        if kind == "word" and text not in ("and", "or", "not"):
            self._at += 1
            return Metric(text)
        if kind == "other":
            alias, _, name = text[1:].rpartition(".")
            if not alias:
                raise self._expected("an alias and its metric, as in @prod.recall")
            self._at += 1
            return Metric(name, alias)
        raise self._expected("a number, a metric, or @alias.metric")

    def _expected(self, what: str) -> InvalidInput:
        if self._at < len(self._tokens):
            _, text, place = self._tokens[self._at]
            return _wrong(self._field, f"expected {what} at {place + 1}, not {text[:20]!r}")
        return _wrong(self._field, f"expected {what} at its end")
