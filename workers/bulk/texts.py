"""Arrow columns as text: JSON values and CSV cells, a column at a time.

Numbers are written by orjson, all of a column in one call, with the fewest digits that read back
to the same number: a float32 looks here as it does in an online answer. The text is then cut at its
commas by arithmetic on Arrow's offsets, so no row becomes a Python object.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

MAX_CELLS = 256  # numbers a row, up to which a CSV gives each a column of its own
_COMMA, _QUOTE, _BACKSLASH, _SPACE = b',"\\ '
_ESCAPED = r'[\x00-\x1f"\\]'

Offsets = npt.NDArray[np.int64]


def json_texts(array: pa.Array) -> pa.Array:
    """Each value as JSON; no null among them, but the text ``null``. NaN and infinity are null."""
    texts = _json(array)
    return texts.fill_null("null") if texts.null_count else texts


def cell_names(field: pa.Field) -> list[str]:
    """The names of the CSV columns that this one becomes."""
    width = _cells(field.type)
    return [field.name] if width is None else [f"{field.name}_{i}" for i in range(width)]


def cell_texts(array: pa.Array) -> list[pa.Array]:
    """The cells of ``cell_names``; one array may hold several, commas between. Null is empty."""
    kind = _plain_type(array.type)
    width = _cells(kind)
    if width is not None:
        cells = _row_of_cells(_plain(array), width)
    elif _is_number(kind):
        cells = [_cell_numbers(_plain(array))]
    elif is_text(kind):
        cells = [_cell_quoted(_plain(array).cast(pa.string()))]
    elif _is_temporal(kind) or pa.types.is_decimal(kind):
        cells = [_plain(array).cast(pa.string())]
    else:
        cells = [_cell_quoted(_json(array))]
    return [one.fill_null("") if one.null_count else one for one in cells]


def _json(array: pa.Array) -> pa.Array:
    """As ``json_texts``, null where the value is."""
    array = _plain(array)
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if _is_number(kind):
        return _with_nulls_of(array, _strip(_runs(_numbers(array))))
    if is_text(kind):
        return _quoted(array.cast(pa.string()))
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(array)
    if pa.types.is_struct(kind):
        return _objects(array)
    if pa.types.is_timestamp(kind):
        return _quoted(pc.replace_substring(array.cast(pa.string()), " ", "T"))
    if _is_temporal(kind):
        return _quoted(array.cast(pa.string()))
    if pa.types.is_decimal(kind):
        return array.cast(pa.string())
    return _one_by_one(array)


def _lists(array: pa.Array) -> pa.Array:
    values, offsets = _opened(array)
    if _is_number(values.type) and not values.null_count:
        inner = _strip(_runs(_numbers(values), offsets))
    else:
        texts = json_texts(values)
        inner = pc.binary_join(pa.ListArray.from_arrays(offsets.astype(np.int32), texts), ",")
    return _with_nulls_of(array, pc.binary_join_element_wise("[", inner, "]", ""))


def _opened(array: pa.Array) -> tuple[pa.Array, Offsets]:
    """What a column of lists holds, and where each list begins in it."""
    if pa.types.is_fixed_size_list(array.type):
        if not array.null_count:
            width = array.type.list_size
            return array.flatten(), np.arange(len(array) + 1, dtype=np.int64) * width
        array = array.cast(pa.list_(array.type.value_type))
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    return array.values.slice(first, last - first), offsets - first


def _objects(array: pa.Array) -> pa.Array:
    parts: list[Any] = []
    for index, field in enumerate(array.type):
        parts += [("," if index else "{") + json_name(field.name) + ":"]
        parts += [json_texts(pc.struct_field(array, [index]))]
    if not parts:
        parts = ["{", pa.repeat("", len(array))]
    return _with_nulls_of(array, pc.binary_join_element_wise(*parts, "}", ""))


def json_name(name: str) -> str:
    """A name as JSON."""
    return orjson.dumps(name).decode()


def _numbers(array: pa.Array) -> bytes:
    """All of them in one JSON list; 0 where there is none."""
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if array.null_count:
        array = array.fill_null(pa.scalar(0).cast(array.type))
    return orjson.dumps(array.to_numpy(zero_copy_only=False), option=orjson.OPT_SERIALIZE_NUMPY)


def _runs(text: bytes, offsets: Offsets | None = None) -> pa.Array:
    """The JSON list ``text`` in runs of its numbers, each with the character behind it; every
    number a run of its own where no ``offsets`` say otherwise."""
    if len(text) == 2:  # an empty list
        return pa.repeat("", 0 if offsets is None else len(offsets) - 1)
    commas = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == _COMMA)
    starts = np.empty(len(commas) + 2, dtype=np.int32)
    starts[0], starts[-1] = 1, len(text)
    np.add(commas, 1, out=starts[1:-1], casting="unsafe")
    if offsets is not None:
        starts = starts[offsets]
    return pa.StringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(text))


def _strip(texts: pa.Array) -> pa.Array:
    """Without their last character; an empty one stays empty."""
    return pc.binary_replace_slice(texts, -1, 2**31 - 1, "")


def _with_nulls_of(array: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(array.is_valid(), texts, None) if array.null_count else texts


def _quoted(texts: pa.Array) -> pa.Array:
    quoted = pc.binary_join_element_wise('"', texts, '"', "")
    if not _holds_odd(texts, json=True):
        return quoted
    odd = pc.match_substring_regex(texts, _ESCAPED).fill_null(False)
    escaped = [orjson.dumps(text).decode() for text in texts.filter(odd).to_pylist()]
    return pc.replace_with_mask(quoted, odd, pa.array(escaped, pa.string()))


def _cell_quoted(texts: pa.Array) -> pa.Array:
    if _holds_odd(texts, json=False):
        texts = pc.replace_substring(texts, '"', '""')
    return pc.binary_join_element_wise('"', texts, '"', "")


def _holds_odd(texts: pa.Array, *, json: bool) -> bool:
    """Whether any text holds a character that cannot stand between quotes as it is."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return False
    places = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, dtype=np.uint8)[places[0] : places[-1]]
    odd = bool((held == _QUOTE).any())
    if json:
        odd = odd or bool((held < _SPACE).any()) or bool((held == _BACKSLASH).any())
    return odd


