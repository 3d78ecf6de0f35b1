"""What all sources of text have in common: a row is a line, and its position the line's byte."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from storage.records.bulk import BulkFormat, PlannedFile
from workers.bulk.ports import Chunk
from workers.bulk.reading.blocks import BLOCK_BYTES, Readable, stream_bytes
from workers.bulk.reading.chunking import Parsed, Where, chunks_of, columns_to_read
from workers.bulk.reading.column_types import wanted_types
from workers.bulk.reading.lines import MAX_LINE_BYTES, Lines, read_lines

_SAMPLE_BYTES = 4 << 20


class LineSource(ABC):
    """A ``Source`` of lines; what they mean is the heir's."""

    format: ClassVar[BulkFormat]

    def __init__(
        self,
        place: Readable,
        size_bytes: int,
        *,
        gzip: bool,
        types: Mapping[str, str] | None = None,
        where: Where | None = None,
        where_columns: Collection[str] | None = None,
        block_bytes: int = BLOCK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """``types`` of the columns, as another source of the file told them; None: to be told by
        a sample. ``where_columns`` are those that ``where`` looks at; None: it may be any."""
        self._place = place
        self._size_bytes = size_bytes
        self._gzip = gzip
        self._types = types
        self._where = where
        self._where_columns = where_columns
        self._block_bytes = block_bytes
        self._max_line_bytes = max_line_bytes

    def planned(self) -> PlannedFile:
        """A gzip file is read through for it: nothing else tells how long its content is."""
        return PlannedFile(
            self._place.uri, self.format, self._size_bytes, None, self._stop, self._gzip
        )

    def cuts(self) -> Sequence[int]:
        """Anywhere."""
        return ()

    def types(self, numbers: Collection[str] = ()) -> Mapping[str, str]:
        """The type of each column: as given, else by the first 4 MiB.

        Of the columns that are to hold ``numbers`` a sample that mostly does is enough: what does
        not fit is its row's error then, rather than the column's type text.
        """
        if self._types is not None:
            return self._types
        types = self._infer(self._sample(), frozenset(numbers))
        if not numbers:
            self._types = types
        return types

    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The file's columns, in its order."""

    def chunks(
        self, start: int, stop: int, columns: Sequence[str], *, max_rows: int, max_bytes: int
    ) -> Iterator[Chunk]:
        """As the port has it. Beside the heir's own, a line's errors are ``line_too_long`` and
        ``bad_utf8``; the whole file's are ``unknown_column`` and ``bad_file``."""
        every = self.columns()
        if not every:
            return
        read = columns_to_read(columns, every, self._where, self._where_columns)
        types = wanted_types(self._place.uri, self.types(), read)
        for lines in self._lines(max(start, self._begin()), stop):
            parsed = self._parse(lines, types)
            yield from chunks_of(
                parsed, self._where, columns, max_rows=max_rows, max_bytes=max_bytes
            )

    @cached_property
    def _stop(self) -> int:
        return stream_bytes(self._place, self._size_bytes) if self._gzip else self._size_bytes

    def _begin(self) -> int:
        """Where the rows begin."""
        return 0

    @abstractmethod
    def _infer(self, lines: Lines | None, numbers: Collection[str]) -> Mapping[str, str]:
        """The types of the columns, by these lines; None: there is none."""

    @abstractmethod
    def _parse(self, lines: Lines, types: Mapping[str, pa.DataType]) -> Parsed:
        """The rows with these columns, and an error for each line that is none."""

    def _sample(self) -> Lines | None:
        begin = self._begin()
        several = self._lines(begin, begin + _SAMPLE_BYTES)
        return next((lines for lines in several if len(lines)), None)

    def _lines(self, start: int, stop: int) -> Iterator[Lines]:
        return read_lines(
            self._place,
            self._size_bytes,
            start,
            stop,
            gzip=self._gzip,
            block_bytes=self._block_bytes,
            max_line_bytes=self._max_line_bytes,
        )
