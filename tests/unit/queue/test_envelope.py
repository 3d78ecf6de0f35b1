"""Whatever reaches the broker, only a well-formed wake-up gets past the envelope."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.queue.envelope import MAX_JOBS, EnvelopeError, WakeUp, decode, encode
from storage.records.ids import uuid7

IDS = st.builds(uuid7, st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
WAKE_UPS = st.builds(
    WakeUp, IDS, st.lists(IDS, min_size=1, max_size=MAX_JOBS, unique=True).map(tuple)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | IDS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
A, B, C = (f"0190f3a1-7c2e-7abc-8def-0123456789{n}" for n in ("ab", "cd", "ef"))


def good(**changes):
    return {"v": 1, "version": A, "jobs": [B, C]} | changes


@given(WAKE_UPS)
def test_what_is_encoded_decodes_to_itself_through_json(wake_up):
    assert decode(json.loads(json.dumps(encode(wake_up)))) == wake_up


@given(JSON)
def test_garbage_is_an_envelope_error_and_nothing_else(garbage):
    with pytest.raises(EnvelopeError):
        decode(garbage)


@given(st.dictionaries(st.sampled_from(["v", "version", "jobs", "x"]), JSON))
def test_almost_an_envelope_is_refused_or_read_exactly(forged):
    try:
        wake_up = decode(forged)
    except EnvelopeError:
        return
    assert encode(wake_up) == forged


@pytest.mark.parametrize(
    "forged",
    [
        good(v=True),
        good(v=1.0),
        good(v="1"),
        good(v=2),
        good(v=0),
        good(version=A.upper()),
        good(version=A + "\n"),
        good(version=None),
        good(jobs=[]),
        good(jobs=B),
        good(jobs={B: 1}),
        good(jobs=[B, B]),
        good(jobs=[B, None]),
        good(jobs=[B, "'; DROP TABLE jobs; --"]),
        good(jobs=[B, B.replace("-", "")]),
        good(jobs=[uuid7(1, n) for n in range(MAX_JOBS + 1)]),
        good(session="mine"),
        {"v": 1, "version": A},
        {},
        [],
        "wake up",
        None,
    ],
)
def test_forged_messages_are_refused(forged):
    with pytest.raises(EnvelopeError):
        decode(forged)


def test_a_newer_wire_version_is_named():
    with pytest.raises(EnvelopeError, match="version 2 is not known"):
        decode(good(v=2, extra=1))


@pytest.mark.parametrize("count", [0, MAX_JOBS + 1])
def test_a_wake_up_of_a_wrong_size_is_never_sent(count):
    with pytest.raises(EnvelopeError):
        encode(WakeUp(A, tuple(uuid7(1, n) for n in range(count))))


def test_the_largest_envelope_is_small():
    largest = encode(WakeUp(A, tuple(uuid7(2**48 - 1, n) for n in range(MAX_JOBS))))
    assert len(json.dumps(largest)) < 24_000
