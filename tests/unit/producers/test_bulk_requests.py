"""A bulk job's request: the check is the OpenAPI's, and what was said is what the spec holds."""

from __future__ import annotations

import copy

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.bulk_requests import MAX_SPEC_BYTES, read_output
from producers.requests import BULK_JOB, one_schema, read_many, read_one
from producers.shapes import Wrong
from storage.records.bulk import BulkFormat, BulkOutput, Condition, PartFormat, payload_of, spec_of
from storage.records.errors import InvalidInput, NotBuilt, TooLarge
from storage.records.jobs import JobKind

DAY_MS = 86_400_000
GOOD = {
    "kind": "bulk",
    "model": "digits@prod",
    "input": {
        "uri": ["s3://in/a.parquet", "s3://in/more/*.parquet"],
        "format": "parquet",
        "columns": {"image": ["p0", "p1"], "mask": "m"},
        "where": [["split", "=", "test"], ["n", ">", 3], ["k", "in", ["a", 1]], ["x", "not_null"]],
    },
    "output": {"uri": "s3://out/run1", "format": "csv", "keep": ["id"], "overwrite": True},
    "on_error": {"max_share": 0.25},
    "dry_run": False,
    "custom_id": "a",
    "priority": 3,
    "expires_in_s": 60,
    "run_timeout_s": 30 * 86_400,
    "max_attempts": 5,
    "metadata": {"k": "v"},
    "webhook": None,
}
SMALL = {"kind": "bulk", "model": "digits", "input": {"uri": "s3://in/a.parquet"}}
SCHEMA = jsonschema_rs.validator_for(BULK_JOB.schema())

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(0, 1, allow_nan=False),
    st.sampled_from(["", "a", "a\x00", "parquet", "in", "=", "is_null", "s3://in/a", "a\nb"]),
    st.text(max_size=2),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["", "a", "image", "max_share", "uri"]), inner, max_size=2),
    ),
    max_leaves=8,
)
conditions = st.lists(
    st.tuples(
        st.sampled_from(["c", "", 1]),
        st.sampled_from(["=", "<", "in", "is_null", "like", None]),
        st.one_of(scalars, st.lists(scalars, max_size=2)),
    ).flatmap(lambda three: st.sampled_from([list(three), list(three[:2])])),
    max_size=2,
)
PLACES = [
    *((name,) for name in (*GOOD, "other")),
    *(("input", name) for name in ("uri", "format", "columns", "where", "tensor")),
    *(("output", name) for name in ("uri", "format", "join", "keep", "overwrite", "other")),
    ("on_error", "max_share"),
    ("input", "columns", "image"),
]


def takes(document) -> bool:
    try:
        BULK_JOB.check(document)
    except Wrong:
        return False
    return True


def put(document, place, value):
    changed = copy.deepcopy(document)
    at = changed
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return changed


@settings(max_examples=1500, deadline=None)
@given(place=st.sampled_from(PLACES), value=st.one_of(values, conditions))
def test_check_and_schema_agree(place, value):
    document = put(GOOD, place, value)
    assert takes(document) == SCHEMA.is_valid(document), document


def test_the_examples_are_good_and_the_one_schema_takes_both_kinds():
    either = jsonschema_rs.validator_for(one_schema())
    for good in (GOOD, SMALL):
        assert takes(good) and SCHEMA.is_valid(good) and either.is_valid(good)
    assert either.is_valid({"model": "digits", "input": {"text": "a"}})
    assert not either.is_valid({"kind": "evaluation", "model": "digits", "input": {"text": "a"}})


def test_what_was_asked_for_is_in_the_spec_and_survives_its_payload():
    read = read_one(GOOD)
    spec = read.bulk
    assert (read.kind, read.priority, read.max_attempts) == (JobKind.BULK, 3, 1)
    assert (read.expires_in_ms, read.run_timeout_ms) == (60_000, 30 * DAY_MS)
    assert spec.input.uris == ("s3://in/a.parquet", "s3://in/more/*.parquet")
    assert spec.input.columns == {"image": ("p0", "p1"), "mask": ("m",)}
    assert spec.input.where[2:] == (Condition("k", "in", ["a", 1]), Condition("x", "not_null"))
    assert spec.output == BulkOutput("s3://out/run1", PartFormat.CSV, False, ("id",), True)
    assert (spec.max_error_share, spec.max_attempts, spec.dry_run) == (0.25, 5, False)
    assert spec_of(payload_of(spec)) == spec


def test_little_said_means_the_defaults():
    read = read_one(SMALL)
    assert (read.priority, read.expires_in_ms, read.run_timeout_ms) == (2, 7 * DAY_MS, 7 * DAY_MS)
    assert read.bulk.input.format is None and read.bulk.output == BulkOutput()
    assert (read.bulk.max_error_share, read.bulk.max_attempts) == (0.1, 3)
    nulls = SMALL | {"output": None, "on_error": None, "dry_run": None, "priority": None}
    nulls["input"] = SMALL["input"] | {"format": None, "columns": None, "where": None}
    assert read_one(nulls).bulk == read.bulk