def _cell_numbers(array: pa.Array) -> pa.Array:
    if not _all_finite(array):
        return array.cast(pa.string())  # which spells ``nan`` and ``inf``, as every reader knows
    return _with_nulls_of(array, _strip(_runs(_numbers(array))))


def _row_of_cells(array: pa.Array, width: int) -> list[pa.Array]:
    """The numbers of fixed-size lists, however they nest."""
    rows, held = len(array), array
    while pa.types.is_fixed_size_list(held.type) and not held.null_count:
        held = held.flatten()
    if _is_number(held.type) and not held.null_count and _all_finite(held):
        return [_strip(_runs(_numbers(held), np.arange(rows + 1, dtype=np.int64) * width))]
    return [_cell_numbers(column) for column in _columns_of(array)]


def _columns_of(array: pa.Array) -> list[pa.Array]:
    if not pa.types.is_fixed_size_list(array.type):
        return [array]
    places = range(array.type.list_size)
    return [leaf for i in places for leaf in _columns_of(pc.list_element(array, i))]


def _all_finite(array: pa.Array) -> bool:
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if not pa.types.is_floating(array.type):
        return True
    return bool(pc.all(pc.is_finite(array), min_count=0).as_py())


def _cells(kind: pa.DataType) -> int | None:
    """How many cells a row's list becomes; ``None`` where the column is one cell."""
    width = 1
    if not pa.types.is_fixed_size_list(kind):
        return None
    while pa.types.is_fixed_size_list(kind):
        width, kind = width * kind.list_size, kind.value_type
    return width if _is_number(kind) and 1 <= width <= MAX_CELLS else None


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text of any layout."""
    kind = _plain_type(kind)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_temporal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind))


def _one_by_one(array: pa.Array) -> pa.Array:
    """Kinds that are seldom kept: binary as base64, the rest as they print."""
    texts = [
        None if value is None else orjson.dumps(value, default=_shown).decode()
        for value in array.to_pylist()
    ]
    return pa.array(texts, pa.string())


def _shown(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
