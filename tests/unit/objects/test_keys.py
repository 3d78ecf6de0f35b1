"""Keys and URLs of object stores: what is refused before anything is touched."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.objects import check_key, object_key, open_objects
from storage.objects.directory import DirectoryObjects
from storage.objects.s3 import S3Objects
from storage.records.errors import InvalidInput

steady = settings(deadline=None)  # a busy machine is no failure
WRONG_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.staging/b",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\\b",
    "\ud800",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 6),
]


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_key_that_could_lead_astray_is_refused(key):
    with pytest.raises(InvalidInput) as caught:
        check_key(key)
    assert caught.value.stable_code == "invalid_key"
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a b+c=d&e", "ünïcode/日本.png", "x" * 255, "a..b", "a.", "-", "~a"]
)
def test_an_ordinary_key_is_taken_as_it_is(key):
    assert check_key(key) == key


@steady
@given(st.text(max_size=60))
def test_an_accepted_key_has_no_dangerous_segment(key):
    try:
        check_key(key)
    except InvalidInput:
        return
    assert all(part and not part.startswith(".") for part in key.split("/"))
    assert "\0" not in key and not key.startswith("/")


def test_a_segment_cannot_smuggle_a_slash():
    assert object_key("files", "acme", "f1") == "files/acme/f1"
    with pytest.raises(InvalidInput):
        object_key("files", "acme/../other", "f1")


def test_the_url_chooses_the_store():
    assert isinstance(open_objects("file:///data/objects"), DirectoryObjects)
    assert isinstance(open_objects("s3://bucket/some/prefix"), S3Objects)
    assert isinstance(open_objects("s3://bucket"), S3Objects)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "objects",
        "http://bucket/x",
        "file://objects",
        "file://host/objects",
        "file:///",
        "file:///a?b=c",
        "s3://",
        "s3:///prefix",
        "s3://UPPER/x",
        "s3://ab",
        "s3://bucket/../other",
        "s3://bucket:99/x",
        "s3://[bucket/x",
    ],
)
def test_a_wrong_url_is_refused_with_an_example(url):
    with pytest.raises(InvalidInput) as caught:
        open_objects(url)
    assert caught.value.stable_code in ("bad_setting", "invalid_key")


def test_a_url_with_keys_in_it_is_refused_without_repeating_them():
    with pytest.raises(InvalidInput) as caught:
        open_objects("s3://AKIDEXAMPLE:canary-secret@bucket/x")
    assert "canary" not in str(caught.value) and "AKID" not in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)
