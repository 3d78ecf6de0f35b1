"""One array as NumPy stores it (``.npy``): its header, and any of its rows by arithmetic.

Nothing is ever unpickled: an array of Python objects is refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HEADER_BYTES = 12 << 10  # more than a header that NumPy reads can have
_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # of the header's length, by the format's version
_NUMBERS, _ALONE = "biuf", "USM"  # kinds of dtypes; the second only one to a row


class BadArray(Exception):
    """Why it cannot be read."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Where an array's rows are, along its first axis."""

    dtype: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]  # of one row
    offset_bytes: int  # of the first
    read: Callable[[int, int], bytes]  # from an offset, so many bytes

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def end_bytes(self) -> int:
        """Where the last row ends."""
        return self.offset_bytes + self.rows * self.row_bytes

    def take(self, start: int, stop: int) -> pa.Array:
        """These rows. One number to a row is a plain column; a row of several is one value of
        ``pa.fixed_shape_tensor`` with the row's shape, whose ``to_numpy_ndarray`` copies nothing.
        """
        data = self.read(
            self.offset_bytes + start * self.row_bytes, (stop - start) * self.row_bytes
        )
        block: npt.NDArray[Any] = np.frombuffer(data, self.dtype)
        block = block.reshape(stop - start, *self.shape)
        if not self.dtype.isnative:
            block = block.astype(self.dtype.newbyteorder("="))
        if not self.shape:
            return pa.array(block)
        if self.dtype.kind == "b":
            block = block.view(np.uint8)  # Arrow's booleans are bits
        return pa.FixedShapeTensorArray.from_numpy_ndarray(block)

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        one = np.zeros((1, *self.shape), self.dtype.newbyteorder("="))
        if not self.shape:
            return pa.array(one).type
        plain = np.uint8 if self.dtype.kind == "b" else one.dtype
        return pa.FixedShapeTensorArray.from_numpy_ndarray(one.astype(plain)).type


def read_array(beginning: bytes, size_bytes: int, read: Callable[[int, int], bytes]) -> StoredArray:
    """What the file's first ``HEADER_BYTES`` tell of it. Raises ``BadArray``."""
    shape, fortran, dtype, offset_bytes = _header(beginning)
    _check(shape, fortran, dtype)
    found = StoredArray(dtype, shape[0], shape[1:], offset_bytes, read)
    if found.end_bytes > size_bytes:
        raise BadArray(
            f"it is cut off: its {found.rows} rows end at byte {found.end_bytes}, and there are"
            f" {size_bytes}"
        )
    return found


def _header(beginning: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran's order, dtype, and where the data begin. Read here because
    NumPy's own reader tries to mend headers, and fails in ways of its own."""
    wide = _LENGTH_BYTES.get(beginning[6]) if len(beginning) > 6 else None
    if not beginning.startswith(_MAGIC) or wide is None:
        raise BadArray("it does not begin as an array that NumPy saved")
    ends = 8 + wide + int.from_bytes(beginning[8 : 8 + wide], "little")
    if ends > len(beginning):
        raise BadArray(f"its header is cut off, or longer than {HEADER_BYTES} bytes")
    try:
        told = ast.literal_eval(beginning[8 + wide : ends].decode("latin-1").strip())
        shape, fortran, descr = told["shape"], told["fortran_order"], told["descr"]
        dtype = np.lib.format.descr_to_dtype(descr)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise BadArray(f"its header is wrong: {type(error).__name__}") from None
    sizes = isinstance(shape, tuple) and all(type(length) is int for length in shape)
    if not sizes or not isinstance(fortran, bool):
        raise BadArray("its header is wrong: it tells no shape")
    return shape, fortran, dtype, ends


def _check(shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise BadArray("it holds Python objects, which are never unpickled: save numbers")
    if not shape:
        raise BadArray("it is a single value and has no rows")
    if any(length < 0 for length in shape) or 0 in shape[1:] or not dtype.itemsize:
        raise BadArray(f"its shape {shape} has rows of nothing")
    if dtype.kind not in _NUMBERS + ("" if shape[1:] else _ALONE):
        raise BadArray(f"it holds {dtype} in rows of shape {shape[1:]}, which is not read")
    if dtype.itemsize > 8 and dtype.kind in _NUMBERS:
        raise BadArray(f"it holds {dtype}, which has no type in Arrow")
    if fortran and len(shape) > 1:
        raise BadArray(
            "its rows do not lie one behind the other (Fortran order): save"
            " numpy.ascontiguousarray of it"
        )
