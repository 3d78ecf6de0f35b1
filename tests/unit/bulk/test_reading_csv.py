"""CSV: every row is read once, with its place and its values, and a wrong line is its own error."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from tests.unit.bulk.lying import Lying
from tests.unit.bulk.reading_all import Read, read_all
from workers.bulk.reading.delimited import CsvSource

TYPES = {"n": "int64", "x": "double", "t": "string", "is": "bool"}
HEADER = b"n,x,t,is\n"


def source(data: bytes, key: str = "in/rows.csv", **options: object) -> CsvSource:
    return CsvSource(Lying(data, key), len(data), gzip=key.endswith(".gz"), **options)  # type: ignore[arg-type]


def rows_of(*lines: bytes, **options: object) -> Read:
    return read_all(source(HEADER + b"\n".join(lines) + b"\n", types=TYPES, **options))


# Cells of each column: as they are written and as they are read.
WRONG = object()
CELLS: dict[str, list[tuple[bytes, object]]] = {
    "n": [
        (b"1", 1),
        (b"-22", -22),
        (b"", None),
        (b"NA", None),
        (b'"7"', 7),
        (b" 8 ", 8),
        (b"1.5", WRONG),
        (b"x", WRONG),
        (b"9223372036854775808", WRONG),
        (b"1e3", WRONG),
    ],
    "x": [
        (b"1", 1.0),
        (b"-2.5e3", -2500.0),
        (b"", None),
        (b"NaN", None),
        (b".5", 0.5),
        (b'"inf"', float("inf")),
        (b"abc", WRONG),
        (b"1_5", WRONG),
    ],
    "t": [
        (b"one", "one"),
        (b"", None),
        (b'""', ""),
        (b'"a,b"', "a,b"),
        (b'"say ""so"""', 'say "so"'),
        (b"NA", "NA"),
        ("\ufefföß".encode(), "\ufefföß"),
        (b" ", " "),
    ],
    "is": [(b"true", True), (b"False", False), (b"1", True), (b"", None), (b"maybe", WRONG)],
}
GOOD_LINES = st.tuples(*(st.sampled_from(CELLS[name]) for name in TYPES))
BAD_LINES = st.sampled_from(
    [
        (b"1,2", "wrong_fields"),
        (b"1,2,3,4,5", "wrong_fields"),
        (b'1,2,"three,4', "bad_quote"),
        (b'1,2,th"r"ee,4', "bad_quote"),
        (b'1,2,"three"x,1', "bad_quote"),
        (b"1,2,th\rree,1", "bad_quote"),
        (b"1,2,\xff,1", "bad_utf8"),
        (b"1,2," + b"long" * 20 + b",1", "line_too_long"),
        (b"", None),
    ]
)


@given(
    lines=st.lists(st.tuples(GOOD_LINES | BAD_LINES, st.sampled_from([b"\n", b"\r\n"]))),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    block_bytes=st.integers(1, 200),
    max_rows=st.integers(1, 5),
    is_marked=st.booleans(),
    has_end=st.booleans(),
)
def test_each_row_is_read_once_with_the_same_place_and_values_however_a_file_is_cut(
    lines: list[tuple[tuple[object, ...], bytes]],
    cuts: list[int],
    block_bytes: int,
    max_rows: int,
    is_marked: bool,
    has_end: bool,
) -> None:
    data = b"\xef\xbb\xbf" * is_marked + HEADER
    rows: dict[int, dict[str, object]] = {}
    codes: dict[int, str] = {}
    for line, line_break in lines:
        if isinstance(line[0], bytes):
            text, code = line
            if code:
                codes[len(data)] = str(code)
        else:
            text = b",".join(cell for cell, _ in line)  # type: ignore[misc, has-type]
            values = [value for _, value in line]  # type: ignore[misc, has-type]
            if WRONG in values:
                codes[len(data)] = "wrong_type"
            else:
                rows[len(data)] = dict(zip(TYPES, values, strict=True))
        data += text + line_break  # type: ignore[operator]
    if not has_end:
        data = data.removesuffix(b"\n").removesuffix(b"\r")
    found = Read()
    opened = source(data, types=TYPES, block_bytes=block_bytes, max_line_bytes=60)
    for start, stop in pairwise(sorted({0, len(data), *(one for one in cuts if one < len(data))})):
        read_all(opened, start, stop, max_rows=max_rows, into=found)
    assert found.rows == rows
    assert found.codes == codes


