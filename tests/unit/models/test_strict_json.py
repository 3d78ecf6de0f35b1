"""JSON from outside is read strictly: what orjson itself refuses, and what is added to it."""

from __future__ import annotations

import json
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.json_text import nests_deeper_than, without_strings
from storage.strict_json import parse


def code_of(data: bytes, **options: int) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(data, **options)
    return caught.value.stable_code


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"{",
        b"[1,]",
        b"{} x",
        b"/* x */ 1",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"01",
        b"+1",
        b'"\\ud800"',
        b'"\\udc00x"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\x01"',
        b"\xef\xbb\xbf{}",
        b"'a'",
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    assert code_of(text) == "invalid_json"


@pytest.mark.parametrize(
    "text",
    [
        b"1e999",
        b"[-1e999]",
        b"1" + b"0" * 400,
        b"1" + b"0" * 400 + b".0",
        b"18446744073709551616",
        b"-9223372036854775809",
        b'{"a": [1, 123456789012345678901234567890]}',
        b"-" + b"9" * 5000,
        b"[" + b"9" * 300 + b"]",
    ],
)
def test_numbers_that_would_be_rounded_or_infinite_are_refused(text: bytes) -> None:
    assert code_of(text) == "number_out_of_range"


@pytest.mark.parametrize(
    "text",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b"0.1234567890123456789012345678901234567890",
        b"1234567890123456789012.5",
        b"1e-0000000000000000000000001",
        b"1.5e+0000000000000000000000001",
        b"1e-999",
        b'"123456789012345678901234567890"',
        b'{"12345678901234567890123": "\\"99999999999999999999999"}',
        b'"NaN [[[["',
        b"[]",
        b'"\\u0000"',
    ],
)
def test_sound_values_pass_unchanged(text: bytes) -> None:
    assert parse(text) == json.loads(text)


def test_a_repeated_key_keeps_its_last_value() -> None:
    assert parse(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize("depth", [65, 254, 1024, 1025, 10_000, 1_000_000])
def test_deep_nesting_is_refused_at_any_depth(depth: int) -> None:
    assert code_of(b"[" * depth + b"]" * depth) == "too_deep"


def test_the_depth_limit_is_exact() -> None:
    objects = b'{"a":' * 64 + b"1" + b"}" * 64
    assert parse(objects)
    assert code_of(b"[" + objects + b"]") == "too_deep"
    assert parse(b'["' + b"[" * 100 + b'"]') == ["[" * 100]
    assert parse(b"[[1]]", max_depth=2)
    assert code_of(b"[[[1]]]", max_depth=2) == "too_deep"


def test_many_shallow_brackets_are_not_deep() -> None:
    assert parse(orjson.dumps([[[i]] for i in range(10_000)]))


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab[]{}\"\\'", max_size=5), inner),
    max_leaves=30,
)


@given(values)
@settings(max_examples=300, deadline=None)
def test_whatever_json_can_say_comes_back_and_its_depth_is_known(value: object) -> None:
    data = orjson.dumps(value)
    assert parse(data) == json.loads(data)
    depth = depth_of(value)
    assert not nests_deeper_than(without_strings(data), depth)
    if depth:
        assert nests_deeper_than(without_strings(data), depth - 1)


def test_a_full_body_is_read_in_a_moment() -> None:
    body = orjson.dumps({"image": "A" * (12 << 20), "tensor": [[0.123456789012] * 100] * 1_000})
    began = time.perf_counter()
    parse(body)
    took = time.perf_counter() - began
    assert took < 2.0, f"{took:.2f} s"


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (b"123456789012345678901", "number_out_of_range"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "too_deep"),
        (b"[[1.5, 123456789012345678901]]", "number_out_of_range"),
    ],
)
def test_a_long_string_hides_nothing_beside_it(rest: bytes, code: str) -> None:
    picture = b'{"image": "' + b"A1" * 500 + b'"'
    assert parse(picture + b"}") == {"image": "A1" * 500}
    assert code_of(picture + b', "x": ' + rest + b"}") == code
