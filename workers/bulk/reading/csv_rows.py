"""A block of CSV lines, parsed by Arrow; if it refuses, the lines that are wrong are found out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from workers.bulk.ports import Positions, RowError
from workers.bulk.reading.chunking import Parsed, as_batch
from workers.bulk.reading.column_types import word_of
from workers.bulk.reading.culprits import refused
from workers.bulk.reading.lines import MARK, Lines
from workers.bulk.reading.quotes import badly_quoted

_SHOWN = 40  # characters of a wrong value
_NULLS = "|".join(map(re.escape, pa_csv.ConvertOptions().null_values))
_PLAIN = {  # what surely fits; the rest is looked at again
    "int64": rf"^(?:-?[0-9]{{1,18}}|{_NULLS})$",
    "double": rf"^(?:-?[0-9]{{1,18}}(?:\.[0-9]{{0,18}})?(?:[eE][+-]?[0-9]{{1,2}})?|{_NULLS})$",
}
_TEXT = (pa.string(), pa.binary())

Types = Mapping[str, pa.DataType]
Wrong = list[tuple[int, int]]  # the index of a line, and how many fields it has


class CsvRows:
    """What the header said of every line."""

    def __init__(self, names: Sequence[str], delimiter: str) -> None:
        self._names = list(names)
        self._delimiter = delimiter

    def parse(self, lines: Lines, types: Types) -> Parsed:
        """The rows with these columns, and an error for each line that is none."""
        errors = list(lines.errors)
        going_on = lines.next
        bad = badly_quoted(lines, self._delimiter)
        if bad.any():
            errors += [_badly_quoted(int(one)) for one in lines.positions[bad]]
            lines = lines.pick(~bad)
        try:
            table, wrong = self._read(lines, types)
        except pa.ArrowInvalid:
            lines, found = self._without_misfits(lines, types)
            errors += found
            table, wrong = self._read(lines, types)
        positions = lines.positions
        if wrong:
            errors += [self._wrong_fields(int(positions[at]), has) for at, has in wrong]
            positions = np.delete(positions, [at for at, _ in wrong])
        return Parsed(as_batch(table), positions, errors, going_on)

    def infer(self, lines: Lines, numbers: Collection[str]) -> dict[str, str]:
        """The type of each column as these lines have it; what is no number or boolean is text,
        unless it is to hold ``numbers`` and mostly does."""
        lines = lines.pick(~badly_quoted(lines, self._delimiter))
        if not len(lines):
            return dict.fromkeys(self._names, "string")
        told = self._table(lines, self._names, {}, pa_csv.ConvertOptions(), []).schema
        types = {one.name: str(one.type) for one in told}
        for name, word in types.items():
            if word not in ("int64", "double", "bool"):
                types[name] = "string"
            if word not in ("int64", "double") and name in numbers:
                text = {name: pa.string()}
                values = self._table(lines, [name], text, pa_csv.ConvertOptions(), [])[name]
                if _odd(values, pa.float64()).mean() < 0.5:
                    types[name] = "double"
        return types

    def _read(self, lines: Lines, types: Types) -> tuple[pa.Table, Wrong]:
        """Raises ``ArrowInvalid`` if a cell does not fit its column."""
        wrong: Wrong = []
        if not len(lines):
            return pa.schema(list(types.items())).empty_table(), wrong
        table = self._table(lines, list(types), types, pa_csv.ConvertOptions(), wrong)
        return self._with_nulls(lines, table), wrong

    def _with_nulls(self, lines: Lines, table: pa.Table) -> pa.Table:
        """Cells of text that are empty are null unless they are quoted."""
        texts = [
            one.name
            for one in table.schema
            if one.type in _TEXT and pc.any(pc.equal(pc.binary_length(table[one.name]), 0)).as_py()
        ]
        if not texts:
            return table
        if b'""' in lines.data:
            options = pa_csv.ConvertOptions(
                null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            )
            types = {name: table.schema.field(name).type for name in texts}
            parsed = self._table(lines, texts, types, options, [])
        for name in texts:
            at = table.schema.get_field_index(name)
            if b'""' in lines.data:
                values = parsed[name]
            else:
                values = table[name]
                values = pc.if_else(pc.equal(pc.binary_length(values), 0), None, values)
            table = table.set_column(at, table.schema.field(at), values)
        return table

    def _table(
        self,
        lines: Lines,
        columns: Sequence[str],
        types: Types,
        options: pa_csv.ConvertOptions,
        wrong: Wrong,
    ) -> pa.Table:
        def skip(row: pa_csv.InvalidRow) -> str:
            wrong.append((row.number - 1, row.actual_columns))
            return "skip"

        # Arrow takes no columns for all of them.
        options.include_columns = list(columns) or self._names[:1]
        options.column_types = types
        options.check_utf8 = False  # the lines were
        text: bytes | memoryview = lines.joined()
        if text[:3] == MARK:  # not the file's, which is gone: a value that Arrow must not take off
            text = MARK + bytes(text)
        return pa_csv.read_csv(
            pa.BufferReader(pa.py_buffer(text)),
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                column_names=self._names,
                block_size=lines.parse_bytes + len(MARK),
            ),
            parse_options=pa_csv.ParseOptions(delimiter=self._delimiter, invalid_row_handler=skip),
            convert_options=options,
        )

    def _without_misfits(self, lines: Lines, types: Types) -> tuple[Lines, list[RowError]]:
        """Without the lines that have a cell that does not fit its column."""
        wrong: Wrong = []
        typed = {name: one for name, one in types.items() if one not in _TEXT}
        texts = self._table(
            lines, list(typed), dict.fromkeys(typed, pa.string()), pa_csv.ConvertOptions(), wrong
        )
        indices = np.delete(np.arange(len(lines)), [at for at, _ in wrong])
        odd = {name: _odd(texts[name], one) for name, one in typed.items()}

        def fits(chosen: Positions) -> bool:
            try:
                self._read(lines.pick(indices[chosen]), typed)
            except pa.ArrowInvalid:
                return False
            return True

        suspects = np.logical_or.reduce(list(odd.values()))
        misfits = refused(np.flatnonzero(suspects), fits)
        rest = np.delete(np.arange(len(indices)), misfits)
        misfits = np.sort(np.concatenate([misfits, refused(rest, fits)]))
        errors = []
        for row in misfits.tolist():
            by_oddness = sorted(typed, key=lambda name: not odd[name][row])
            at = lines.pick(indices[[row]])
            name = next(name for name in by_oddness if not self._fits(at, name, typed[name]))
            errors.append(
                _wrong_type(int(at.positions[0]), name, texts[name][row].as_py(), typed[name])
            )
        return lines.pick(np.delete(np.arange(len(lines)), indices[misfits])), errors

    def _fits(self, line: Lines, name: str, type_: pa.DataType) -> bool:
        try:
            self._read(line, {name: type_})
        except pa.ArrowInvalid:
            return False
        return True

    def _wrong_fields(self, position: int, has: int) -> RowError:
        return RowError(
            position,
            "wrong_fields",
            f"the line has {has} field{'s' * (has != 1)} and the header {len(self._names)}",
        )


def _odd(texts: pa.ChunkedArray, type_: pa.DataType) -> npt.NDArray[np.bool_]:
    """Which values do not look as they mostly do in such a column. None is known to be wrong."""
    plain = _PLAIN.get(str(type_))
    if plain is None:
        return np.ones(len(texts), np.bool_)
    odd: npt.NDArray[np.bool_] = ~pc.match_substring_regex(texts, plain).to_numpy()
    return odd


def _badly_quoted(position: int) -> RowError:
    return RowError(
        position,
        "bad_quote",
        "a quote or a line break inside a value: the whole value must be quoted, a quote in it"
        " doubled, and no value may hold a line break",
    )


def _wrong_type(position: int, name: str, value: str, type_: pa.DataType) -> RowError:
    shown = value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
    return RowError(
        position, "wrong_type", f"column {name!r} holds {shown!r}, which is no {word_of(type_)}"
    )
