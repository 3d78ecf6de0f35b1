"""A list of addresses, one a line: every object is a row.

Objects are fetched several at a time, in the list's order, with a bounded number of bytes ahead.
One that cannot be fetched is its row's error; a store that does not answer is nobody's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput, NotFound
from workers.bulk.places import Found
from workers.bulk.ports import Chunk, RowError
from workers.bulk.reading.blocks import Readable
from workers.bulk.reading.chunking import Parsed
from workers.bulk.reading.line_source import LineSource
from workers.bulk.reading.lines import Lines
from workers.bulk.reading.ranges import reading_threads
from workers.bulk.reading.trouble import unknown_column
from workers.bulk.reading.where import Where

FETCH_THREADS = 8
AHEAD = 4 * FETCH_THREADS  # objects
AHEAD_BYTES = 64 << 20  # of those that are there and not yet given out
MAX_LISTED = 1_000_000
URI, DATA = "uri", "data"


@dataclass(slots=True)
class _Line:
    """One line, and what became of it."""

    position: int
    uri: str = ""
    error: RowError | None = None
    left_out: bool = False
    next: int = 0  # where reading would go on behind it
    data: Future[bytes | RowError] | None = None  # if it is fetched

    @property
    def held_bytes(self) -> int:
        """Of the object, if it is there."""
        if self.data is None or not self.data.done() or self.data.exception() is not None:
            return 0
        data = self.data.result()
        return len(data) if isinstance(data, bytes) else 0


class UrisSource(LineSource):
    """One list. Columns: ``uri`` and ``data``, the object's bytes, fetched only if asked for.
    Errors of a row: ``ref_not_found``, and what fetching refuses (``ref_not_allowed``,
    ``too_large``); of the file: ``unknown_column``."""

    format = BulkFormat.URIS
    COLUMNS: ClassVar[Mapping[str, str]] = {URI: "string", DATA: "binary"}

    def __init__(
        self,
        place: Readable,
        size_bytes: int,
        *,
        gzip: bool,
        where: Where,
        fetch: Callable[[str], bytes],
    ) -> None:
        super().__init__(place, size_bytes, gzip=gzip, types=self.COLUMNS)
        self._lets_through, self._fetch = where, fetch
        for name in where.columns:
            if name != URI:
                raise unknown_column(place.uri, name, (URI,))
        where.check(pa.schema([(URI, pa.string())]))

    def columns(self) -> tuple[str, ...]:
        """Always the same."""
        return tuple(self.COLUMNS)

    def types(self, numbers: Collection[str] = ()) -> Mapping[str, str]:
        """Always the same."""
        return self.COLUMNS

    def chunks(
        self, start: int, stop: int, columns: Sequence[str], *, max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        for name in columns:
            if name not in self.COLUMNS:
                raise unknown_column(self._place.uri, name, self.columns())
        return self._chunks(start, stop, columns, max_rows, max_bytes)

    def _chunks(
        self, start: int, stop: int, columns: Sequence[str], max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        with reading_threads(FETCH_THREADS) as threads:
            lines = self._told(start, stop)
            gathered = _Gathered(columns)
            for line in self._fetched(lines, threads) if DATA in columns else lines:
                gathered.take(line)
                if gathered.rows >= max_rows or gathered.size_bytes >= max_bytes:
                    yield gathered.chunk()
                    gathered = _Gathered(columns)
            if gathered.next is not None:
                yield gathered.chunk()

    def _told(self, start: int, stop: int) -> Iterator[_Line]:
        """Every line of the range, in its order."""
        for lines in self._lines(start, stop):
            uris = [lines.text(index).decode() for index in range(len(lines))]
            batch = pa.RecordBatch.from_arrays([pa.array(uris, pa.string())], names=[URI])
            mask = self._lets_through(batch)
            chosen = mask.to_pylist() if mask is not None else [True] * len(uris)
            told = [
                _Line(position, uri, left_out=not good)
                for position, uri, good in zip(lines.positions.tolist(), uris, chosen, strict=True)
            ]
            told += [_Line(error.position, error=error) for error in lines.errors]
            told.sort(key=lambda line: line.position)
            for line, following in pairwise([*told, _Line(lines.next)]):
                line.next = following.position
                yield line

    def _fetched(self, lines: Iterator[_Line], threads: Executor) -> Iterator[_Line]:
        """The same lines, those behind them on their way."""
        queue: deque[_Line] = deque()
        for line in lines:
            if line.error is None and not line.left_out:
                line.data = threads.submit(self._one, line.position, line.uri)
            queue.append(line)
            while len(queue) > AHEAD or sum(one.held_bytes for one in queue) > AHEAD_BYTES:
                yield queue.popleft()
        while queue:
            yield queue.popleft()

    def _one(self, position: int, uri: str) -> bytes | RowError:
        try:
            return self._fetch(uri)
        except NotFound:
            return RowError(position, "ref_not_found", f"there is no object {uri[:300]}")
        except InvalidInput as error:
            return RowError(position, error.stable_code, error.message)

    def _infer(self, lines: Lines | None, numbers: Collection[str]) -> Mapping[str, str]:
        return self.COLUMNS

    def _parse(self, lines: Lines, types: Mapping[str, pa.DataType]) -> Parsed:
        raise AssertionError("lines become rows in _chunks")


class _Gathered:
    """Lines that become one chunk."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._uris: list[str] = []
        self._data: list[bytes] = []
        self._positions: list[int] = []
        self._errors: list[RowError] = []
        self._skipped = 0
        self.size_bytes = 0
        self.next: int | None = None

    @property
    def rows(self) -> int:
        """Good and wrong ones."""
        return len(self._positions) + len(self._errors)

    def take(self, line: _Line) -> None:
        """One more; waits for its object."""
        self.next = line.next
        data = line.data.result() if line.data is not None else b""
        error = data if isinstance(data, RowError) else line.error
        if error is not None:
            self._errors.append(error)
        elif line.left_out:
            self._skipped += 1
        elif isinstance(data, bytes):
            self._positions.append(line.position)
            self._uris.append(line.uri)
            self._data.append(data)
            self.size_bytes += len(line.uri) + len(data)

    def chunk(self) -> Chunk:
        """All of them."""
        assert self.next is not None
        every = {URI: (self._uris, pa.string()), DATA: (self._data, pa.binary())}
        batch = pa.RecordBatch.from_arrays(
            [pa.array(*every[name]) for name in self._columns], names=list(self._columns)
        )
        positions = np.array(self._positions, np.int64)
        return Chunk(batch, positions, tuple(self._errors), self._skipped, self.next)


def write_listing(founds: Iterable[Found]) -> bytes:
    """The list of these objects, by address. ``InvalidInput`` (``too_many_files``) from a million
    on: a list is planned, and kept, as one file."""
    uris: list[str] = []
    for one in founds:
        uris.append(one.place.uri)
        if len(uris) > MAX_LISTED:
            raise InvalidInput(
                f"there are more than {MAX_LISTED} objects: score a part of them at a time",
                code="too_many_files",
            )
    uris.sort()
    return "".join(f"{uri}\n" for uri in uris).encode()
