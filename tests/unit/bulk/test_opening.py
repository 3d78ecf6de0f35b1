"""Files are opened by their format, and read only as they were found."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.records.bulk import BulkFormat, Condition
from storage.records.errors import InvalidInput, NotFound
from tests.unit.bulk.files import found, positions, read, table
from workers.bulk.ports import Source
from workers.bulk.reading.opening import format_of, found_again, open_source, planned

COUNT = 300


def fetch(uri: str) -> bytes:
    return uri.encode()


def write_parquet(path: Path, numbers: Sequence[int]) -> None:
    pq.write_table(pa.table({"n": numbers}), path, row_group_size=100)


def write_jsonl(path: Path, numbers: Sequence[int]) -> None:
    data = "".join(json.dumps({"n": n}) + "\n" for n in numbers).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_csv(path: Path, numbers: Sequence[int]) -> None:
    data = ("n\n" + "".join(f"{n}\n" for n in numbers)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_npy(path: Path, numbers: Sequence[int]) -> None:
    np.save(path, np.array(numbers))


def write_npz(path: Path, numbers: Sequence[int]) -> None:
    np.savez(path, n=np.array(numbers))


def write_uris(path: Path, numbers: Sequence[int]) -> None:
    path.write_text("".join(f"s3://b/{n}\n" for n in numbers))


FILES: list[tuple[str, str, Callable[[Path, Sequence[int]], None]]] = [
    ("f.parquet", "n", write_parquet),
    ("f.csv", "n", write_csv),
    ("f.tsv", "n", write_csv),
    ("f.csv.gz", "n", write_csv),
    ("f.jsonl", "n", write_jsonl),
    ("f.json.gz", "n", write_jsonl),
    ("f.npy", "array", write_npy),
    ("f.npz", "n", write_npz),
    ("f.txt", "uri", write_uris),
]


@pytest.fixture(params=FILES, ids=[name for name, *_ in FILES])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, Source]:
    name, column, write = request.param
    write(tmp_path / name, range(COUNT))
    return tmp_path / name, column, opened(tmp_path / name)


def opened(path: Path, *conditions: Condition) -> Source:
    return open_source(found(path), format_of(path.name)[0], where=conditions, fetch=fetch)


@pytest.mark.parametrize(
    ("name", "format", "zipped"),
    [
        ("s3://b/a.parquet", BulkFormat.PARQUET, False),
        ("A.PQ", BulkFormat.PARQUET, False),
        ("a.b.csv", BulkFormat.CSV, False),
        ("a.tsv.gz", BulkFormat.CSV, True),
        ("a.ndjson", BulkFormat.JSONL, False),
        ("a.jsonl.GZ", BulkFormat.JSONL, True),
        ("a.json.gz", BulkFormat.JSONL, True),
        ("a.npy", BulkFormat.NPY, False),
        ("a.npz", BulkFormat.NPZ, False),
        ("uris.txt", BulkFormat.URIS, False),
    ],
)
def test_a_name_tells_what_a_file_holds(name: str, format: BulkFormat, zipped: bool) -> None:
    assert format_of(name) == (format, zipped)


@pytest.mark.parametrize(
    "name", ["a", "a.png", "parquet", "a.parquet.gz", "a.npy.gz", "a.gz", "forebay://files/0190"]
)
def test_a_name_that_does_not_tell_says_which_would(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        format_of(name)
    assert caught.value.stable_code == "unknown_format"


def test_every_format_is_read_by_the_same_verbs(case: tuple[Path, str, Source]) -> None:
    path, column, source = case
    told = planned(found(path), source)
    assert told.digest == found(path).etag and told.rows in (None, COUNT)
    assert column in source.columns()
    half = positions(read(source, [column]))[COUNT // 2]
    chunks = read(source, [column], 0, half) + read(source, [column], half, told.stop)
    assert len(positions(chunks)) == COUNT == len(set(positions(chunks)))
    assert [str(one).removeprefix("s3://b/") for one in table(chunks)[column].to_pylist()] == [
        str(n) for n in range(COUNT)
    ]


def test_a_where_is_taken_by_every_format(case: tuple[Path, str, Source]) -> None:
    path, column, _ = case
    value: object = "s3://b/7" if column == "uri" else 7
    chunks = read(opened(path, Condition(column, "=", value)), [column])
    assert len(positions(chunks)) == 1 and sum(chunk.skipped for chunk in chunks) == COUNT - 1
    with pytest.raises(InvalidInput, match="none of these") as caught:
        opened(path, Condition("none of these", "=", 1))
    assert caught.value.stable_code == "unknown_column"


def test_a_file_that_was_replaced_is_not_read_as_the_one_that_was_planned(
    case: tuple[Path, str, Source], tmp_path: Path
) -> None:
    path, column, source = case
    before = found(path)
    plan = planned(before, source)
    write = next(write for name, _, write in FILES if name == path.name)
    write(path, range(1, COUNT + 1))
    with pytest.raises(InvalidInput) as caught:
        read(source, [column], 0, plan.stop)
    assert caught.value.stable_code == "file_changed"
    again = found_again(before.place, plan)
    with pytest.raises(InvalidInput) as caught:
        open_source(again, plan.format, fetch=fetch)
    assert caught.value.stable_code == "file_changed"
    path.unlink()
    with pytest.raises(NotFound) as missing:
        open_source(again, plan.format, fetch=fetch)
    assert missing.value.stable_code == "input_not_found" and path.name in str(missing.value)


def test_requests_are_opened_by_their_format_alone(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"custom_id": "a", "body": {"input": {"text": "x"}}}) + "\n")
    source = open_source(found(path), BulkFormat.REQUESTS, fetch=fetch)
    assert table(read(source, ["custom_id"]))["custom_id"].to_pylist() == ["a"]
    with pytest.raises(InvalidInput) as caught:
        open_source(found(path), BulkFormat.REQUESTS, where=[Condition("x", "=", 1)], fetch=fetch)
    assert caught.value.stable_code == "unknown_column"


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.csv.gz"])
def test_an_empty_text_file_has_no_column_that_a_where_could_miss(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    source = opened(path, Condition("x", "=", 1))
    assert source.columns() == () and read(source, ["x"]) == []
