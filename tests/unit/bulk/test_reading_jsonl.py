"""JSON lines: every row is read once, with its place and its values; a wrong line is its error."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from tests.unit.bulk.lying import Lying
from tests.unit.bulk.reading_all import Read, read_all
from workers.bulk.reading.jsonl import JsonlSource

TYPES = {"n": "int64", "x": "list<double>", "t": "string", "is": "bool"}
NOTHING = dict.fromkeys(TYPES)


def source(data: bytes, key: str = "in/rows.jsonl", **options: object) -> JsonlSource:
    return JsonlSource(Lying(data, key), len(data), gzip=key.endswith(".gz"), **options)  # type: ignore[arg-type]


def lines_of(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


GOOD = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.lists(st.none() | st.integers(-9, 9) | st.floats(-9, 9), max_size=3),
        "t": st.none()
        | st.text('aé"\\\n\u2028😀{', max_size=5)
        | st.sampled_from([": NaN, [NaN", "}\n{", "[Inf"]),
        "is": st.none() | st.booleans(),
        "other": st.sampled_from([1, {"n": "x"}, [[{}]], "NaN"]),
    },
)
BAD = st.sampled_from(
    [
        (b"[1]", "bad_json"),
        (b"7", "bad_json"),
        (b"{", "bad_json"),
        (b'{"n":1', "bad_json"),
        (b'"t":"x"}', "bad_json"),
        (b'{"n":1}{"n":2}', "bad_json"),
        (b'{"n":1} {"n":2', "bad_json"),
        (b'{"n":NaN}', "bad_json"),
        (b'{"other":[-Infinity]}', "bad_json"),
        (b'{"n":1,}', "bad_json"),
        (b'{"n":1,"n":2}', "bad_json"),
        (b"{'n':1}", "bad_json"),
        (b'{"n":1}\x00', "bad_json"),
        (b'{"t":"a\x00b"}', "bad_json"),
        (b'{"t":"\\ud800"}', "bad_json"),
        (b" ", "bad_json"),
        (b'{"n":1.5}', "wrong_type"),
        (b'{"n":9223372036854775808}', "wrong_type"),
        (b'{"n":"1"}', "wrong_type"),
        (b'{"x":[1,"2"]}', "wrong_type"),
        (b'{"x":[[1]]}', "wrong_type"),
        (b'{"x":1}', "wrong_type"),
        (b'{"t":1}', "wrong_type"),
        (b'{"is":1}', "wrong_type"),
        (b'{"is":{}}', "wrong_type"),
        (b'{"t":"\xff"}', "bad_utf8"),
        (b'{"t":"' + b"long" * 200 + b'"}', "line_too_long"),
        (b"", None),
    ]
)


@given(
    lines=st.lists(
        st.tuples(GOOD | BAD, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", " "]))
    ),
    cuts=st.lists(st.integers(0, 800), max_size=4),
    block_bytes=st.integers(1, 400),
    max_rows=st.integers(1, 5),
    is_marked=st.booleans(),
    is_ascii=st.booleans(),
)
def test_each_row_is_read_once_with_the_same_place_and_values_however_a_file_is_cut(
    lines: list[tuple[dict[str, object] | tuple[bytes, str | None], str, str]],
    cuts: list[int],
    block_bytes: int,
    max_rows: int,
    is_marked: bool,
    is_ascii: bool,
) -> None:
    data = b"\xef\xbb\xbf" * is_marked
    rows: dict[int, dict[str, object]] = {}
    codes: dict[int, str] = {}
    begin = 0
    for line, line_break, space in lines:
        if isinstance(line, dict):
            text = (space + json.dumps(line, ensure_ascii=is_ascii) + space).encode()
            rows[begin] = {name: line.get(name) for name in TYPES}
        else:
            text, code = line
            if code:
                codes[begin] = code
        data += text + line_break.encode()
        begin = len(data)
    found = Read()
    opened = source(data, types=TYPES, block_bytes=block_bytes, max_line_bytes=700)
    for start, stop in pairwise(sorted({0, len(data), *(one for one in cuts if one < len(data))})):
        read_all(opened, start, stop, max_rows=max_rows, into=found)
    assert found.rows == rows
    assert found.codes == codes


def test_gzip_is_read_like_its_content() -> None:
    data = lines_of(*({"n": n, "t": "text"} for n in range(1000)))
    packed = source(gzip.compress(data), "in/rows.jsonl.gz")
    assert packed.planned().stop == len(data)
    assert read_all(packed).rows == read_all(source(data)).rows


def test_types_are_told_by_a_sample() -> None:
    data = lines_of(
        {"i": 1, "d": 1, "big": 2**63, "t": "x", "is": True, "none": None, "empty": []},
        {"i": 2, "d": 1.5, "image": [[1, 2], [3, 4.5]], "ids": [1, 2], "nulls": [None, 1]},
        {"words": ["a", None], "object": {"a": 1}, "mixed": [1, "x"], "deep": [[], [[1]]]},
    )
    assert dict(source(data).types()) == {
        "i": "int64",
        "d": "double",
        "big": "double",
        "t": "string",
        "is": "bool",
        "none": "string",
        "empty": "list<double>",
        "image": "list<list<double>>",
        "ids": "list<int64>",
        "nulls": "list<int64>",
        "words": "list<string>",
        "deep": "list<list<list<int64>>>",
    }
    assert source(data).types(numbers=["none"])["none"] == "double"
    assert source(data).columns() == tuple(source(data).types())


def test_what_most_rows_of_the_sample_hold_is_the_columns_type() -> None:
    data = lines_of({"a": "oops"}, {"a": 1}, {"a": 2.5}, 7, {"a": [1]}) + b"no json\n"
    opened = source(data)
    assert dict(opened.types()) == {"a": "double"}
    read = read_all(opened)
    assert read.values("a") == [1.0, 2.5]
    assert list(read.codes.values()) == ["wrong_type", "bad_json", "wrong_type", "bad_json"]


def test_images_come_as_nested_lists() -> None:
    images = [[[float(x * y + n) for x in range(8)] for y in range(8)] for n in range(300)]
    read = read_all(source(lines_of(*({"image": image} for image in images))))
    assert read.values("image") == images


def test_nesting_without_end_harms_only_its_line() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    data = b'{"a":%b}\n{"a":[1]}\n{"other":%b}\n%b\n{"a":[2]}\n' % (deep, deep, deep)
    read = read_all(source(data, types={"a": "list<int64>"}))
    assert read.values("a") == [[1], None, [2]]
    assert list(read.codes.values()) == ["bad_json", "bad_json"]
    assert read_all(source(data)).values("a") == [[1], None, [2]]


def test_a_wrong_value_is_named_with_its_column_and_cut_short() -> None:
    read = read_all(source(lines_of({"n": 1}, {"n": "y" * 50}), types={"n": "int64"}))
    (error,) = read.errors.values()
    assert error.message == f"column 'n' holds \"{'y' * 38}…, which is no int64"


def test_many_wrong_lines_among_many_good_ones_are_all_found() -> None:
    rows = [{"n": n if n % 7 else "x"} for n in range(3000)]
    read = read_all(source(lines_of(*rows), types={"n": "int64"}))
    assert read.values("n") == [n for n in range(3000) if n % 7]
    assert len(read.errors) == len(range(0, 3000, 7))


def test_a_key_that_is_there_twice_is_an_error_of_its_line() -> None:
    read = read_all(source(b'{"n":1}\n{"n":1,"n":2}\n', types={"n": "int64"}))
    assert "a key is there twice" in read.errors[8].message


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_gives_no_chunk_and_no_error(data: bytes) -> None:
    opened = source(data)
    assert opened.columns() == () and read_all(opened).sizes == []
    assert read_all(source(data, types=TYPES)).sizes == []


def test_a_column_that_the_sample_does_not_have_is_a_wrong_file() -> None:
    with pytest.raises(InvalidInput, match=r"rows\.jsonl has no column 'z'; it has: n") as caught:
        read_all(source(lines_of({"n": 1})), columns=["z"])
    assert caught.value.stable_code == "unknown_column"


def test_no_columns_are_rows_nevertheless() -> None:
    assert list(read_all(source(lines_of({"n": 1}, {"n": 2})), columns=[]).rows) == [0, 9]


def test_lines_that_are_objects_only_together_are_none() -> None:
    read = read_all(source(b'{"n":1}\n{"x":[\n{}]}{"n":2}\n{"n":3}\n', types={"n": "int64"}))
    assert read.values("n") == [1, 3]
    assert list(read.codes.values()) == ["bad_json", "bad_json"]