@given(lines=st.lists(GOOD_LINES, min_size=1), columns=st.permutations(list(TYPES)))
def test_values_are_those_that_other_readers_see(
    lines: list[tuple[tuple[bytes, object], ...]], columns: Sequence[str]
) -> None:
    data = HEADER + b"".join(b",".join(cell for cell, _ in line) + b"\n" for line in lines)
    texts = read_all(source(data, types=dict.fromkeys(TYPES, "string")), columns=columns)
    for row, other in zip(
        texts.rows.values(), csv.DictReader(data.decode().splitlines()), strict=True
    ):
        assert {name: value or "" for name, value in row.items()} == other


def test_gzip_is_read_like_its_content_and_planned_with_its_length() -> None:
    data = HEADER + b"".join(b"%d,%d.5,text,true\n" % (n, n) for n in range(1000))
    packed = source(gzip.compress(data), "in/rows.csv.gz", types=TYPES)
    plan = packed.planned()
    assert plan.stop == len(data) and plan.gzip and plan.size_bytes < len(data)
    assert read_all(packed).rows == read_all(source(data, types=TYPES)).rows
    assert list(read_all(packed, start=plan.stop - 20).rows) == [data.rindex(b"\n999,") + 1]


def test_types_are_told_by_a_sample() -> None:
    data = b"a,b,c,d,e,f\n1,1,x,true,,2020-01-01\n2,1.5,2,false,,2020-01-02\nNA,,,,,\n"
    assert dict(source(data).types()) == {
        "a": "int64",
        "b": "double",
        "c": "string",
        "d": "bool",
        "e": "string",
        "f": "string",
    }


def test_a_wrong_cell_in_the_sample_does_not_make_a_column_of_numbers_text() -> None:
    data = b"a,b\n" + b"1,x\n2,y\n" * 10 + b"oops,z\n"
    assert dict(source(data).types()) == {"a": "string", "b": "string"}
    types = source(data).types(numbers=["a", "b"])
    assert dict(types) == {"a": "double", "b": "string"}
    read = read_all(source(data, types=types))
    assert len(read.rows) == 20 and list(read.codes.values()) == ["wrong_type"]


def test_types_can_say_more_than_a_sample_does() -> None:
    types = {"a": "timestamp", "b": "date32"}
    read = read_all(source(b"a,b\n2020-01-01 10:00:00,2020-01-02\nsoon,2020-01-02\n", types=types))
    assert [str(value) for value in read.values("a")] == ["2020-01-01 10:00:00"]
    assert [error.message for error in read.errors.values()] == [
        "column 'a' holds 'soon', which is no timestamp"
    ]


def test_a_wrong_cell_is_named_with_its_column_and_its_value_cut_short() -> None:
    read = rows_of(b"1,2,three,true", b"1," + b"y" * 50 + b",three,true", b"1,2,three,true")
    (error,) = read.errors.values()
    assert error.message == f"column 'x' holds '{'y' * 39}…', which is no double"
    assert len(read.rows) == 2


def test_a_line_with_another_number_of_fields_names_both_numbers() -> None:
    read = rows_of(b"1,2,three,true", b"1", b"1,2,three,true,5")
    assert [error.message for error in read.errors.values()] == [
        "the line has 1 field and the header 4",
        "the line has 5 fields and the header 4",
    ]


