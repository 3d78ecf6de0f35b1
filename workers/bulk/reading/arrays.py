"""NPY and NPZ: arrays whose first axis is the rows, read by ranges.

The column of an NPY file is ``array``; those of an NPZ file bear its members' names. A member
that is compressed cannot be read from its middle: the first who needs it writes it to a
temporary file, once. ``StoredArray.take`` says what a row of several numbers becomes.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat, PlannedFile
from storage.records.errors import InvalidInput
from workers.bulk.places import Found
from workers.bulk.ports import Chunk
from workers.bulk.reading.choosing import chosen
from workers.bulk.reading.npy import HEADER_BYTES, BadArray, StoredArray, read_array
from workers.bulk.reading.ranges import RangeFile, fetch, reading_threads
from workers.bulk.reading.trouble import bad_file, unknown_column
from workers.bulk.reading.where import Where

ARRAY = "array"
MAX_UNPACKED_BYTES = 8 << 30  # of a compressed member
_LOCAL_HEADER_BYTES = 30
_BUFFER_BYTES = 4 << 20
_WRONG_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,  # a name that is no UTF-8
)


class ArraySource:
    """One file. Raises ``InvalidInput`` (``bad_file``, ``unknown_column``, ``bad_where``,
    ``too_large``)."""

    def __init__(self, found: Found, where: Where, format: BulkFormat) -> None:
        self._found, self._where, self._format = found, where, format
        self._uri = found.place.uri
        opens = _members if format is BulkFormat.NPZ else _single
        try:
            self._arrays = opens(found)
        except (BadArray, *_WRONG_ZIP) as error:
            raise bad_file(self._uri, error) from error
        lengths = {name: array.rows for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {rows}" for name, rows in list(lengths.items())[:20])
            raise bad_file(self._uri, f"its arrays have different numbers of rows: {told}")
        self._rows = next(iter(lengths.values()))
        where.check(pa.schema([(name, array.type) for name, array in self._arrays.items()]))

    def planned(self) -> PlannedFile:
        return PlannedFile(
            uri=self._uri,
            format=self._format,
            size_bytes=self._found.size_bytes,
            rows=self._rows,
            stop=self._rows,
            digest=self._found.etag,
        )

    def columns(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def cuts(self) -> Sequence[int]:
        return ()

    def chunks(
        self, start: int, stop: int, columns: Sequence[str], *, max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        for name in columns:
            if name not in self._arrays:
                raise unknown_column(self._uri, name, self.columns())
        read = {
            name: self._arrays[name] for name in dict.fromkeys([*columns, *self._where.columns])
        }
        row_bytes = sum(array.row_bytes for array in read.values())
        rows = max(1, min(max_rows, max_bytes // max(row_bytes, 1)))
        stop = min(stop, self._rows)
        ranges = [(at, min(at + rows, stop)) for at in range(start, stop, rows)]
        return self._chunks(ranges, list(columns), read)

    def _chunks(
        self, ranges: list[tuple[int, int]], columns: list[str], read: Mapping[str, StoredArray]
    ) -> Iterator[Chunk]:
        """The next range is read while this one is worked on."""
        with reading_threads(1) as thread:
            ahead = [thread.submit(self._batch, *one, read) for one in ranges[:1]]
            for index, (start, stop) in enumerate(ranges):
                batch = ahead.pop().result()
                ahead += [
                    thread.submit(self._batch, *one, read) for one in ranges[index + 1 : index + 2]
                ]
                positions = np.arange(start, stop, dtype=np.int64)
                yield chosen(batch, positions, self._where, columns, stop)

    def _batch(self, start: int, stop: int, read: Mapping[str, StoredArray]) -> pa.RecordBatch:
        try:
            arrays = [array.take(start, stop) for array in read.values()]
        except (BadArray, *_WRONG_ZIP) as error:
            raise bad_file(self._uri, error) from error
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * (stop - start), pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, names=list(read))


def _single(found: Found) -> dict[str, StoredArray]:
    read = _reader(found, 0)
    beginning = read(0, min(HEADER_BYTES, found.size_bytes))
    return {ARRAY: read_array(beginning, found.size_bytes, read)}


def _members(found: Found) -> dict[str, StoredArray]:
    arrays: dict[str, StoredArray] = {}
    with zipfile.ZipFile(RangeFile(found.place, found.size_bytes)) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename.removesuffix(".npy")
            try:
                arrays[name] = _member(found, archive, info)
            except BadArray as error:
                raise BadArray(f"array {name[:100]!r}: {error}") from None
    if not arrays:
        raise BadArray("it holds no array")
    return arrays


def _member(found: Found, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> StoredArray:
    if info.flag_bits & 1:
        raise BadArray("it is encrypted")
    if info.compress_type == zipfile.ZIP_STORED:
        local = _reader(found, 0)(info.header_offset, _LOCAL_HEADER_BYTES)
        if not local.startswith(b"PK\3\4"):
            raise BadArray("it does not lie where the archive says")
        name, extra = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
        base = info.header_offset + _LOCAL_HEADER_BYTES + name + extra
        if base + info.file_size > found.size_bytes:
            raise BadArray("it is cut off")
        read = _reader(found, base)
        return read_array(read(0, min(HEADER_BYTES, info.file_size)), info.file_size, read)
    with archive.open(info) as member:
        beginning = member.read(HEADER_BYTES)
    return read_array(beginning, info.file_size, _Unpacked(found, info).read)


def _reader(found: Found, base: int) -> Callable[[int, int], bytes]:
    def read(offset_bytes: int, length_bytes: int) -> bytes:
        start = base + offset_bytes
        if start < 0 or start + length_bytes > found.size_bytes:
            raise BadArray("it is cut off")
        return fetch(found.place, start, start + length_bytes)

    return read


class _Unpacked:
    """A compressed member, written to a temporary file when it is first read. Thread-safe."""

    def __init__(self, found: Found, info: zipfile.ZipInfo) -> None:
        self._found, self._info, self._lock = found, info, Lock()
        self._file: int | None = None

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._lock:
            if self._file is None:
                self._file = self._unpack()
                weakref.finalize(self, os.close, self._file)
        data = os.pread(self._file, length_bytes, offset_bytes)
        if len(data) != length_bytes:
            raise BadArray("it is cut off")
        return data

    def _unpack(self) -> int:
        if self._info.file_size > MAX_UNPACKED_BYTES:
            raise InvalidInput(
                f"{self._found.place.uri} holds {self._info.filename[:100]!r} of"
                f" {self._info.file_size} bytes compressed; more than {MAX_UNPACKED_BYTES} are only"
                " read from an archive that is not (numpy.savez)",
                code="too_large",
            )
        ranges = RangeFile(self._found.place, self._found.size_bytes)
        with (
            io.BufferedReader(ranges, _BUFFER_BYTES) as source,
            zipfile.ZipFile(source) as archive,
            archive.open(self._info) as member,
            tempfile.TemporaryFile() as file,
        ):
            shutil.copyfileobj(member, file, _BUFFER_BYTES)
            file.flush()
            return os.dup(file.fileno())
