"""Parquet by ranges: the footer, then of each row group the columns that are asked for.

A row group is fetched as it lies there (compressed) while the one before it is worked on, and
decoded a chunk at a time. So memory holds two row groups as stored, and one chunk decoded; a row
group that is larger than ``HOLD_BYTES`` is read through a window for each column instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.records.bulk import BulkFormat, PlannedFile
from workers.bulk.places import Found
from workers.bulk.ports import Chunk
from workers.bulk.reading.choosing import chosen, left_out, within_bytes
from workers.bulk.reading.ranges import Held, RangeFile, Span, reading_threads
from workers.bulk.reading.trouble import bad_file, unknown_column
from workers.bulk.reading.where import Known, Where

HOLD_BYTES = 64 << 20
MIN_WINDOW_BYTES, MAX_WINDOW_BYTES = 256 << 10, 8 << 20
FETCH_THREADS = 4


@dataclass(frozen=True, slots=True)
class _Group:
    """What is to be read of one row group."""

    number: int
    first: int  # its first row's number in the file
    start: int  # of the rows that are asked for
    stop: int
    spans: list[Span]  # of the columns that are read

    @property
    def held_bytes(self) -> int:
        return sum(stop - start for start, stop in self.spans)


class ParquetSource:
    """One file. Raises ``InvalidInput`` (``bad_file``, ``unknown_column``, ``bad_where``)."""

    def __init__(self, found: Found, where: Where) -> None:
        self._found, self._where, self._uri = found, where, found.place.uri
        with self._explained(), self._opened(None) as file:
            self._metadata = file.metadata
            self._schema = file.schema_arrow.remove_metadata()
        counts = [
            self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)
        ]
        self._starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self._leaves_of: dict[str, list[int]] = {}
        for leaf in range(self._metadata.num_columns):
            # A dot parts a nested column's name from its fields', or belongs to a plain name.
            path = self._metadata.schema.column(leaf).path
            for name in {path, path.partition(".")[0]}:
                self._leaves_of.setdefault(name, []).append(leaf)
        self._check_names(where.columns)
        where.check(self._schema)

    def planned(self) -> PlannedFile:
        rows = self._starts[-1]
        return PlannedFile(
            uri=self._uri,
            format=BulkFormat.PARQUET,
            size_bytes=self._found.size_bytes,
            rows=rows,
            stop=rows,
            digest=self._found.etag,
        )

    def columns(self) -> tuple[str, ...]:
        return tuple(self._schema.names)

    def cuts(self) -> Sequence[int]:
        return sorted(set(self._starts[:-1]))

    def chunks(
        self, start: int, stop: int, columns: Sequence[str], *, max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        self._check_names(columns)
        read = list(dict.fromkeys([*columns, *self._where.columns]))
        return self._chunks(start, stop, list(columns), read, max_rows, max_bytes)

    # ---- the row groups

    def _chunks(
        self, start: int, stop: int, columns: list[str], read: list[str], most: int, max_bytes: int
    ) -> Iterator[Chunk]:
        leaves = self._leaves(read)
        groups = self._groups(start, stop, leaves)
        nothing = pa.schema([self._schema.field(name) for name in columns])
        with reading_threads(FETCH_THREADS) as threads:
            ahead: Held | None = None
            for index, group in enumerate(groups):
                if self._left_out(group):
                    yield left_out(nothing, group.stop - group.start, group.stop)
                    continue
                held = ahead or self._fetch(group, threads)
                onward = (one for one in groups[index + 1 :] if not self._left_out(one))
                following = next(onward, None)
                ahead = self._fetch(following, threads) if following else None
                yield from self._rows(group, held, columns, read, most, max_bytes)
                del held  # before the next but one is fetched

    def _groups(self, start: int, stop: int, leaves: list[int]) -> list[_Group]:
        groups = []
        for number, first in enumerate(self._starts[:-1]):
            begin, end = max(first, start), min(self._starts[number + 1], stop)
            if begin < end:
                spans = [self._span(number, leaf) for leaf in leaves]
                groups.append(_Group(number, first, begin, end, spans))
        return groups

    def _left_out(self, group: _Group) -> bool:
        row_group = self._metadata.row_group(group.number)

        def known(column: str) -> Known | None:
            leaves = self._leaves([column])
            with contextlib.suppress(pa.ArrowException):  # some types' are not understood
                return row_group.column(leaves[0]).statistics if len(leaves) == 1 else None
            return None

        return self._where.leaves_out_all(self._schema, known)

    def _fetch(self, group: _Group, threads: Executor) -> Held | None:
        if group.held_bytes > HOLD_BYTES:
            return None
        return Held(self._found.place, group.spans, threads)

    # ---- one row group

    def _rows(
        self,
        group: _Group,
        held: Held | None,
        columns: list[str],
        read: list[str],
        max_rows: int,
        max_bytes: int,
    ) -> Iterator[Chunk]:
        if held is not None:
            held.wait()
        at = group.first
        for batch in self._decoded(group, held, read, max_rows, max_bytes):
            begin, at = at, at + batch.num_rows
            skip = max(group.start - begin, 0)
            batch = batch.slice(skip, max(min(at, group.stop) - begin - skip, 0))
            for piece in within_bytes(batch, max_bytes):
                first = begin + skip
                skip += piece.num_rows
                positions = np.arange(first, begin + skip, dtype=np.int64)
                yield chosen(piece, positions, self._where, columns, begin + skip)
            if at >= group.stop:
                return
        raise bad_file(self._uri, f"its row group {group.number} has fewer rows than it says")

    def _decoded(
        self, group: _Group, held: Held | None, read: list[str], max_rows: int, max_bytes: int
    ) -> Iterator[Any]:
        row_group = self._metadata.row_group(group.number)
        leaves = self._leaves(read)
        size_bytes = sum(row_group.column(leaf).total_uncompressed_size for leaf in leaves)
        rows = max_bytes * row_group.num_rows // max(size_bytes, 1)
        window = 0 if held is not None else HOLD_BYTES // max(len(leaves), 1)
        with self._explained(), self._opened(held, window) as file:
            yield from file.iter_batches(
                batch_size=max(min(rows, max_rows), 1), row_groups=[group.number], columns=read
            )

    @contextlib.contextmanager
    def _opened(self, held: Held | None, window_bytes: int = 0) -> Iterator[Any]:
        if window_bytes:
            window_bytes = min(max(window_bytes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES)
        ranges = RangeFile(self._found.place, self._found.size_bytes, held)
        with pa.PythonFile(ranges, mode="r") as source:
            yield pq.ParquetFile(
                source,
                metadata=getattr(self, "_metadata", None),
                buffer_size=window_bytes,
                pre_buffer=False,
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise bad_file(self._uri, error) from error

    # ---- columns

    def _check_names(self, columns: Sequence[str]) -> None:
        names = self._schema.names
        for name in columns:
            if name not in names:
                raise unknown_column(self._uri, name, names)
            if names.count(name) > 1:
                raise bad_file(self._uri, f"it has more than one column {name[:200]!r}")

    def _leaves(self, names: Sequence[str]) -> list[int]:
        """The columns as they are stored; a nested one is several."""
        return [leaf for name in names for leaf in self._leaves_of.get(name, ())]

    def _span(self, group: int, leaf: int) -> Span:
        column = self._metadata.row_group(group).column(leaf)
        offsets = [column.data_page_offset, column.dictionary_page_offset]
        start = min(one for one in offsets if one)
        stop = start + column.total_compressed_size
        if not 0 < start <= stop <= self._found.size_bytes:
            raise bad_file(self._uri, "its footer points outside of it")
        return start, stop
