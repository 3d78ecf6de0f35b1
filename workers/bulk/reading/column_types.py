"""Types of columns as words, for formats whose files do not tell them: a plan is kept as JSON.

``int64``, ``double``, ``bool``, ``string``, ``timestamp``, ``date32`` … as Arrow names them, and
``list<…>`` of any of these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from storage.records.errors import InvalidInput
from workers.bulk.reading.trouble import unknown_column


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
    uri: str, types: Mapping[str, str], columns: Collection[str]
) -> dict[str, pa.DataType]:
    """The types of these columns in this order, or ``InvalidInput`` (``unknown_column``)."""
    for name in columns:
        if name not in types:
            raise unknown_column(uri, name, tuple(types))
    return {name: arrow_type(types[name]) for name in columns}
