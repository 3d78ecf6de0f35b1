"""Error lines: one a row, merged in the order of the input without holding them, read again."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import numpy as np
import orjson
import pytest

from storage.records.bulk import NewPart, Part, errors_of
from storage.records.errors import ObjectCorrupt, ObjectsUnavailable
from workers.bulk import error_lines as under_test
from workers.bulk.error_lines import error_lines, merge, row_errors, row_ids
from workers.bulk.ports import RowError


def lines_of(data: bytes) -> list[dict]:
    return [orjson.loads(line) for line in data.splitlines()]


def part(file: int, start: int, data: bytes | None, number: int = 0) -> Part:
    told = NewPart(
        start=start,
        stop=start + 10,
        rows=0,
        failed=1,
        size_bytes=0,
        key=None,
        digest=None,
        errors_key=None if data is None else f"{file}-{start}",
        errors_bytes=len(data or b""),
    )
    return Part(number, file, 1, told, 0)


def test_a_line_says_which_row_and_why_in_the_order_of_the_file() -> None:
    given = [RowError(30, "bad_image", "cut short"), RowError(4, "bad_row", 'said "no"\n')]
    assert lines_of(error_lines(2, given)) == [
        {"row_id": "2:4", "code": "bad_row", "message": 'said "no"\n'},
        {"row_id": "2:30", "code": "bad_image", "message": "cut short"},
    ]
    assert error_lines(2, []) == b""


def test_errors_of_a_stage_are_named_by_their_positions() -> None:
    positions = np.array([10, 20, 30])
    (found,) = row_errors(positions, [(2, "bad_row", "x")])
    assert found == RowError(30, "bad_row", "x")


def test_messages_are_cut_and_always_text() -> None:
    (line,) = lines_of(error_lines(0, [RowError(0, "c", "\ud800" + "ü" * 1_000)]))
    assert line["message"] == "?" + "ü" * 499


def test_requests_keep_the_ids_that_their_callers_gave() -> None:
    given = [RowError(0, "c", "m"), RowError(7, "c", "m")]
    first, second = lines_of(error_lines(0, given, {7: "mine"}))
    assert "custom_id" not in first
    assert second["custom_id"] == "mine"


def test_parts_are_merged_in_the_order_of_the_input(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "_READ_BYTES", 64)
    places = [(file, start) for file in range(3) for start in range(0, 2_000, 10)]
    stored = {
        f"{file}-{start}": error_lines(file, [RowError(start + n, "c", "m") for n in range(3)])
        for file, start in places
    }
    parts = [part(file, start, stored[f"{file}-{start}"]) for file, start in places]
    parts += [part(0, 2_000 + n, None) for n in range(5)]
    chance = random.Random(6)
    chance.shuffle(parts)
    found = merge(parts, lambda key, at, length: stored[key][at : at + length], tmp_path / "all")
    data = (tmp_path / "all").read_bytes()
    assert data == b"".join(stored.values())
    assert found.lines == len(places) * 3
    assert found.size_bytes == len(data)
    assert found.sha256_hex == hashlib.sha256(data).hexdigest()
    expected = [f"{file}:{start + n}" for file, start in places for n in range(3)]
    assert list(row_ids(data.splitlines(keepends=True))) == expected


def test_merging_holds_a_few_pieces_however_large_a_part_is(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "_READ_BYTES", 1_000)
    lock, written = threading.Lock(), tmp_path / "all"
    furthest = 0

    def read(key: str, offset: int, length: int) -> bytes:
        nonlocal furthest
        on_disk = written.stat().st_size
        with lock:
            furthest = max(furthest, offset + length - on_disk)
        return b"x" * (length - 1) + b"\n"

    found = merge([part(0, 0, b"x" * 3_000_000)], read, written)
    assert found.size_bytes == 3_000_000
    # The file's own buffer and the pieces that are read ahead, and not the part.
    assert furthest <= 200_000


def test_storage_that_does_not_answer_leaves_no_half_file(tmp_path: Path) -> None:
    def read(key: str, offset: int, length: int) -> bytes:
        if key == "0-10":
            raise ObjectsUnavailable("away")
        return b"{}\n"

    parts = [part(0, start, b"{}\n") for start in range(0, 1_000, 10)]
    with pytest.raises(ObjectsUnavailable):
        merge(parts, read, tmp_path / "all")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_errors_merges_to_an_empty_file(tmp_path: Path) -> None:
    found = merge([part(0, 0, None)], lambda *_: b"", tmp_path / "all")
    assert (found.lines, found.size_bytes) == (0, 0)
    assert (tmp_path / "all").read_bytes() == b""


def test_the_ids_of_an_error_file_are_rows_to_score_again() -> None:
    given = error_lines(1, [RowError(20, "c", "m"), RowError(3, "c", "m")])
    assert errors_of(list(row_ids(given.splitlines()))) == {1: [3, 20]}
    assert list(row_ids([b"\n", b""])) == []


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b'{"row_id":1}', b'{"row_id":"x:1"}', b'{"row_id":"12"}']
)
def test_a_file_that_no_run_wrote_is_refused_with_its_line(line: bytes) -> None:
    good = error_lines(0, [RowError(1, "c", "m")])
    with pytest.raises(ObjectCorrupt, match="line 2"):
        list(row_ids([good, line]))
