"""One description: what the check takes is what the OpenAPI says, and the other way round."""

from __future__ import annotations

import copy

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.requests import JOB, many_schema, read_many, read_one
from producers.shapes import Wrong, spell
from storage.records.errors import InvalidInput, NotBuilt, TooLarge

GOOD = {
    "kind": "inference",
    "model": "digits:7",
    "input": {"tensor": [1, 2]},
    "custom_id": "a",
    "priority": 9,
    "expires_in_s": 0.5,
    "run_timeout_s": 900,
    "max_attempts": 10,
    "metadata": {"k": "v", "a.b-c_D": ""},
    "output": None,
    "webhook": "https://example.com/hook",
}
SCHEMA = jsonschema_rs.validator_for(JOB.schema())

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            "",
            "a",
            "https://a b",
            "digits",
            "digits@prod",
            "digits:0",
            "digits:7\n",
            "A",
            "a" * 128,
            "a" * 129,
        ]
    ),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=3), st.integers()), max_size=3),
    st.just({f"k{n}": "v" for n in range(17)}),
    st.sampled_from(
        [
            {"url": "https://a"},
            {"url": " "},
            {"url": 1},
            {"url": "a", "b": 1},
            {"tensor": [1]},
            {"image": "a"},
            {"items": [{"text": "a"}]},
            {"text": "a", "ref": "b"},
        ]
    ),
)


def takes(document) -> bool:
    try:
        JOB.check(document)
    except Wrong:
        return False
    return True


def is_about_the_inside_of_an_input(document) -> bool:
    """An input's inside is checked against the model later; here it is only an object."""
    given_input = document.get("input")
    return isinstance(given_input, dict) and bool(given_input)


def test_the_good_one_is_good():
    assert takes(GOOD) and SCHEMA.is_valid(GOOD)
    read = read_one(GOOD)
    assert (read.expires_in_ms, read.run_timeout_ms, read.metadata["k"]) == (500, 900_000, "v")


@settings(max_examples=600, deadline=None)
@given(name=st.sampled_from([*GOOD, "other"]), value=values)
def test_check_and_schema_agree(name, value):
    document = copy.deepcopy(GOOD)
    document[name] = value
    if name == "input" and is_about_the_inside_of_an_input(document):
        assert takes(document)
    else:
        assert takes(document) == SCHEMA.is_valid(document), document


@pytest.mark.parametrize("name", list(GOOD))
def test_fields_may_be_left_out_exactly_if_the_schema_says_so(name):
    document = {key: value for key, value in GOOD.items() if key != name}
    assert takes(document) == SCHEMA.is_valid(document) == (name not in ("model", "input"))


def test_null_for_an_optional_field_is_absence():
    nothing = dict.fromkeys(GOOD, None) | {"model": "digits", "input": {"text": "a"}}
    plain = {"model": "digits", "input": {"text": "a"}}
    assert read_one(nothing) == read_one(plain)
    assert SCHEMA.is_valid(nothing)


def test_many_are_read_all_or_none_and_the_limit_is_the_schemas():
    good = {"model": "digits", "input": {"text": "a"}}
    assert len(read_many({"jobs": [good] * 3}, most=3).jobs) == 3
    validator = jsonschema_rs.validator_for(many_schema(3))
    assert validator.is_valid({"jobs": [good] * 3})
    with pytest.raises(TooLarge):
        read_many({"jobs": [good] * 4}, most=3)
    assert not validator.is_valid({"jobs": [good] * 4})
    for wrong in ({}, {"jobs": []}, {"jobs": [good], "more": 1}, {"jobs": {}}, [], None):
        assert not validator.is_valid(wrong)
        with pytest.raises(InvalidInput):
            read_many(wrong, most=3)


def test_each_wrong_index_is_named_with_its_own_code():
    good = {"model": "digits", "input": {"text": "a"}}
    with pytest.raises(NotBuilt) as caught:
        read_many({"jobs": [good, good | {"output": {}}, good | {"output": 1}]}, most=9)
    assert [error["field"] for error in caught.value.details] == [
        "jobs[1].output",
        "jobs[2].output",
    ]
    assert caught.value.stable_code == "not_built"
    with pytest.raises(InvalidInput) as caught:
        read_many({"jobs": [good | {"output": {}}, good | {"priority": 11}, good]}, most=9)
    assert caught.value.stable_code == "invalid_jobs"
    assert [e["code"] for e in caught.value.details] == ["not_built", "out_of_range"]


def test_paths_are_spelled_as_people_read_them():
    assert spell(["jobs", 3, "input", "tensor"]) == "jobs[3].input.tensor"
    assert spell([]) == ""


def test_messages_show_no_more_than_a_glimpse_of_a_value():
    for value in ("x" * 10_000, [1] * 10_000, 10**4000, {"a": "b" * 9999}):
        with pytest.raises(Wrong) as caught:
            JOB.check(GOOD | {"priority": value})
        assert len(caught.value.error().message) < 200
