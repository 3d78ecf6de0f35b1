"""Refs reach only what they may; keys are kept as hashes; settings are read with their names."""

from __future__ import annotations

import pytest

from producers.keys import hash_key, make_key
from producers.settings import ApiSettings, RelaySettings, from_environment
from storage.records.errors import InvalidInput
from storage.records.refs import FileRef, ListedRef, check_ref, file_uri, read_prefix

PREFIXES = (read_prefix("s3://bucket/in"), read_prefix("file:///data/in/"))
ID = "0190aaaa-0000-7000-8000-000000000000"


def test_a_file_of_ones_own_and_listed_prefixes_are_reached():
    assert check_ref(file_uri(ID), ()) == FileRef(ID)
    odd = "s3://bucket/in/a b/c+d=é.png"
    assert check_ref(odd, PREFIXES) == ListedRef(odd, "s3://bucket/in/")
    assert isinstance(check_ref("file:///data/in/x.png", PREFIXES), ListedRef)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file:///data/in/../../etc/passwd",
        "file:///data/in/%2e%2e/passwd",
        "file:///data/in/..%2f..%2fetc/passwd",
        "file:///data/in//etc/passwd",
        "file:///data/in/./x",
        "file:///data/in/",
        "file:///data/inside/x",
        "file://localhost/data/in/x",
        "file:/data/in/x",
        "FILE:///data/in/x",
        "file:///data/in\\..\\x",
        "file:///data/in/x\x00.png",
        "file:///data/in/x?y",
        "file:///data/in/x#y",
        "file:///data/in/x\n",
        "s3://bucket/inner/x",
        "s3://bucket/other/x",
        "s3://other/in/x",
        "s3://user@bucket/in/x",
        "s3://bucket/in/../x",
        "http://169.254.169.254/latest",
        "https://bucket/in/x",
        f"forebay://files/{ID}/../x",
        f"forebay://files/{ID.upper()}",
        "forebay://files/",
        f"forebay://other/{ID}",
        "",
        "x" * 5000,
        None,
        7,
        ["s3://bucket/in/x"],
    ],
)
def test_nothing_else_is(uri):
    with pytest.raises(InvalidInput) as caught:
        check_ref(uri, PREFIXES)
    assert caught.value.stable_code == "ref_not_allowed"


@pytest.mark.parametrize("text", ["file:///", "s3:///x", "http://a/b", "/data", "file:///a/../b"])
def test_a_prefix_that_opens_too_much_is_refused(text):
    with pytest.raises(InvalidInput):
        read_prefix(text)


def test_a_key_is_256_bits_and_only_its_hash_and_beginning_are_kept():
    key = make_key((1 << 256) - 1)
    assert key.key_hash == hash_key(key.secret) and key.secret not in repr(key)
    assert key.secret.startswith(key.prefix) and len(key.prefix) == 12
    assert len({make_key(n).secret for n in range(100)}) == 100


def test_settings_come_from_the_environment_by_name():
    read = from_environment(
        ApiSettings,
        {
            "FOREBAY_MAX_BODY_BYTES": "2048",
            "FOREBAY_REF_PREFIXES": "s3://a/b, file:///c ,",
            "FOREBAY_MAX_WAIT_S": "2.5",
            "FOREBAY_POOL": "",
        },
    )
    assert (read.max_body_bytes, read.max_wait_s, read.pool) == (2048, 2.5, "default")
    assert read.ref_prefixes == ("s3://a/b", "file:///c")
    for name, text in (
        ("FOREBAY_MAX_BODY_BYTES", "many"),
        ("FOREBAY_MAX_BODY_BYTES", "3"),
        ("FOREBAY_MAX_WAIT_S", "nan"),
    ):
        with pytest.raises(InvalidInput, match=name):
            from_environment(ApiSettings, {name: text})
    with pytest.raises(InvalidInput, match="at most 512"):
        from_environment(RelaySettings, {"FOREBAY_MAX_JOBS_PER_MESSAGE": "513"})
