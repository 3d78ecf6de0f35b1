"""One flat Arrow array as numpy has it: its values, and where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from workers.bulk.decode.verdicts import Mask
from workers.inference.ports import Array

_LONGEST_INT64 = 18  # digits that int64 holds whatever they are


class Kind(Enum):
    """What a column holds, as far as anybody here asks."""

    NUMBER = "numbers"
    BOOL = "true and false"
    TEXT = "text"
    BYTES = "bytes"
    NOTHING = "nothing but null"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Values:
    """``numbers`` has something at every place, also where there is null. None for what is
    neither: that stays in ``arrow``."""

    kind: Kind
    arrow: pa.Array
    null: Mask | None
    numbers: Array | None = None
    bad: Mask | None = None  # where a text that was to be a number is none

    @property
    def what(self) -> str:
        """Its type, as a message has it."""
        return self.kind.value if self.kind is not Kind.OTHER else str(self.arrow.type)


def plain(array: pa.Array) -> pa.Array:
    """Without a dictionary, runs or an extension's name around it."""
    while True:
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        elif isinstance(array.type, pa.Bool8Type):
            array = array.storage.cast(pa.bool_())
        elif isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        else:
            return array


def is_list(kind: pa.DataType) -> bool:
    """Any of Arrow's lists."""
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def is_text_or_bytes(kind: pa.DataType) -> bool:
    """Strings and bytes of any width, and what holds only null and may be either."""
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    raw = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(text or raw or types.is_fixed_size_binary(kind) or types.is_null(kind))


def null_mask(array: pa.Array) -> Mask | None:
    """Where there is null; None where there is none."""
    if not array.null_count:
        return None
    mask: Mask = array.is_null().to_numpy(zero_copy_only=False)
    return mask


def values_of(array: pa.Array) -> Values:
    """The array (``plain``, no list) as it is."""
    kind = array.type
    null = null_mask(array)
    if types.is_null(kind):
        return Values(Kind.NOTHING, array, np.ones(len(array), dtype=np.bool_))
    if types.is_boolean(kind):
        return Values(Kind.BOOL, array, null, _numbers(array, False))
    if types.is_integer(kind) or types.is_floating(kind):
        return Values(Kind.NUMBER, array, null, _numbers(array, 0))
    if types.is_decimal(kind):
        exact = kind.scale == 0 and kind.precision <= _LONGEST_INT64
        array = array.cast(pa.int64() if exact else pa.float64())
        return Values(Kind.NUMBER, array, null, _numbers(array, 0))
    if types.is_string(kind) or types.is_large_string(kind):
        return Values(Kind.TEXT, array, null)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return Values(Kind.BYTES, array, null)
    if types.is_string_view(kind):
        return Values(Kind.TEXT, array.cast(pa.large_string()), null)
    if types.is_binary_view(kind):
        return Values(Kind.BYTES, array.cast(pa.large_binary()), null)
    return Values(Kind.OTHER, array, null)


def _numbers(array: pa.Array, filling: bool | int) -> Array:
    if array.null_count:
        array = array.fill_null(filling)
    numbers: Array = array.to_numpy(zero_copy_only=False)
    return numbers
