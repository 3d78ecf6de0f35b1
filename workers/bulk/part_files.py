"""Part files: batches of encoded rows into one local file, digested while it is written.

The same rows give the same bytes, however they were batched: rows are gathered into groups of a
fixed number (fewer only where rows are so wide that a group would take too much memory).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.records.bulk import PartFormat
from workers.bulk.texts import cell_names, cell_texts, is_text, json_name, json_texts

_MAX_GROUP_BYTES = 32 << 20
_TEXT_GROUP_ROWS = 16_384
_PARQUET_GROUP_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class PartSummary:
    """A file that is written."""

    rows: int
    size_bytes: int
    sha256_hex: str


class DigestingFile:
    """A file open for writing that knows its length and digest."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._digest = hashlib.sha256()
        self._dropped = False
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes | memoryview) -> int:
        """Append; the number of bytes."""
        if self._dropped:
            return len(data)
        self._digest.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self.size_bytes

    def flush(self) -> None:
        """Hand what is written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Also a second time."""
        self.closed = True
        self._file.close()

    def drop(self) -> None:
        """Nothing more reaches the disk; whoever still writes is not told."""
        self._dropped = True
        self._file.close()

    def readable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Never."""
        return False

    @property
    def sha256_hex(self) -> str:
        """Of everything written so far."""
        return self._digest.hexdigest()


class _Form(Protocol):
    group_rows: int

    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None: ...


class PartFile:
    """One part while it is written. Leaving a ``with`` by an exception removes the file."""

    def __init__(self, path: Path, sink: DigestingFile, form: _Form) -> None:
        self._path = path
        self._sink = sink
        self._form = form
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_rows = 0
        self._gathered_bytes = 0
        self.rows = 0

    @property
    def size_bytes(self) -> int:
        """What is in the file so far."""
        return self._sink.size_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows; the batch's memory is held until its group is full."""
        if self._gathered and batch.schema != self._gathered[0].schema:
            self._flush()  # JSON lines may say another type of a kept column
        self.rows += batch.num_rows
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, self._room(batch))
            start += piece.num_rows
            self._gathered.append(piece)
            self._gathered_rows += piece.num_rows
            self._gathered_bytes += piece.nbytes
            full = self._gathered_rows >= self._form.group_rows
            if full or self._gathered_bytes >= _MAX_GROUP_BYTES:
                self._flush()

    def close(self) -> PartSummary:
        """Write what is gathered and the file's end."""
        self._flush()
        self._form.finish()
        self._sink.close()
        return PartSummary(self.rows, self._sink.size_bytes, self._sink.sha256_hex)

    def discard(self) -> None:
        """Remove the file, whatever is in it."""
        self._gathered.clear()
        self._sink.drop()
        self._form.finish()  # or Arrow does it whenever it is collected
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()

    def _room(self, batch: pa.RecordBatch) -> int:
        """How many rows of the batch still go into the group."""
        by_bytes: int = max(1, batch.num_rows * _MAX_GROUP_BYTES // max(1, batch.nbytes))
        return min(self._form.group_rows - self._gathered_rows, by_bytes)

    def _flush(self) -> None:
        if self._gathered:
            self._form.write(pa.concat_batches(self._gathered))
        self._gathered = []
        self._gathered_rows = self._gathered_bytes = 0


def open_part(path: Path, form: PartFormat, schema: pa.Schema) -> PartFile:
    """A new part at ``path``, whose batches have this schema."""
    sink = DigestingFile(path)
    match form:
        case PartFormat.PARQUET:
            return PartFile(path, sink, _Parquet(sink, schema))
        case PartFormat.JSONL:
            return PartFile(path, sink, _Lines(sink))
        case PartFormat.CSV:
            return PartFile(path, sink, _Csv(sink, schema))


class _Parquet:
    """zstd at its lowest level: predictions hardly compress, and it costs least for what it saves.
    Only texts that repeat get a dictionary; figures are kept for the row id alone."""

    group_rows = _PARQUET_GROUP_ROWS

    def __init__(self, sink: DigestingFile, schema: pa.Schema) -> None:
        names = [field.name for field in schema]
        repeated = [field.name for field in schema if is_text(field.type)][1:]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=repeated or False,
            write_statistics=names[:1],
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=batch.num_rows)

    def finish(self) -> None:
        self._writer.close()


class _Lines:
    """One JSON object a row."""

    group_rows = _TEXT_GROUP_ROWS

    def __init__(self, sink: DigestingFile) -> None:
        self._sink = sink

    def write(self, batch: pa.RecordBatch) -> None:
        parts = []
        for index, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
            parts += [("," if index else "{") + json_name(name) + ":", json_texts(column)]
        _write_texts(self._sink, pc.binary_join_element_wise(*parts, "}\n", ""))

    def finish(self) -> None:
        pass


class _Csv:
    """A header line, texts in quotes, numbers without; a null is an empty cell."""

    group_rows = _TEXT_GROUP_ROWS

    def __init__(self, sink: DigestingFile, schema: pa.Schema) -> None:
        self._sink = sink
        names = [name.replace('"', '""') for field in schema for name in cell_names(field)]
        self._sink.write(",".join(f'"{name}"' for name in names).encode() + b"\n")

    def write(self, batch: pa.RecordBatch) -> None:
        cells = [cell for column in batch.columns for cell in cell_texts(column)]
        lines = pc.binary_join_element_wise(*cells, ",")
        _write_texts(self._sink, pc.binary_join_element_wise(lines, "\n", ""))

    def finish(self) -> None:
        pass


def _write_texts(sink: DigestingFile, texts: pa.Array) -> None:
    """They lie one after another in one buffer: that buffer is the file's next bytes."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    sink.write(memoryview(data)[places[0] : places[-1]])
