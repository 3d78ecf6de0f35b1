"""A block of CSV lines, parsed by Arrow; if it refuses, the lines that are wrong are found out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from workers.bulk.ports import RowError
from workers.bulk.reading.chunking import Parsed, as_batch
from workers.bulk.reading.column_types import word_of
from workers.bulk.reading.csv_values import do_not_fit
from workers.bulk.reading.culprits import refused
from workers.bulk.reading.lines import MARK, Lines
from workers.bulk.reading.quotes import badly_quoted

_SHOWN = 40  # characters of a wrong value
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
        found = self._read(lines, types)
        if found is None:
            lines, misfits = self._without_misfits(lines, types)
            errors += misfits
            found = self._read(lines, types)
        if found is None:
            lines, misfits = self._without_refused(lines, types)
            errors += misfits
            found = self._read(lines, types)
        assert found is not None, "each line was taken alone"
        table, wrong = found
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
                values = self._texts(lines, [name], [])[name]
                if do_not_fit(values, pa.float64()).mean() < 0.5:
                    types[name] = "double"
        return types

    def _read(self, lines: Lines, types: Types) -> tuple[pa.Table, Wrong] | None:
        """None if a cell does not fit its column."""
        wrong: Wrong = []
        if not len(lines):
            return pa.schema(list(types.items())).empty_table(), wrong
        try:
            table = self._table(lines, list(types), types, pa_csv.ConvertOptions(), wrong)
        except pa.ArrowInvalid:
            return None
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
        """Without the lines that have a cell that does not fit its column by its looks."""
        wrong: Wrong = []
        typed = {name: one for name, one in types.items() if one not in _TEXT}
        texts = self._texts(lines, typed, wrong)
        indices = np.delete(np.arange(len(lines)), [at for at, _ in wrong])
        bad = np.zeros(len(lines), np.bool_)
        errors = []
        for name, type_ in typed.items():
            misfits = np.flatnonzero(do_not_fit(texts[name], type_))
            misfits = misfits[~bad[indices[misfits]]]  # a line has one error
            bad[indices[misfits]] = True
            values = texts[name].take(misfits).to_pylist()
            positions = lines.positions[indices[misfits]].tolist()
            errors += [
                _wrong_type(at, name, value, type_)
                for at, value in zip(positions, values, strict=True)
            ]
        return lines.pick(~bad), errors

    def _without_refused(self, lines: Lines, types: Types) -> tuple[Lines, list[RowError]]:
        """Without the lines that Arrow refuses: for types whose looks tell nothing."""
        misfits = refused(
            np.arange(len(lines)), lambda some: self._read(lines.pick(some), types) is not None
        )
        errors = []
        for index in misfits:
            line = lines.pick(np.array([index]))
            name = next(name for name in types if self._read(line, {name: types[name]}) is None)
            (value,) = self._texts(line, [name], [])[name].to_pylist()
            errors.append(_wrong_type(int(line.positions[0]), name, value, types[name]))
        return lines.pick(np.delete(np.arange(len(lines)), misfits)), errors

    def _texts(self, lines: Lines, columns: Collection[str], wrong: Wrong) -> pa.Table:
        """The cells as they are written."""
        types = dict.fromkeys(columns, pa.string())
        return self._table(lines, list(columns), types, pa_csv.ConvertOptions(), wrong)

    def _wrong_fields(self, position: int, has: int) -> RowError:
        return RowError(
            position,
            "wrong_fields",
            f"the line has {has} field{'s' * (has != 1)} and the header {len(self._names)}",
        )


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
