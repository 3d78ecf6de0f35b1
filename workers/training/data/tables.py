"""Rows of CSV, Parquet, JSON lines and NPZ, by the readers of the bulk side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from storage.records.bulk import Condition
from storage.records.training import DataFormat
from workers.bulk.kit import Stopped
from workers.bulk.ports import Chunk, Source
from workers.bulk.reading.column_types import arrow_type
from workers.bulk.reading.opening import open_source
from workers.training.data.files import DataFile, bulk_format, unchanged
from workers.training.data.pieces import (
    PIECE_BYTES,
    PIECE_ROWS,
    BrokenRow,
    ColumnInfo,
    Kind,
    Piece,
    column_of,
    info_of,
)
from workers.training.data.trouble import shape_mismatch, unknown_column

_WIDER = {"int64": "double", "list<int64>": "list<double>"}


class TableReader:
    """All files of one format. The first one that has columns speaks for all of them.

    Raises what the bulk readers raise, and ``data_changed``.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        form: DataFormat,
        where: Sequence[Condition],
        still: Callable[[], bool],
    ) -> None:
        self._files, self._form, self._where, self._still = files, form, where, still
        self._types: dict[str, str] | None = None
        self._infos: dict[str, ColumnInfo] = {}
        for file in files:
            with unchanged(file.uri):
                source = self._open(file)
                if source.columns():
                    self._infos = self._look(source)
                    break

    def columns(self) -> tuple[ColumnInfo, ...]:
        """In the file's order; none where all files are empty."""
        return tuple(self._infos.values())

    def expect_numbers(self, names: Sequence[str]) -> None:
        """Of these columns a text file's sample that mostly holds numbers is enough."""
        if all(self._infos[one].kind is Kind.NUMBER for one in names if one in self._infos):
            return
        for file in self._files:
            with unchanged(file.uri):
                source = self._open(file)
                tell = getattr(source, "types", None)
                if source.columns() and tell is not None:
                    self._types = dict(tell(names))
                    self._infos = {
                        name: info_of(name, arrow_type(word)) for name, word in self._types.items()
                    }
                    return

    def expect_fractions(self, names: Sequence[str]) -> None:
        """Of these columns a text file's sample may hold whole numbers by chance: a fraction that
        comes later is a number as well."""
        if self._types is not None:
            wider = {one: _WIDER.get(word, word) for one, word in self._types.items()}
            self._types |= {name: wider[name] for name in names if name in wider}

    def pieces(self, texts: Sequence[str], names: Sequence[str]) -> Iterator[Piece]:
        """As the port has it. Of a CSV file any column can be had as it is written."""
        types = self._types
        if types is not None and self._form is DataFormat.CSV:
            compared = {one.column for one in self._where}
            types = types | {name: "string" for name in texts if name not in compared}
        for file in self._files:
            with unchanged(file.uri):
                source = self._open(file, types)
                if source.columns():
                    yield from self._rows(file, source, names)

    def _open(self, file: DataFile, types: dict[str, str] | None = None) -> Source:
        return open_source(
            file.found,
            bulk_format(file, self._form),
            types=types,
            where=self._where,
            fetch=_no_fetch,
            just_found=True,
        )

    def _look(self, source: Source) -> dict[str, ColumnInfo]:
        tell = getattr(source, "types", None)
        if tell is not None:
            self._types = dict(tell())
            return {name: info_of(name, arrow_type(word)) for name, word in self._types.items()}
        names = list(source.columns())
        first = next(
            iter(source.chunks(0, source.planned().stop, names, max_rows=1, max_bytes=1 << 20)),
            None,
        )
        if first is None:
            return {name: ColumnInfo(name, Kind.OTHER) for name in names}
        return {name: _info(name, first.batch.column(name)) for name in names}

    def _rows(self, file: DataFile, source: Source, names: Sequence[str]) -> Iterator[Piece]:
        for name in names:
            if name not in source.columns():
                raise unknown_column(file.uri, name, source.columns(), "data.features")
        by_line = getattr(source, "types", None) is not None
        seen = 0
        for chunk in source.chunks(
            0, source.planned().stop, list(names), max_rows=PIECE_ROWS, max_bytes=PIECE_BYTES
        ):
            if not self._still():
                raise Stopped
            piece = self._piece(file, chunk, names, seen if by_line else None)
            seen += piece.rows + len(piece.broken)
            yield piece

    def _piece(self, file: DataFile, chunk: Chunk, names: Sequence[str], seen: int | None) -> Piece:
        wrong = np.array([one.position for one in chunk.errors], np.int64)
        if seen is None:
            numbers, broken = chunk.positions + 1, wrong + 1
        else:  # positions are bytes: rows are counted, those that ``where`` leaves out are not
            every = np.sort(np.concatenate([chunk.positions, wrong]))
            numbers = np.searchsorted(every, chunk.positions) + seen + 1
            broken = np.searchsorted(every, wrong) + seen + 1
        columns = {
            name: column_of(column, self._checked(file, name, column))
            for name, column in zip(names, chunk.batch.columns, strict=True)
        }
        errors = [
            BrokenRow(int(number), one.message)
            for number, one in zip(broken, chunk.errors, strict=True)
        ]
        return Piece(file.uri, numbers, columns, errors, chunk.skipped)

    def _checked(self, file: DataFile, name: str, column: pa.Array) -> ColumnInfo:
        """A column's kind is the same in every file; a text may be asked for where numbers are."""
        info = _info(name, column) if len(column) else self._infos[name]
        known = self._infos[name]
        if known.kind is Kind.TENSOR and info.shape != known.shape:
            other = f"others of shape {list(info.shape)}" if info.shape else "others of another"
            raise shape_mismatch(
                f"column {name!r} of {file.uri} has rows of shape {list(known.shape)} and {other}:"
                " all have to be alike"
            )
        return info


def _info(name: str, column: pa.Array) -> ColumnInfo:
    """A list of numbers is a tensor as long as its first one."""
    kind = column.type
    if isinstance(kind, pa.ListType | pa.LargeListType):
        there = column.drop_null()
        lengths = set(there.value_lengths().to_pylist())
        if len(lengths) == 1:
            return info_of(name, pa.list_(kind.value_type, lengths.pop()))
    return info_of(name, kind)


def _no_fetch(uri: str) -> bytes:
    raise AssertionError("no format of a training's points elsewhere")
