"""IDX: MNIST's own format. Big-endian, one array a file, the labels in a file beside it; plain
or in gzip."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.records.errors import InvalidInput
from workers.training.data.files import DataFile, blocks_of
from workers.training.data.pieces import PIECE_BYTES, PIECE_ROWS, ColumnInfo, Kind, Piece
from workers.training.data.trouble import bad_file

PIXELS, LABEL = "image", "label"
MAX_AXES, MAX_ROW_BYTES = 4, 64 << 20
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, slots=True)
class Header:
    """What an IDX file says of itself."""

    dtype: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]  # of one row

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


class IdxStream:
    """One file, read from its beginning to its end. Raises ``InvalidInput`` (``bad_file``)."""

    def __init__(self, file: DataFile, still: Callable[[], bool]) -> None:
        self._file = file
        self._blocks = _plain(file, still)
        self._held = bytearray()
        self.header = self._header()

    def read(self, rows: int) -> Any:
        """The next rows, as a block in this machine's byte order."""
        data = self._exactly(rows * self.header.row_bytes)
        block: Any = np.frombuffer(data, self.header.dtype).reshape(rows, *self.header.shape)
        return block.astype(block.dtype.newbyteorder("="), copy=False)

    def end(self) -> None:
        """Nothing may follow the last row."""
        if self._held or any(self._blocks):
            raise bad_file(self._file.uri, "there is more in it than its sizes say")

    def _header(self) -> Header:
        magic = self._exactly(4)
        dtype = _TYPES.get(magic[2])
        axes = magic[3]
        if magic[:2] != b"\0\0" or dtype is None or not 1 <= axes <= MAX_AXES:
            raise bad_file(
                self._file.uri,
                f"it does not begin as an IDX file: its magic number is 0x{magic.hex()}",
            )
        sizes = np.frombuffer(self._exactly(4 * axes), ">u4").tolist()
        header = Header(np.dtype(dtype), sizes[0], tuple(sizes[1:]))
        if 0 in header.shape or header.row_bytes > MAX_ROW_BYTES:
            raise bad_file(self._file.uri, f"its sizes {sizes} are no picture's")
        return header

    def _exactly(self, length: int) -> bytes:
        while len(self._held) < length:
            block = next(self._blocks, None)
            if block is None:
                raise bad_file(
                    self._file.uri,
                    f"it is cut off: {length - len(self._held)} bytes more were to follow",
                )
            self._held += block
        data = bytes(memoryview(self._held)[:length])
        del self._held[:length]
        return data


def _plain(file: DataFile, still: Callable[[], bool]) -> Iterator[bytes]:
    """Its content, unpacked by whether it begins as gzip."""
    unpack: Any = None
    for index, block in enumerate(blocks_of(file, still)):
        if index == 0 and block[:2] == b"\x1f\x8b":
            unpack = zlib.decompressobj(31)
        if unpack is None:
            yield block
            continue
        try:
            data = unpack.decompress(block, PIECE_BYTES)
            while data:
                yield data
                data = unpack.decompress(unpack.unconsumed_tail, PIECE_BYTES)
        except zlib.error as error:
            raise bad_file(file.uri, f"its gzip is broken ({error})") from None
    if unpack is not None and not unpack.eof:
        raise bad_file(file.uri, "its gzip is cut off")


class IdxReader:
    """Pictures of one or several files, one behind the other, and one file of all their labels."""

    def __init__(
        self, files: Sequence[DataFile], labels: DataFile, still: Callable[[], bool]
    ) -> None:
        self._files, self._labels, self._still = files, labels, still
        shapes = {}
        for file in files:
            header = IdxStream(file, still).header
            shapes[header.shape, header.dtype] = file
            if not header.shape:
                raise bad_file(file.uri, "it holds labels, not pictures")
        if len(shapes) > 1:
            (one, _), (other, _) = list(shapes)[:2]
            uri = list(shapes.values())[1].uri
            raise bad_file(uri, f"its pictures are {list(other)}, and {list(one)} in other files")
        ((self._shape, self._dtype),) = shapes

    def columns(self) -> tuple[ColumnInfo, ...]:
        kind = self._dtype
        return (
            ColumnInfo(PIXELS, Kind.TENSOR, self._shape, kind.kind in "iu", kind == ">u1"),
            ColumnInfo(LABEL, Kind.NUMBER, (), True),
        )

    def pieces(self, texts: Sequence[str], names: Sequence[str]) -> Iterator[Piece]:
        """Labels and pictures are read beside each other."""
        labels = IdxStream(self._labels, self._still)
        if labels.header.shape or labels.header.dtype.kind == "f":
            raise bad_file(self._labels.uri, "it holds no labels: that is one integer a row")
        left = labels.header.rows
        for file in self._files:
            stream = IdxStream(file, self._still)
            if stream.header.rows > left:
                raise self._unequal(left, more=True)
            left -= stream.header.rows
            yield from self._of(file, stream, labels)
        if left:
            raise self._unequal(left, more=False)
        labels.end()

    def _of(self, file: DataFile, stream: IdxStream, labels: IdxStream) -> Iterator[Piece]:
        header = stream.header
        each = max(1, min(PIECE_ROWS, PIECE_BYTES // header.row_bytes))
        for start in range(0, header.rows, each):
            count = min(each, header.rows - start)
            columns = {PIXELS: stream.read(count), LABEL: pa.array(labels.read(count))}
            yield Piece(file.uri, np.arange(start + 1, start + count + 1), columns)
        stream.end()

    def _unequal(self, left: int, *, more: bool) -> InvalidInput:
        why = (
            "it has fewer labels than there are pictures"
            if more
            else f"it has {left} labels more than there are pictures"
        )
        return bad_file(self._labels.uri, why)


def labels_beside(uri: str) -> str | None:
    """Where MNIST's own names have the labels of such a file of pictures."""
    folder, slash, name = uri.rpartition("/")
    if "images" not in name:
        return None
    return folder + slash + name.replace("images", "labels").replace("idx3", "idx1")
