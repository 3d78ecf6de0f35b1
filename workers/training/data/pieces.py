"""What readers hand on: columns of some rows of one file, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers: TypeAlias = npt.NDArray[np.int64]

PIECE_ROWS = 8192
PIECE_BYTES = 4 << 20


class Kind(Enum):
    """What a column holds."""

    NUMBER = auto()
    BOOLEAN = auto()
    TEXT = auto()
    TENSOR = auto()  # the same number of numbers in every row
    LIST = auto()  # numbers, of which the type does not tell how many
    OTHER = auto()  # what no network takes


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column as the files have it."""

    name: str
    kind: Kind
    shape: tuple[int, ...] = ()  # of one row of a tensor
    integers: bool = False
    is_bytes: bool = False  # numbers from 0 to 255 by their type


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that could not be read."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file, in its order. A tensor is a NumPy block, all else Arrow's."""

    uri: str
    numbers: Numbers  # of each row in its file, from 1
    columns: Mapping[str, Any]
    broken: Sequence[BrokenRow] = ()
    skipped: int = 0  # rows that ``where`` left out
    names: Sequence[str] = field(default=())  # of each row, where rows are files

    @property
    def rows(self) -> int:
        return len(self.numbers)


class Reader(Protocol):
    """All files of a training."""

    def columns(self) -> tuple[ColumnInfo, ...]: ...

    def pieces(self, texts: Sequence[str], names: Sequence[str]) -> Iterator[Piece]:
        """Rows with these columns, file by file. Of ``texts`` the cells are wanted as they are
        written, where the format has them so."""
        ...


def info_of(name: str, kind: pa.DataType) -> ColumnInfo:
    """What a column of this type holds."""
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    if isinstance(kind, pa.FixedShapeTensorType):
        shape, value = tuple(kind.shape), kind.value_type
        return ColumnInfo(name, Kind.TENSOR, shape, pa.types.is_integer(value), value == pa.uint8())
    if isinstance(kind, pa.FixedSizeListType) and _is_number(kind.value_type):
        return ColumnInfo(
            name,
            Kind.TENSOR,
            (kind.list_size,),
            pa.types.is_integer(kind.value_type),
            kind.value_type == pa.uint8(),
        )
    if isinstance(kind, pa.ListType | pa.LargeListType) and _is_number(kind.value_type):
        return ColumnInfo(name, Kind.LIST)
    if pa.types.is_boolean(kind):
        return ColumnInfo(name, Kind.BOOLEAN)
    if _is_number(kind):
        return ColumnInfo(name, Kind.NUMBER, (), pa.types.is_integer(kind), kind == pa.uint8())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return ColumnInfo(name, Kind.TEXT)
    return ColumnInfo(name, Kind.OTHER)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def column_of(array: Any, info: ColumnInfo) -> Any:
    """A column as pieces have it."""
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if info.kind is Kind.TENSOR:
        if isinstance(array, pa.FixedShapeTensorArray):
            return _tensors(array)
        return _unpacked(array, info)
    if info.kind is Kind.TEXT:
        return array.cast(pa.string())
    if pa.types.is_decimal(array.type):
        return array.cast(pa.float64())
    return array


def _tensors(array: Any) -> Any:
    """Tensors as a block of their type; where a number or a whole one is missing, as doubles with
    NaN there: Arrow itself says 0 or nothing at all."""
    flat = array.storage.drop_null().flatten()
    if not array.null_count and not flat.null_count:
        return array.to_numpy_ndarray()
    kind = array.type
    values = flat.cast(pa.float64(), safe=False).fill_null(np.nan)
    doubles = pa.fixed_shape_tensor(pa.float64(), kind.shape, kind.dim_names, kind.permutation)
    storage = pa.FixedSizeListArray.from_arrays(values, kind.storage_type.list_size)
    there = pa.ExtensionArray.from_storage(doubles, storage).to_numpy_ndarray()
    return _spread(array, there)


def _unpacked(array: Any, info: ColumnInfo) -> Any:
    """Lists of one length as a block; a list that is missing is all NaN."""
    (width,) = info.shape
    flat = array.drop_null().flatten()
    if pa.types.is_decimal(flat.type) or array.null_count:
        flat = flat.cast(pa.float64(), safe=False)
    return _spread(array, flat.to_numpy(zero_copy_only=False).reshape(-1, width))


def _spread(array: Any, there: Any) -> Any:
    """The rows that there are, with a row of NaN for each that is missing."""
    if not array.null_count:
        return there
    block = np.full((len(array), *there.shape[1:]), np.nan)
    block[array.is_valid().to_numpy(zero_copy_only=False)] = there
    return block
