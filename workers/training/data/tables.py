"""Rows of CSV, Parquet, JSON lines and NPZ, by the readers of the bulk side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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

_LOOKS = 256  # at chunks of all files, for a list
_NUMBERS = (Kind.NUMBER, Kind.TENSOR, Kind.LIST)
_WIDER = {"int64": "double", "list<int64>": "list<double>"}


class TableReader:
    """All files of one format. The first one that has columns speaks for all of them; how long
    lists are, the first one that has some.

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
        self._looks = _LOOKS
        for file in files:
            with unchanged(file.uri):
                source = self._open(file, self._types)
                if source.columns():
                    self._infos = self._infos or self._look(source)
                    self._infos |= self._look_at_lists(source)
                    kinds = {one.kind for one in self._infos.values()}
                    if kinds and (Kind.LIST not in kinds or not self._looks):
                        break

    def columns(self) -> tuple[ColumnInfo, ...]:
        """In the file's order; none where all files are empty."""
        return tuple(self._infos.values())

    def expect_numbers(self, names: Sequence[str]) -> None:
        """Of these columns a text file's sample that mostly holds numbers is enough."""
        names = [
            one for one in names if one in self._infos and self._infos[one].kind not in _NUMBERS
        ]
        if not names:
            return
        for file in self._files:
            with unchanged(file.uri):
                source = self._open(file)
                tell = getattr(source, "types", None)
                if source.columns() and tell is not None:
                    self._types = dict(tell(names))
                    self._infos |= {
                        name: info_of(name, arrow_type(self._types[name])) for name in names
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
        if first is None:  # it has no rows
            return {}
        return {name: info_of(name, first.batch.column(name).type) for name in names}

    def _look_at_lists(self, source: Source) -> dict[str, ColumnInfo]:
        """How long lists are their type does not tell: as long as the first one that is there."""
        kinds = {name: self._infos[name].kind for name in source.columns() if name in self._infos}
        names = [name for name, kind in kinds.items() if kind is Kind.LIST]
        found: dict[str, ColumnInfo] = {}
        chunks = source.chunks(
            0, source.planned().stop, names, max_rows=PIECE_ROWS, max_bytes=PIECE_BYTES
        )
        for chunk in islice(chunks, self._looks) if names else ():
            self._looks -= 1
            if not self._still():
                raise Stopped
            for name in names:
                column = chunk.batch.column(name)
                there = column.filter(pc.greater(pc.list_value_length(column), 0))
                if name not in found and len(there):
                    found[name] = _info(name, there.slice(0, 1))
            if len(found) == len(names):
                break
        return found

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
        known = self._infos[name]
        info = _info(name, column) if column.null_count < len(column) else known
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
