"""CSV and TSV: a header line, then a row a line, parsed by Arrow a block at a time.

As RFC 4180 has it, with one exception: a quoted value may hold no line break, so that a file can be
cut anywhere. In a column of numbers or booleans an empty cell and the usual words (``NA``, ``NaN``,
``null`` …) are null; in one of text only a cell that is empty and not quoted. Dates are text unless
the types say otherwise.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from functools import cached_property

import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput
from workers.bulk.reading.chunking import Parsed
from workers.bulk.reading.csv_rows import CsvRows
from workers.bulk.reading.line_source import LineSource
from workers.bulk.reading.lines import Lines, read_lines

_HEADER_BYTES = 64 << 10
_ANYWHERE = 1 << 62


class CsvSource(LineSource):
    """One CSV file; TSV if it is named so. Errors of a row: ``wrong_fields``, ``bad_quote``,
    ``wrong_type``; of the file: ``bad_header``."""

    format = BulkFormat.CSV

    def columns(self) -> tuple[str, ...]:
        """The header's names; none if the file is empty."""
        return self._header[0]

    def _begin(self) -> int:
        return self._header[1]

    def _infer(self, lines: Lines | None, numbers: Collection[str]) -> Mapping[str, str]:
        if lines is None:
            return dict.fromkeys(self.columns(), "string")
        return self._rows.infer(lines, numbers)

    def _parse(self, lines: Lines, types: Mapping[str, pa.DataType]) -> Parsed:
        return self._rows.parse(lines, types)

    @cached_property
    def _rows(self) -> CsvRows:
        return CsvRows(self.columns(), self._delimiter)

    @property
    def _delimiter(self) -> str:
        name = self._place.filename.lower().removesuffix(".gz")
        return "\t" if name.endswith((".tsv", ".tab")) else ","

    @cached_property
    def _header(self) -> tuple[tuple[str, ...], int]:
        """The columns' names, and a position behind which the rows are."""
        for stop in (1, _ANYWHERE):  # almost always it is the first line
            for lines in read_lines(
                self._place,
                self._size_bytes,
                0,
                stop,
                gzip=self._gzip,
                block_bytes=_HEADER_BYTES,
                max_line_bytes=self._max_line_bytes,
            ):
                wrong = lines.errors[0] if lines.errors else None
                if wrong and not (len(lines) and lines.positions[0] < wrong.position):
                    raise self._bad_header(wrong.message)
                if len(lines):
                    # A range that begins inside a line leaves the rest of it alone.
                    return self._names(lines.text(0)), int(lines.positions[0]) + 1
        return (), 0

    def _names(self, line: bytes) -> tuple[str, ...]:
        try:
            names = next(csv.reader([line.decode()], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            raise self._bad_header(f"{error}") from None
        for number, name in enumerate(names, 1):
            if not name.strip():
                raise self._bad_header(f"column {number} has no name")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._bad_header(f"two columns are called {twice!r}")
        return tuple(names)

    def _bad_header(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"the header line of {self._place.uri} cannot be used: {why}", code="bad_header"
        )
