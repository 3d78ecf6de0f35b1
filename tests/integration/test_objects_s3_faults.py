"""S3 behind a bad network, or set up wrongly: no put is doubted twice, every message helps."""

from __future__ import annotations

import logging
import time

import pytest

from storage.objects import open_objects, s3_client, s3_direct
from storage.objects.packs import PackWriter, read_slice, read_slices
from storage.objects.s3 import S3Objects
from storage.records.errors import (
    Conflict,
    NotFound,
    ObjectCorrupt,
    ObjectsMisconfigured,
    ObjectsUnavailable,
)
from tests.support.meddler import (
    LOSE_ANSWER,
    LOSE_REQUEST,
    SPOIL_BODY,
    SPOIL_REQUEST,
    TEAR_BODY,
    WRONG_ETAG,
    Meddler,
    Slow,
)
from tests.support.ports import free_port
from tests.support.proxy import Proxy


@pytest.fixture
def meddler(s3):
    with Meddler(s3.port) as one:
        yield one


@pytest.fixture(params=["boto3", "straight"])
def objects(request, meddler, s3_objects_url, monkeypatch):
    """A store that puts by boto3, or one that has learned the straight way from it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddler.url)
    store = open_objects(s3_objects_url)
    if request.param == "straight":
        store.put("the first put", b"teaches")
        assert store._direct._route is not None
        meddler.seen.clear()
        meddler.headers.clear()
    else:
        monkeypatch.setattr(s3_direct.DirectPuts, "learn", lambda *_: None)
    yield store
    store.close()


@pytest.fixture
def tries(objects):
    """How often a small put is sent before its caller hears of trouble."""
    return s3_client.TRIES + (objects._direct._route is not None)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"model" * 50_000)
    return path


def test_a_put_whose_answer_was_lost_succeeds_when_boto3_repeats_it(objects, meddler):
    meddler.plan("PUT", LOSE_ANSWER)
    objects.put("a", b"mine")
    assert meddler.count("PUT") == 2
    assert objects.get("a") == b"mine"


def test_a_put_whose_answers_were_all_lost_succeeds_when_the_caller_repeats_it(
    objects, meddler, tries
):
    meddler.plan("PUT", *[LOSE_ANSWER] * tries)
    with pytest.raises(ObjectsUnavailable):
        objects.put("a", b"mine")
    objects.put("a", b"mine")
    with pytest.raises(Conflict):
        objects.put("a", b"mine")  # settled: from here on the name is taken


def test_a_file_whose_answer_was_lost_is_stored_once_as_well(objects, meddler, source):
    meddler.plan("PUT", *[LOSE_ANSWER] * s3_client.TRIES)
    with pytest.raises(ObjectsUnavailable):
        objects.put_file("m", source)
    objects.put_file("m", source)
    assert objects.get("m") == source.read_bytes()


def test_a_put_that_never_arrived_is_repeated(objects, meddler):
    meddler.plan("PUT", LOSE_REQUEST, 500)
    objects.put("a", b"mine")
    assert meddler.count("PUT") == 3
    assert objects.get("a") == b"mine"


def test_a_repeated_put_still_conflicts_with_somebody_elses_bytes(objects, meddler, source):
    for key, put in {
        "a": lambda: objects.put("a", b"mine"),
        "b": lambda: objects.put("b", b"mine too, and longer"),
        "m": lambda: objects.put_file("m", source),
    }.items():
        objects.put(key, b"them" if key != "m" else b"other" * 50_000)
        meddler.plan("PUT", LOSE_ANSWER)
        with pytest.raises(Conflict):
            put()


def test_an_outage_while_the_bytes_are_compared_settles_nothing(objects, meddler):
    meddler.plan("PUT", LOSE_ANSWER)
    meddler.plan("HEAD", *[LOSE_REQUEST] * s3_client.TRIES)
    with pytest.raises(ObjectsUnavailable):
        objects.put("a", b"mine")
    objects.put("a", b"mine")


def test_bytes_that_were_changed_on_their_way_are_taken_back_and_may_be_put_again(
    objects, meddler, source
):
    """This server checks no digest of what it is sent, as others over https do not."""
    for key, put in {
        "a": lambda: objects.put("a", b"mine"),
        "m": lambda: _put_file(objects, source),
    }.items():
        meddler.plan("PUT", SPOIL_REQUEST)
        with pytest.raises(ObjectsUnavailable, match="other bytes"):
            put()
        assert not objects.exists(key)
        put()
    assert objects.get("a") == b"mine"
    assert objects.get("m") == source.read_bytes()


def _put_file(objects, source):
    objects.put_file("m", source)


def test_a_wrong_etag_of_the_right_bytes_is_no_trouble(objects, meddler):
    objects.put("before", b"1")
    for key in ("a", "b"):
        meddler.plan("PUT", WRONG_ETAG)
        objects.put(key, b"mine")
        assert objects.get(key) == b"mine"
    meddler.plan("PUT", SPOIL_REQUEST)
    with pytest.raises(ObjectsUnavailable):
        objects.put("c", b"mine")


def test_where_an_etag_never_is_the_md5_one_object_is_read_back_and_no_more(
    meddler, s3_objects_url, monkeypatch, s3_env
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddler.url)
    store = open_objects(s3_objects_url)
    meddler.rule = lambda method, path: WRONG_ETAG if method == "PUT" else None
    for n in range(5):
        store.put(f"n{n}", b"mine")
    assert meddler.count("GET") == 1
    store.close()


def test_an_etag_that_cannot_be_checked_settles_nothing(objects, meddler):
    objects.put("before", b"1")
    meddler.plan("PUT", WRONG_ETAG)
    meddler.plan("HEAD", *[LOSE_REQUEST] * s3_client.TRIES)
    with pytest.raises(ObjectsUnavailable):
        objects.put("a", b"mine")
    objects.put("a", b"mine")
    assert objects.get("a") == b"mine"


def test_a_slice_that_was_changed_on_its_way_is_read_again(objects, meddler):
    writer = PackWriter("p")
    cuts = [writer.add(f"j{n}", bytes([n]) * 50) for n in range(4)]
    data, _ = writer.finish()
    objects.put("pack", data)
    meddler.plan("GET", SPOIL_BODY)
    assert read_slice(objects, "pack", cuts[1]) == bytes([1]) * 50
    meddler.plan("GET", SPOIL_BODY)
    assert read_slices(objects, "pack", cuts) == [bytes([n]) * 50 for n in range(4)]
    for read in (
        lambda: read_slice(objects, "pack", cuts[1]),
        lambda: read_slices(objects, "pack", cuts[:1]),
    ):
        meddler.plan("GET", *[SPOIL_BODY] * 3)
        with pytest.raises(ObjectCorrupt):
            read()
        meddler.plan("GET")


def test_409_means_ask_again(meddler, objects, s3_objects_url):
    pauses = []
    bucket, _, prefix = s3_objects_url.removeprefix("s3://").partition("/")
    store = S3Objects(bucket, prefix, sleep=pauses.append)
    meddler.plan("PUT", 409, 409)
    store.put("a", b"mine")
    assert store.get("a") == b"mine"
    assert pauses == sorted(pauses) and len(pauses) == 2
    meddler.plan("PUT", *[409] * 50)
    with pytest.raises(ObjectsUnavailable):
        store.put("b", b"mine")
    assert len(pauses) < 10
    store.close()


def test_a_body_that_breaks_off_is_read_again_and_never_returned_short(objects, meddler, tmp_path):
    data = bytes(range(256)) * 4_000
    objects.put("a", data)
    target = tmp_path / "target"
    for read in (
        lambda: objects.get("a"),
        lambda: objects.get_range("a", 0, len(data)),
        lambda: objects.get_to_file("a", target) or target.read_bytes(),
    ):
        meddler.plan("GET", TEAR_BODY)
        assert read() == data
    target.unlink()
    meddler.plan("GET", *[TEAR_BODY] * 50)
    for read in (
        lambda: objects.get("a"),
        lambda: objects.get_range("a", 0, len(data)),
        lambda: objects.get_to_file("a", target),
    ):
        with pytest.raises(ObjectsUnavailable):
            read()
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_server_that_answers_a_range_with_less_is_caught(objects):
    objects.put("a", b"0123456789")
    with pytest.raises(ObjectCorrupt):
        objects.get_range("a", 5, 10)


def test_a_dead_server_is_an_outage_that_names_it(s3_objects_url, s3_env, monkeypatch):
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    store = open_objects(s3_objects_url)
    started = time.monotonic()
    with pytest.raises(ObjectsUnavailable) as caught:
        store.put("a", b"1")
    store.close()
    message = str(caught.value)
    assert caught.value.retryable
    assert f"127.0.0.1:{port}" in message and "AWS_ENDPOINT_URL_S3" in message
    assert s3_env["AWS_SECRET_ACCESS_KEY"] not in message
    assert time.monotonic() - started < 20


def test_a_black_hole_is_noticed_in_bounded_time(s3, s3_objects_url, monkeypatch):
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_S", 1)
    with Proxy(s3.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        store = open_objects(s3_objects_url)
        store.put("before", b"1")
        proxy.black_hole()
        started = time.monotonic()
        with pytest.raises(ObjectsUnavailable):
            store.put("a", b"mine")
        assert time.monotonic() - started < 20
        proxy.cut()
        proxy.heal()
        store.put("a", b"mine")  # whether or not the swallowed one arrives later
        assert store.get("a") == b"mine"
        store.close()


def test_a_slow_server_has_as_long_as_a_silent_one(meddler, s3_objects_url, monkeypatch, s3_env):
    """Connecting is quick or comes to nothing; an answer may take its time."""
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT_S", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddler.url)
    store = open_objects(s3_objects_url)
    for key in ("by boto3", "straight"):
        meddler.seen.clear()
        meddler.plan("PUT", Slow(1.0))
        store.put(key, b"mine")
        assert meddler.count("PUT") == 1, f"a put {key} was given up"
    assert store._direct._route is not None
    store.close()


def test_a_server_that_comes_back_is_used_again(s3, s3_objects_url):
    store = open_objects(s3_objects_url)
    store.put("a", b"1")
    s3.kill()
    try:
        with pytest.raises(ObjectsUnavailable):
            store.get("a")
    finally:
        s3.start()
    assert store.get("a") == b"1"
    store.close()


def test_a_missing_bucket_is_named_by_the_probe_and_not_made(buckets, s3_env):
    store = open_objects("s3://no-such-bucket/x")
    with pytest.raises(ObjectsMisconfigured) as caught:
        store.probe()
    assert "no-such-bucket" in str(caught.value) and "create it" in str(caught.value)
    assert not caught.value.retryable
    client = buckets.client()
    assert "no-such-bucket" not in [one["Name"] for one in client.list_buckets()["Buckets"]]
    client.close()
    for verb in (lambda: store.get("a"), lambda: store.size("a"), lambda: store.exists("a")):
        with pytest.raises(ObjectsMisconfigured) as caught:
            verb()
        assert not isinstance(caught.value, NotFound)
    store.close()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_explained_without_being_shown(
    s3_objects_url, s3_env, monkeypatch, caplog, variable
):
    monkeypatch.setenv(variable, "canary-not-the-key")
    caplog.set_level(logging.INFO)
    store = open_objects(s3_objects_url)
    with pytest.raises(ObjectsMisconfigured) as caught:
        store.probe()
    store.close()
    message = str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in message and not caught.value.retryable
    assert "canary" not in message + caplog.text
    assert s3_env["AWS_SECRET_ACCESS_KEY"] not in message + caplog.text


@pytest.mark.parametrize("left", [[], ["AWS_ACCESS_KEY_ID"]])
def test_missing_keys_are_asked_for_by_name(s3_objects_url, s3_env, monkeypatch, left):
    for name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - set(left):
        monkeypatch.delenv(name)
    store = open_objects(s3_objects_url)
    with pytest.raises(ObjectsMisconfigured):
        store.probe()
    store.close()


def test_an_endpoint_with_a_password_in_it_is_refused_without_repeating_it(
    s3_objects_url, s3, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:canary@127.0.0.1:{s3.port}")
    store = open_objects(s3_objects_url)
    with pytest.raises(ObjectsMisconfigured) as caught:
        store.probe()
    store.close()
    assert "canary" not in str(caught.value)


def test_a_server_that_overwrites_is_refused_by_the_probe(objects, meddler, monkeypatch):
    """As old copies of S3 do, which do not know If-None-Match."""
    objects.probe()
    client = objects._client()
    client.meta.events.register(
        "before-sign.s3.PutObject",
        lambda request, **_: request.headers.__delitem__("If-None-Match"),
    )
    with pytest.raises(ObjectsMisconfigured, match="If-None-Match"):
        objects.probe()


def test_small_puts_send_no_expectation_and_need_one_request(objects, meddler):
    objects.put("a", b"x" * 40_000)
    assert meddler.count("PUT") == 1
    (names,) = meddler.headers
    assert "if-none-match" in names and "expect" not in names
    assert not [name for name in names if "checksum" in name or "md5" in name]


def test_what_was_learned_is_forgotten_when_the_server_refuses_it(objects, meddler):
    """Keys that were changed, a clock that jumped, a bucket that moved: boto3 knows what to do."""
    knew = objects._direct._route is not None
    meddler.plan("PUT", 403)
    if knew:
        objects.put("a", b"1")  # refused, and put by boto3
        assert meddler.count("PUT") == 2
    else:
        with pytest.raises(ObjectsMisconfigured):
            objects.put("a", b"1")
    objects.put("b", b"2")
    assert objects.get("b") == b"2"
    assert (objects._direct._route is not None) == knew, "the next success teaches anew"


def test_a_put_that_an_error_left_in_doubt_succeeds_when_the_caller_repeats_it(
    objects, meddler, tries
):
    meddler.plan("PUT", LOSE_ANSWER, *[503] * (tries - 1))
    with pytest.raises(ObjectsUnavailable):
        objects.put("a", b"mine")
    objects.put("a", b"mine")
    with pytest.raises(Conflict):
        objects.put("a", b"other")
