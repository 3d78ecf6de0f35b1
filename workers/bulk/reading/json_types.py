"""What type each column of JSON lines has, by a sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import orjson

_NUMBERS = ("int64", "double")
_SCALARS = {bool: "bool", int: "int64", float: "double", str: "string", type(None): "null"}
_MIXED = "mixed"  # values that no column can hold
_INT64 = range(-(2**63), 2**63)
_MOST_LEVELS = 16

Kind = tuple[int, str]  # levels of lists, and what is in them


@dataclass(slots=True)
class _Seen:
    """How often a column held what."""

    kinds: Counter[Kind] = field(default_factory=Counter)

    def word(self, is_number: bool) -> str | None:
        """What most rows hold; None if Arrow has no such column. Rows that hold something else
        are wrong."""
        families: Counter[Kind] = Counter()
        for (levels, base), count in self.kinds.items():
            if base != "null":
                families[levels, "double" if base in _NUMBERS else base] += count
        if families:
            (levels, base), _ = families.most_common(1)[0]
            if base == "double" and (levels, "double") not in self.kinds:
                base = "int64"
        else:  # nothing but nulls and empty lists
            levels = max((levels for levels, _ in self.kinds), default=0)
            base = "double" if levels or is_number else "string"
        return None if base == _MIXED else "list<" * levels + base + ">" * levels


def infer_types(lines: Iterable[bytes], numbers: Collection[str]) -> dict[str, str]:
    """The type of each column, in the order of their first appearance. Columns of objects, and
    of lists of different things, are left out. One that is to hold ``numbers`` and has none yet
    has them."""
    seen: dict[str, _Seen] = {}
    for line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            for name, value in row.items():
                seen.setdefault(name, _Seen()).kinds[_kind(value)] += 1
    words = {name: one.word(name in numbers) for name, one in seen.items()}
    return {name: word for name, word in words.items() if word is not None}


def _kind(value: object, within: int = 0) -> Kind:
    if isinstance(value, list) and within < _MOST_LEVELS:
        levels, base = _kind_of_all(value, within + 1)
        return levels + 1, base
    base = _SCALARS.get(type(value), _MIXED)
    if base == "int64" and value not in _INT64:
        base = "double"
    return 0, base


def _kind_of_all(values: list[object], within: int) -> Kind:
    """What a list's items have in common."""
    found = set(map(type, values))
    if float in found and found <= {int, float, type(None)}:  # thousands: no look at each
        return 0, "double"
    kinds = {_kind(one, within) for one in values}
    deepest = max((levels for levels, _ in kinds), default=0)
    kinds -= {(levels, "null") for levels in range(deepest + 1)}
    if kinds == {(deepest, "int64"), (deepest, "double")}:
        return deepest, "double"
    if len(kinds) > 1:
        return 0, _MIXED
    return kinds.pop() if kinds else (deepest, "null")
