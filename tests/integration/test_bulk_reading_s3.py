"""Bulk inputs in a real bucket: found by pattern, read by ranges, never two contents mixed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.objects import Objects, open_objects
from storage.records.errors import InvalidInput, NotFound
from tests.support.household import Household
from tests.support.s3 import Buckets
from tests.unit.bulk.files import positions, read, table
from workers.bulk.places import Places
from workers.bulk.reading.opening import format_of, open_source, planned

ROWS = 3_000


def no_fetch(uri: str) -> bytes:
    raise AssertionError(uri)


@pytest.fixture
def bucket(s3_objects_url: str) -> Iterator[Objects]:
    objects = open_objects(s3_objects_url)
    yield objects
    objects.close()


@pytest.fixture
def places(tmp_path: Path, s3_objects_url: str) -> Places:
    house = Household.on_sqlite(tmp_path)
    listed = f"{s3_objects_url}/in"
    return Places(house.database, house.objects, [listed], [f"{s3_objects_url}/out"])


def parquet(first: int) -> bytes:
    content = pa.table(
        {
            "n": np.arange(first, first + ROWS),
            "x": np.random.default_rng(first).random((ROWS, 16)).tolist(),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink, row_group_size=1_000)
    return bytes(sink.getvalue())


def test_files_are_found_by_pattern_and_read_where_they_lie(
    places: Places, bucket: Objects, s3_objects_url: str, buckets: Buckets
) -> None:
    for day in (1, 2):
        bucket.put(f"in/day={day}/part.parquet", parquet(day * 10_000))
    bucket.put("in/day=1/notes.txt", b"x")
    name, _, prefix = s3_objects_url.removeprefix("s3://").partition("/")
    # What a console writes for a folder that somebody makes in it.
    client = buckets.client()
    client.put_object(Bucket=name, Key=f"{prefix}/in/day=3/", Body=b"")
    client.close()
    assert [one.place.key for one in places.expand("ayla", f"{s3_objects_url}/in/")] == [
        "day=1/notes.txt", "day=1/part.parquet", "day=2/part.parquet",
    ]  # fmt: skip
    founds = places.expand("ayla", f"{s3_objects_url}/in/day=*/*.parquet")
    numbers: list[int] = []
    for found in founds:
        source = open_source(found, format_of(found.place.filename)[0], fetch=no_fetch)
        assert planned(found, source).digest == found.etag
        chunks = read(source, ["n"], 0, 1_500) + read(source, ["n"], 1_500, ROWS)
        assert positions(chunks) == list(range(ROWS))
        numbers += table(chunks)["n"].to_pylist()
    assert numbers == [*range(10_000, 10_000 + ROWS), *range(20_000, 20_000 + ROWS)]


def test_an_object_that_was_replaced_is_noticed_by_the_read_that_meets_it(
    places: Places, bucket: Objects, s3_objects_url: str
) -> None:
    bucket.put("in/f.parquet", parquet(0))
    uri = f"{s3_objects_url}/in/f.parquet"
    (found,) = places.expand("ayla", uri)
    source = open_source(found, format_of(uri)[0], fetch=no_fetch)
    chunks = source.chunks(0, ROWS, ["n", "x"], max_rows=10, max_bytes=1 << 20)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    bucket.delete(["in/f.parquet"])
    bucket.put("in/f.parquet", parquet(7))
    with pytest.raises(InvalidInput) as caught:
        list(source.chunks(0, ROWS, ["n", "x"], max_rows=10, max_bytes=1 << 20))
    assert caught.value.stable_code == "file_changed"
    bucket.delete(["in/f.parquet"])
    with pytest.raises(NotFound) as missing:
        list(source.chunks(0, ROWS, ["n", "x"], max_rows=10, max_bytes=1 << 20))
    assert missing.value.stable_code == "input_not_found"