def test_many_wrong_cells_among_many_good_ones_are_all_found() -> None:
    lines = [b"%d,%d,t,1" % (n, n) if n % 7 else b"bad,%d,t,1" % n for n in range(5000)]
    read = rows_of(*lines)
    assert read.values("n") == [n for n in range(5000) if n % 7]
    assert len(read.errors) == len(range(0, 5000, 7))


def test_only_columns_that_are_asked_for_can_be_wrong() -> None:
    data = HEADER + b"oops,1.5,t,true\n"
    assert read_all(source(data, types=TYPES), columns=["t", "x"]).values("x") == [1.5]


def test_tsv_is_told_by_its_name() -> None:
    read = read_all(source(b'a\tb\n1\t"x\ty"\n', "in/rows.TSV"))
    assert list(read.rows.values()) == [{"a": 1, "b": "x\ty"}]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"\xef\xbb\xbf", HEADER, HEADER[:-1], HEADER + b"\r\n\n"]
)
def test_a_file_without_rows_gives_no_chunk_and_no_error(data: bytes) -> None:
    opened = source(data)
    assert read_all(opened).sizes == []
    assert opened.columns() in ((), tuple(TYPES))
    assert opened.types().keys() == set(opened.columns())


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"a,b,a", "two columns are called 'a'"),
        (b"a,,b", "column 2 has no name"),
        (b"a, ", "column 2 has no name"),
        (b'a,"b', "cannot be used"),
        (b"a,\xff", "not UTF-8"),
        (b"a" * 100, "longer than 60 bytes"),
    ],
)
def test_a_header_that_names_no_columns_is_a_wrong_file(header: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=rf"s3://bucket/in/rows\.csv.*{why}") as caught:
        source(header + b"\n1,2\n", max_line_bytes=60).columns()
    assert caught.value.stable_code == "bad_header"


def test_a_column_that_is_not_there_is_a_wrong_file() -> None:
    with pytest.raises(
        InvalidInput, match=r"rows\.csv has no column 'z'; it has: n, x, t"
    ) as caught:
        read_all(source(HEADER + b"1,2,t,1\n"), columns=["n", "z"])
    assert caught.value.stable_code == "unknown_column"


def above(batch: pa.RecordBatch) -> pa.BooleanArray:
    return pc.greater(batch["n"], 5)


@pytest.mark.parametrize("looked_at", [None, ["n"]])
def test_where_leaves_rows_out_by_columns_that_are_not_asked_for(
    looked_at: list[str] | None,
) -> None:
    lines = [b"%d,0,t%d,1" % (n, n) for n in range(10)] + [b",0,null,1", b"1,2", b"9,0,last,1"]
    options: dict[str, object] = {"where": above, "where_columns": looked_at}
    opened = source(HEADER + b"\n".join(lines), types=TYPES, **options)
    read = read_all(opened, columns=["t"], max_rows=2)
    assert read.values("t") == ["t6", "t7", "t8", "t9", "last"]
    assert read.skipped == 7 and list(read.codes.values()) == ["wrong_fields"]


def test_rows_that_are_all_left_out_are_told_of() -> None:
    opened = source(HEADER + b"1,2,t,1\n1,2,t,1\n", types=TYPES, where=above)
    read = read_all(opened)
    assert read.skipped == 2 and read.sizes == [0] and read.stops == [opened.planned().stop]


def test_chunks_keep_to_rows_and_bytes() -> None:
    data = b"t\n" + b"".join(b"x" * (n % 100 + 1) + b"\n" for n in range(1000))
    opened = source(data)
    assert max(read_all(opened, max_rows=64).sizes) == 64
    read = read_all(opened, max_bytes=500)
    assert [len(str(value)) for value in read.values("t")] == [n % 100 + 1 for n in range(1000)]


def test_a_byte_order_mark_within_the_file_is_part_of_its_value() -> None:
    data = b"t\nx\n" + "\ufeffy\n\ufeff\n".encode()
    assert read_all(source(data), start=4).values("t") == ["\ufeffy", "\ufeff"]
