"""Lines of an object: each is read once however it is cut, and none can fill the memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from tests.unit.bulk.lying import Lying
from workers.bulk.reading.lines import read_lines

Found = tuple[dict[int, bytes], dict[int, str]]


def cut(
    data: bytes,
    start: int = 0,
    stop: int | None = None,
    *,
    is_gzip: bool = False,
    block_bytes: int = 1 << 20,
    max_line_bytes: int = 1 << 20,
) -> Found:
    """The lines and the errors' codes, by position."""
    good: dict[int, bytes] = {}
    wrong: dict[int, str] = {}
    lines_before = start
    for lines in read_lines(
        Lying(data),
        len(data),
        start,
        len(data) if stop is None else stop,
        gzip=is_gzip,
        block_bytes=block_bytes,
        max_line_bytes=max_line_bytes,
    ):
        for index in range(len(lines)):
            good[int(lines.positions[index])] = lines.text(index)
        assert (
            bytes(lines.joined()).split()
            == b" ".join(lines.text(index) for index in range(len(lines))).split()
        )
        wrong.update((error.position, error.code) for error in lines.errors)
        assert all(position < lines.next for position in [*good, *wrong])
        assert lines.next > lines_before
        lines_before = lines.next
    return good, wrong


def by_hand(data: bytes, max_line_bytes: int) -> Found:
    """What the lines of a whole file are, told the slow way."""
    good: dict[int, bytes] = {}
    wrong: dict[int, str] = {}
    at = 0
    for raw in data.split(b"\n"):
        line = raw.removeprefix(b"\xef\xbb\xbf") if at == 0 else raw
        line = line.removesuffix(b"\r")
        if len(line) > max_line_bytes:
            wrong[at] = "line_too_long"
        elif line:
            try:
                line.decode()
                good[at] = line
            except UnicodeDecodeError:
                wrong[at] = "bad_utf8"
        at += len(raw) + 1
    return good, wrong


FILES = st.lists(
    st.sampled_from(
        [b"a", b"bc", b"\n", b"\n", b"\r\n", b"\r", b"\xc3\xa9", b"\xff", b"\xef\xbb\xbf"]
    )
).map(b"".join)


@given(
    data=FILES,
    cuts=st.lists(st.integers(0, 60), max_size=4),
    block_bytes=st.integers(1, 30),
    max_line_bytes=st.integers(1, 12),
)
def test_each_line_is_read_once_however_a_file_is_cut(
    data: bytes, cuts: list[int], block_bytes: int, max_line_bytes: int
) -> None:
    good: dict[int, bytes] = {}
    wrong: dict[int, str] = {}
    edges = sorted({0, len(data), *(one for one in cuts if one < len(data))})
    for start, stop in pairwise(edges):
        some, bad = cut(data, start, stop, block_bytes=block_bytes, max_line_bytes=max_line_bytes)
        assert not good.keys() & some.keys() and not wrong.keys() & bad.keys()
        good.update(some)
        wrong.update(bad)
    assert (good, wrong) == by_hand(data, max_line_bytes)


@given(
    data=FILES, start=st.integers(0, 60), members=st.integers(1, 3), block_bytes=st.integers(1, 40)
)
def test_gzip_is_read_like_its_content(
    data: bytes, start: int, members: int, block_bytes: int
) -> None:
    step = len(data) // members + 1
    packed = b"".join(gzip.compress(data[at : at + step]) for at in range(0, len(data) + 1, step))
    told = cut(packed, start, 1 << 40, is_gzip=True, block_bytes=block_bytes)
    expected = cut(data, start, len(data)) if start < len(data) else ({}, {})
    assert told == expected


def test_a_gzip_file_that_is_cut_off_gives_its_whole_lines_and_then_says_so() -> None:
    content = b"".join(b"line %d of some\n" % number for number in range(20_000))
    packed = gzip.compress(content)[:-5000]
    rest = zlib.decompressobj(31).decompress(packed)
    good: list[bytes] = []
    with pytest.raises(InvalidInput, match=r"rows\.csv cannot be read: it is cut off") as caught:
        for lines in read_lines(Lying(packed), len(packed), 0, 1 << 40, gzip=True):
            good += bytes(lines.joined()).splitlines()
    assert caught.value.stable_code == "bad_file"
    assert good == rest.splitlines()[: rest.count(b"\n")] and good


@pytest.mark.parametrize(
    "data", [b"no gzip at all", gzip.compress(b"a\n") + b"garbage"], ids=["none", "garbage behind"]
)
def test_what_is_no_gzip_is_a_bad_file(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not gzip") as caught:
        cut(data, is_gzip=True)
    assert caught.value.stable_code == "bad_file"


def test_zeros_behind_a_gzip_file_are_passed_over() -> None:
    packed = gzip.compress(b"a\n") + bytes(600)
    assert cut(packed, 0, 1 << 40, is_gzip=True) == ({0: b"a"}, {})


def test_a_file_that_became_shorter_is_another_file() -> None:
    with pytest.raises(InvalidInput) as caught:
        list(read_lines(Lying(b"a\nb\n"), 100, 0, 100, gzip=False))
    assert caught.value.stable_code == "file_changed"


def test_millions_of_short_lines_come_in_lots() -> None:
    data = b"1\n" * 600_000
    lots = [len(lines) for lines in read_lines(Lying(data), len(data), 0, len(data), gzip=False)]
    assert sum(lots) == 600_000 and max(lots) <= 1 << 18


def test_a_range_reads_little_more_than_itself() -> None:
    data = b"0123456789\n" * 1_000_000
    place = Lying(data)
    list(read_lines(place, len(data), 1_000_000, 2_000_000, gzip=False))
    assert sum(length for _, length in place.reads) < 1_100_000


def test_a_line_of_a_gigabyte_is_one_error_and_fills_no_memory() -> None:
    """Told by the peak of a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.unit.bulk.read_a_gigabyte"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    error, rows, grown_mib = told.stdout.split()
    assert error == "line_too_long" and rows == "2"
    assert float(grown_mib) < 100


@pytest.mark.parametrize("block_bytes", [1, 5, 1000])
def test_a_line_may_be_as_long_as_it_may_be_beside_its_mark_and_its_line_break(
    block_bytes: int,
) -> None:
    data = b"\xef\xbb\xbf" + b"x" * 20 + b"\r\n" + b"y" * 20 + b"\r\n" + b"z" * 21
    told = cut(data, block_bytes=block_bytes, max_line_bytes=20)
    assert told == ({0: b"x" * 20, 25: b"y" * 20}, {47: "line_too_long"})