def test_a_bare_list_of_columns_is_under_no_name():
    given_ = put(SMALL, ("input", "columns"), ["a", "b"])
    assert read_one(given_).bulk.input.columns == {"": ("a", "b")}


WRONG = [
    (("input",), {"tensor": [1]}, "unknown_field", "input.tensor", "inference"),
    (
        ("input",),
        {"uri": "s3://a/b", "colums": ["a"]},
        "unknown_field",
        "input.colums",
        "'columns'",
    ),
    (("output",), {"uir": "s3://a"}, "unknown_field", "output.uir", "'uri'"),
    (("output",), {"join": True, "keep": ["a"]}, "invalid_value", "output.keep", "join"),
    (("output",), {"format": "xml"}, "invalid_value", "output.format", "parquet, jsonl, csv"),
    (("on_error",), {"max_share": 2}, "out_of_range", "on_error.max_share", "0 to 1"),
    (("input", "where"), [["a", "like", "b"]], "invalid_value", "input.where[0][1]", "is_null"),
    (("input", "where"), [["a", "="]], "invalid_value", "input.where[0]", "no value"),
    (("input", "where"), [["a", "=", None]], "invalid_type", "input.where[0][2]", "is_null"),
    (("input", "where"), [["a", "<", True]], "invalid_type", "input.where[0][2]", "number"),
    (("input", "where"), [["a", "in", [[1]]]], "invalid_type", "input.where[0][2][0]", "string"),
    (("input", "columns"), {"image": []}, "invalid_value", "input.columns.image", "1 to"),
    (("input", "uri"), [], "invalid_value", "input.uri", "1 to 1000"),
    (("run_timeout_s",), 31 * 86_400, "out_of_range", "run_timeout_s", "2592000"),
    (("pirority",), 1, "unknown_field", "pirority", "'priority'"),
]


@pytest.mark.parametrize(("place", "value", "code", "field", "says"), WRONG)
def test_what_is_wrong_is_named(place, value, code, field, says):
    with pytest.raises(InvalidInput) as caught:
        read_one(put(SMALL, place, value))
    assert (caught.value.stable_code, caught.value.field) == (code, field)
    assert says in caught.value.message


def test_fields_of_the_other_kind_are_told_where_they_belong():
    inference = {"model": "digits", "input": {"text": "a"}}
    for change in ({"on_error": {}}, {"dry_run": True}, {"input": {"uri": "s3://a/b"}}):
        with pytest.raises(InvalidInput) as caught:
            read_one(inference | change)
        assert caught.value.stable_code == "unknown_field"
        assert '"kind": "bulk"' in caught.value.message
    with pytest.raises(NotBuilt) as caught:
        read_one(inference | {"output": {"uri": "s3://a/b"}})
    assert caught.value.field == "output"
    with pytest.raises(InvalidInput, match='"kind": "evaluation"'):
        read_one(SMALL | {"evaluation": {}})


def test_a_bulk_job_is_no_member_of_a_group():
    with pytest.raises(InvalidInput, match="POST /v1/jobs") as caught:
        read_many({"jobs": [{"model": "digits", "input": {"text": "a"}}, SMALL]}, most=9)
    assert [error["field"] for error in caught.value.details] == ["jobs[1].kind"]


def test_a_spec_that_is_too_long_for_its_row_is_refused():
    uris = [f"s3://in/{'a' * 300}/{n}.parquet" for n in range(100)]
    fits, too_long = put(SMALL, ("input", "uri"), uris[:90]), put(SMALL, ("input", "uri"), uris * 2)
    assert len(payload_of(read_one(fits).bulk)) <= MAX_SPEC_BYTES
    with pytest.raises(TooLarge) as caught:
        read_one(too_long)
    assert (caught.value.stable_code, caught.value.field) == ("input_too_long", "input")


def test_an_output_that_is_said_again_keeps_what_it_does_not_say():
    before = BulkOutput("s3://out/a", PartFormat.CSV, keep=("id",))
    assert read_output(None, before) == before
    assert read_output({"format": "jsonl"}, before).format is PartFormat.JSONL
    joined = read_output({"join": True, "uri": "s3://out/b"}, before)
    assert (joined.join, joined.keep, joined.uri) == (True, (), "s3://out/b")
    kept = read_output({"keep": ["x"]}, BulkOutput(join=True))
    assert (kept.join, kept.keep) == (False, ("x",))


def test_a_format_is_one_of_the_words():
    for word in BulkFormat:
        assert read_one(put(SMALL, ("input", "format"), word.value)).bulk.input.format is word
