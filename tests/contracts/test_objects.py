"""One suite for every object store: a local directory, a real S3 server, and the simulator's."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.objects import open_objects
from storage.objects.packs import PackWriter, entries, read_slice, read_slices
from storage.records.errors import Conflict, InvalidInput, NotFound, ObjectCorrupt
from tests.simulator.fake_objects import FakeObjects
from tests.unit.objects.test_keys import WRONG_KEYS

FAKE = "fake:"


@pytest.fixture(params=["directory", "s3", "fake"])
def url(request, tmp_path):
    if request.param == "directory":
        return f"file://{tmp_path / 'objects'}"
    if request.param == "fake":
        return f"{FAKE}{tmp_path}"
    return request.getfixturevalue("s3_objects_url")


@pytest.fixture
def opened(url):
    """Opens the place at the URL, or one below it."""
    fake = {}

    def opens(below=""):
        if url.startswith(FAKE):
            return FakeObjects(fake, below.lstrip("/") + "/" if below else "")
        return open_objects(url + below)

    return opens


@pytest.fixture
def objects(opened):
    store = opened()
    store.probe()
    yield store
    store.close()


def test_what_was_put_is_what_is_got(objects):
    for number, data in enumerate([b"", b"x", os.urandom(300_000)]):
        key = f"folder/object-{number}"
        objects.put(key, data)
        assert objects.get(key) == data
        assert objects.size(key) == len(data)
        assert objects.exists(key)


@pytest.mark.parametrize(
    "key", ["a b+c=d&e%20f", "ünïcode/日本 語.png", "'quoted' \"<x>\"", "~a/b.c"]
)
def test_keys_with_unusual_characters_keep_their_names(objects, key):
    objects.put(key, b"here")
    assert objects.get(key) == b"here"
    objects.delete([key])
    assert not objects.exists(key)


def test_a_missing_object_is_not_found_by_every_verb(objects, tmp_path):
    reads = [
        lambda: objects.get("no/such"),
        lambda: objects.size("no/such"),
        lambda: objects.info("no/such"),
        lambda: objects.get_range("no/such", 0, 1),
        lambda: objects.get_range("no/such", 0, 0),
        lambda: objects.get_to_file("no/such", tmp_path / "target"),
    ]
    for read in reads:
        with pytest.raises(NotFound) as caught:
            read()
        assert caught.value.stable_code == "object_not_found"
    assert not objects.exists("no/such")
    assert not (tmp_path / "target").exists()


def test_a_put_never_replaces_an_object(objects, tmp_path):
    objects.put("a/b", b"first")
    other = tmp_path / "other"
    other.write_bytes(b"second")
    for put in (lambda: objects.put("a/b", b"second"), lambda: objects.put_file("a/b", other)):
        with pytest.raises(Conflict) as caught:
            put()
        assert caught.value.stable_code == "object_exists"
    with pytest.raises(Conflict):
        objects.put("a/b", b"first")  # the same bytes, but not the same put
    assert objects.get("a/b") == b"first"


def test_of_many_writers_of_one_key_exactly_one_wins(objects):
    barrier = threading.Barrier(8, timeout=30)

    def put(number):
        barrier.wait()
        try:
            objects.put("contended", b"%d" % number * 1000)
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [one for one in pool.map(put, range(8)) if one is not None]
    assert len(winners) == 1
    assert objects.get("contended") == b"%d" % winners[0] * 1000


def listed(objects, prefix=""):
    return sorted(one.key for one in objects.list(prefix))


def test_a_list_tells_every_object_once(objects):
    odd = ["a.b", "a-b/c", "ab", "ä/日本 語", "~z", "a b+c=d&e%20f", "'quoted' \"<x>\""]
    keys = ["b", "a/x/1", "a/x-1", "a/y", *odd]
    for number, key in enumerate(keys):
        objects.put(key, b"x" * number)
    told = list(objects.list(""))
    assert {one.key: one.size_bytes for one in told} == {key: n for n, key in enumerate(keys)}
    assert len(told) == len(keys)
    assert [objects.info(one.key) for one in told] == told
    assert None not in {one.etag for one in told}


def test_a_list_is_of_what_begins_so_and_the_beginning_need_not_be_a_segment(objects):
    for key in ["d/one", "d/only/deep", "d/two", "done", "e/one"]:
        objects.put(key, b"")
    assert listed(objects, "d/") == ["d/one", "d/only/deep", "d/two"]
    assert listed(objects, "d/on") == ["d/one", "d/only/deep"]
    assert listed(objects, "d/one") == ["d/one"]
    assert listed(objects, "d") == ["d/one", "d/only/deep", "d/two", "done"]
    assert listed(objects, "none/of/them") == listed(objects, "d/one/x") == []


def test_another_content_has_another_etag(objects):
    etags = []
    for data in (b"one", b"two, and longer"):
        objects.put("a", data)
        etags.append(objects.info("a").etag)
        objects.delete(["a"])
    assert etags[0] != etags[1]


def test_a_range_may_ask_for_one_content_alone(objects):
    objects.put("a", b"0123456789")
    etag = objects.info("a").etag
    assert objects.get_range("a", 2, 3, etag=etag) == b"234"
    assert objects.get_range("a", 10, 0, etag=etag) == b""
    objects.delete(["a"])
    for data in (b"9876543210+", b"short"):
        objects.put("a", data)
        for offset, length in ((2, 3), (2, 0), (5, 5)):
            with pytest.raises(Conflict) as caught:
                objects.get_range("a", offset, length, etag=etag)
            assert caught.value.stable_code == "object_changed"
        objects.delete(["a"])
    with pytest.raises(NotFound):
        objects.get_range("a", 0, 1, etag=etag)


def test_a_list_is_longer_than_a_page(objects):
    keys = [f"many/{n:05d}" for n in range(1_003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: objects.put(key, b"x"), keys))
    assert listed(objects, "many/0") == keys


@pytest.mark.parametrize("prefix", ["/", "/a", "a//", "../", "a/../b", ".staging/", "a/.s", "a\0"])
def test_a_list_of_what_can_be_no_key_is_refused_at_once(objects, prefix):
    with pytest.raises(InvalidInput) as caught:
        objects.list(prefix)
    assert caught.value.stable_code == "invalid_key"


def test_a_name_is_free_again_after_a_delete(objects):
    objects.put("a", b"1")
    objects.delete(["a"])
    objects.put("a", b"22")
    assert objects.get("a") == b"22"


def test_ranges_are_exact(objects):
    data = bytes(itertools.islice(itertools.cycle(range(251)), 100_000))
    objects.put("a", data)
    for offset, length in [(0, 1), (0, 100_000), (99_999, 1), (777, 50_000), (5, 0), (100_000, 0)]:
        assert objects.get_range("a", offset, length) == data[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (5, 6), (10, 1), (11, 0), (900, 5)])
def test_a_range_that_is_not_all_there_is_an_error_not_less_bytes(objects, offset, length):
    objects.put("a", b"0123456789")
    with pytest.raises(ObjectCorrupt):
        objects.get_range("a", offset, length)


def test_a_negative_range_is_a_programming_error(objects):
    with pytest.raises(ValueError):
        objects.get_range("a", -1, 5)
    with pytest.raises(ValueError):
        objects.get_range("a", 5, -1)


def test_files_travel_whole_in_both_directions(objects, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_500_000))
    objects.put_file("models/m", source)
    assert objects.size("models/m") == 3_500_000
    target.write_bytes(b"an older file")
    objects.get_to_file("models/m", target)
    assert (
        hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "source",
        "target",
    ]


def test_an_empty_file_is_an_object_too(objects, tmp_path):
    (tmp_path / "empty").touch()
    objects.put_file("empty", tmp_path / "empty")
    assert objects.get("empty") == b""
    objects.get_to_file("empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_a_missing_source_file_is_the_callers_own_trouble(objects, tmp_path):
    with pytest.raises(FileNotFoundError):
        objects.put_file("a", tmp_path / "nothing")
    assert not objects.exists("a")


def test_a_target_that_cannot_be_written_is_the_callers_own_trouble(objects, tmp_path):
    objects.put("a", b"1")
    with pytest.raises(FileNotFoundError):
        objects.get_to_file("a", tmp_path / "no" / "folder" / "file")


def test_delete_takes_many_and_forgives_the_missing(objects):
    keys = [f"d/{n}" for n in range(5)]
    for key in keys:
        objects.put(key, b"x")
    objects.delete([*keys, "d/never", "other/never", keys[0]])
    assert [key for key in keys if objects.exists(key)] == []
    objects.delete([])


def test_delete_takes_more_keys_than_one_request_holds(objects):
    objects.put("last", b"x")
    objects.delete([f"none/{n}" for n in range(2_500)] + ["last"])
    assert not objects.exists("last")


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_wrong_key_is_refused_by_every_verb(objects, tmp_path, key):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    verbs = [
        lambda: objects.put(key, b"x"),
        lambda: objects.put_file(key, source),
        lambda: objects.get(key),
        lambda: objects.get_range(key, 0, 1),
        lambda: objects.get_to_file(key, tmp_path / "target"),
        lambda: objects.size(key),
        lambda: objects.info(key),
        lambda: objects.exists(key),
        lambda: objects.delete(["fine", key]),
    ]
    for verb in verbs:
        with pytest.raises(InvalidInput) as caught:
            verb()
        assert caught.value.stable_code == "invalid_key"


def test_two_prefixes_of_one_place_never_meet(opened):
    mine, theirs = opened("/a"), opened("/ab")
    whole = opened()
    whole.probe()
    mine.put("x", b"mine")
    theirs.put("x", b"theirs")
    theirs.delete(["y", "x"])
    assert mine.get("x") == b"mine"
    assert not theirs.exists("x")
    assert whole.get("a/x") == b"mine"
    assert listed(mine) == ["x"] and listed(theirs) == [] and listed(whole, "a") == ["a/x"]
    for store in (mine, theirs, whole):
        store.close()


def test_many_threads_share_one_store(objects):
    def trip(number):
        data = os.urandom(2_000 + number)
        objects.put(f"t/{number}", data)
        assert objects.get(f"t/{number}") == data
        assert objects.get_range(f"t/{number}", 100, 200) == data[100:300]
        return number

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(trip, range(60))) == list(range(60))


def test_a_probe_leaves_nothing_behind_and_may_be_repeated(objects, url, tmp_path):
    objects.probe()
    objects.probe()
    if url.startswith("file:"):
        left = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert left == []


def test_a_closed_store_opens_again(objects):
    objects.put("a", b"1")
    objects.close()
    assert objects.get("a") == b"1"


def test_slices_of_a_pack_are_read_back_and_checked(objects):
    writer = PackWriter("p1")
    content = {f"job-{n}": os.urandom(n * 7) for n in range(40)}
    slices = {entry_id: writer.add(entry_id, data) for entry_id, data in content.items()}
    objects.put("packs/p1", writer.finish()[0])
    assert read_slice(objects, "packs/p1", slices["job-0"]) == b""
    assert read_slice(objects, "packs/p1", slices["job-39"]) == content["job-39"]
    assert read_slices(objects, "packs/p1", list(slices.values())) == list(content.values())
    assert {one.id: one.data for one in entries(objects.get("packs/p1"))} == content


def test_a_slice_of_a_shortened_pack_is_an_error(objects):
    writer = PackWriter("p1")
    where = writer.add("a", b"x" * 500)
    objects.put("torn", writer.finish()[0][:300])
    with pytest.raises(ObjectCorrupt):
        read_slice(objects, "torn", where)
