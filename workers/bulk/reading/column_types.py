"""Types of columns as words, for formats whose files do not tell them: a plan is kept as JSON.

``int64``, ``double``, ``bool``, ``string``, ``timestamp``, ``date32`` … as Arrow names them, and
``list<…>`` of any of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from storage.records.errors import InvalidInput


def arrow_type(word: str) -> pa.DataType:
    """The type that a word names, or ``InvalidInput`` (``bad_type``)."""
    if word.startswith("list<") and word.endswith(">"):
        return pa.list_(arrow_type(word[5:-1]))
    try:
        return pa.timestamp("us") if word == "timestamp" else pa.type_for_alias(word)
    except ValueError:
        raise InvalidInput(f"{word!r} is no type of a column", code="bad_type") from None


def word_of(type_: pa.DataType) -> str:
    """The word that names a type."""
    if pa.types.is_list(type_):
        return f"list<{word_of(type_.value_type)}>"
    return "timestamp" if type_ == pa.timestamp("us") else str(type_)


def wanted_types(
    uri: str, types: Mapping[str, str], columns: Iterable[str]
) -> dict[str, pa.DataType]:
    """The types of these columns in this order, or ``InvalidInput`` (``no_such_column``)."""
    wanted: dict[str, pa.DataType] = {}
    for name in columns:
        if name not in types:
            has = ", ".join(list(types)[:20]) or "none"
            raise InvalidInput(
                f"{uri} has no column {name!r}; it has: {has}", code="no_such_column"
            )
        wanted[name] = arrow_type(types[name])
    return wanted
