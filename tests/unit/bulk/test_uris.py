"""Lists of addresses: every object is a row in its place, a missing one is that row's error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput, NotFound, ObjectsUnavailable, TooLarge
from tests.unit.bulk.files import found, positions, read, table
from workers.bulk.places import Found, Place
from workers.bulk.reading import uris as uris_module
from workers.bulk.reading.uris import UrisSource, write_listing
from workers.bulk.reading.where import Where

steady = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)


def echo(uri: str) -> bytes:
    return uri.encode()[::-1]


def opened(path: Path, fetch: Callable[[str], bytes] = echo, *conditions: Condition) -> UrisSource:
    one = found(path)
    where = Where(conditions, str(path))
    return UrisSource(one.place, one.size_bytes, gzip=False, where=where, fetch=fetch)


def listing(folder: Path, count: int) -> tuple[Path, list[str], list[int]]:
    uris = [f"s3://b/pictures/{n:x}.png" for n in range(count)]
    path = folder / "list.txt"
    path.write_text("".join(f"{uri}\n" for uri in uris))
    begins = [0]
    for uri in uris:
        begins.append(begins[-1] + len(uri) + 1)
    return path, uris, begins


@steady
@given(st.lists(st.integers(0, 4_000), max_size=5), st.integers(1, 90), st.integers(1, 3_000))
def test_however_a_list_is_cut_each_object_is_fetched_once_and_in_its_place(
    tmp_path: Path, cuts: list[int], max_rows: int, max_bytes: int
) -> None:
    path, uris, begins = listing(tmp_path, 150)
    edges = [0, *sorted(min(cut, begins[-1]) for cut in cuts), begins[-1]]
    chunks = [
        chunk
        for start, stop in pairwise(edges)
        for chunk in list(
            opened(path).chunks(
                start, stop, ["data", "uri"], max_rows=max_rows, max_bytes=max_bytes
            )
        )
    ]
    assert positions(chunks) == begins[:-1]
    assert table(chunks)["uri"].to_pylist() == uris
    assert table(chunks)["data"].to_pylist() == [echo(uri) for uri in uris]
    assert max(chunk.batch.num_rows for chunk in chunks) <= max_rows


def test_slow_objects_come_in_order_and_several_at_a_time(tmp_path: Path) -> None:
    path, uris, _ = listing(tmp_path, 64)
    lock, now, most = threading.Lock(), 0, 0
    enough = threading.Event()  # nobody passes until four fetch at once

    def fetch(uri: str) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 4:
                enough.set()
        assert enough.wait(60)
        with lock:
            now -= 1
        return echo(uri)

    assert table(read(opened(path, fetch), ["uri", "data"]))["uri"].to_pylist() == uris
    assert 4 <= most <= uris_module.FETCH_THREADS


def test_no_more_is_fetched_than_may_lie_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uris_module, "AHEAD_BYTES", 5_000)
    path, uris, _ = listing(tmp_path, 400)
    fetched: list[str] = []

    def fetch(uri: str) -> bytes:
        fetched.append(uri)
        return b"x" * 1_000

    chunks = opened(path, fetch).chunks(0, 1 << 30, ["data"], max_rows=1, max_bytes=1)
    for taken in range(1, 30):
        next(chunks)
        assert len(fetched) <= taken + 5 + uris_module.AHEAD
    chunks.close()  # type: ignore[attr-defined]
    assert len(fetched) < len(uris)


def test_what_cannot_be_fetched_is_the_error_of_its_row(tmp_path: Path) -> None:
    path, uris, begins = listing(tmp_path, 6)

    def fetch(uri: str) -> bytes:
        if uri == uris[1]:
            raise NotFound("no object", code="object_not_found")
        if uri == uris[2]:
            raise InvalidInput("points outside", code="ref_not_allowed")
        if uri == uris[4]:
            raise TooLarge("5 bytes, at most 4 are read")
        return echo(uri)

    chunks = read(opened(path, fetch), ["uri", "data"])
    assert positions(chunks) == [begins[0], begins[3], begins[5]]
    errors = [error for chunk in chunks for error in chunk.errors]
    assert [(one.position, one.code) for one in errors] == [
        (begins[1], "ref_not_found"),
        (begins[2], "ref_not_allowed"),
        (begins[4], "too_large"),
    ]
    assert uris[1] in errors[0].message


def test_a_line_that_is_no_text_is_the_error_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"s3://b/a\r\n\n\xff\xfe\ns3://b/c")
    chunks = read(opened(path), ["uri", "data"])
    assert table(chunks)["uri"].to_pylist() == ["s3://b/a", "s3://b/c"]
    assert [(one.position, one.code) for chunk in chunks for one in chunk.errors] == [
        (11, "bad_utf8")
    ]


def test_a_store_that_does_not_answer_is_nobody_s_fault(tmp_path: Path) -> None:
    path, _, _ = listing(tmp_path, 100)

    def fetch(uri: str) -> bytes:
        raise ObjectsUnavailable("away")

    with pytest.raises(ObjectsUnavailable):
        read(opened(path, fetch), ["data"])


def test_addresses_alone_are_not_fetched_and_a_where_spares_fetching(tmp_path: Path) -> None:
    path, uris, _ = listing(tmp_path, 100)
    fetched: list[str] = []

    def fetch(uri: str) -> bytes:
        fetched.append(uri)
        return echo(uri)

    assert table(read(opened(path, fetch), ["uri"]))["uri"].to_pylist() == uris
    assert fetched == []
    chosen = Condition("uri", "in", [uris[3], uris[97]])
    chunks = read(opened(path, fetch, chosen), ["data"], max_rows=1)
    assert sorted(fetched) == sorted([uris[3], uris[97]])
    assert sum(chunk.skipped for chunk in chunks) == 98


@pytest.mark.parametrize("name", ["data", "x"])
def test_a_where_looks_at_addresses_alone(tmp_path: Path, name: str) -> None:
    path, _, _ = listing(tmp_path, 3)
    with pytest.raises(InvalidInput) as caught:
        opened(path, echo, Condition(name, "=", "x"))
    assert caught.value.stable_code == "unknown_column"


def test_a_listing_is_a_list_of_addresses_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["b.png", "a b.png", "ä.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    founds = [
        Found(
            Place(found(tmp_path / name).place.objects, name, f"file://{tmp_path}/{name}"), 1, None
        )
        for name in names
    ]
    data = write_listing(founds)
    assert data.decode().splitlines() == sorted(one.place.uri for one in founds)
    (tmp_path / "list.txt").write_bytes(data)
    assert len(positions(read(opened(tmp_path / "list.txt"), ["data"]))) == 3
    assert write_listing([]) == b""
    monkeypatch.setattr(uris_module, "MAX_LISTED", 2)
    with pytest.raises(InvalidInput) as caught:
        write_listing(founds)
    assert caught.value.stable_code == "too_many_files"
