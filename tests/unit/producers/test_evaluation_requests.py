"""An evaluation's request: the check is the OpenAPI's, and what was said is what the spec holds."""

from __future__ import annotations

import copy

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.evaluation_references import Earlier, filled, filled_if_good
from producers.requests import EVALUATION_JOB, one_schema, read_many, read_one
from producers.shapes import Wrong
from storage.records.bulk import BulkFormat, BulkOutput, BulkSpec, Condition, payload_of, spec_of
from storage.records.errors import Conflict, InvalidInput, NotFound, TooLarge, Unprocessable
from storage.records.evaluations import EvaluationSpec
from storage.records.jobs import JobKind

JOB, GROUP = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"
OTHER = "0190aaaa-0000-7000-8000-000000000003"
GOOD = {
    "kind": "evaluation",
    "model": "digits@prod",
    "input": {
        "uri": ["s3://in/a.parquet"],
        "format": "parquet",
        "columns": {"image": ["p0", "p1"]},
        "where": [["split", "=", "test"]],
    },
    "evaluation": {
        "label": "digit",
        "slices": ["hour", "place"],
        "against": JOB,
        "examples": 5,
        "tolerance": 0.01,
    },
    "on_error": {"max_share": 0.25},
    "custom_id": "a",
    "priority": 3,
    "expires_in_s": 60,
    "run_timeout_s": 30 * 86_400,
    "max_attempts": 5,
    "metadata": {"k": "v"},
    "webhook": None,
}
SMALL = {
    "kind": "evaluation",
    "model": "digits",
    "input": {"uri": "s3://in/a.parquet"},
    "evaluation": {"label": "digit"},
}
OF_JOB = {"kind": "evaluation", "model": "digits", "input": {"job": JOB}}
OF_GROUP = {"kind": "evaluation", "model": "digits", "input": {"group": GROUP}}
SCHEMA = jsonschema_rs.validator_for(EVALUATION_JOB.schema())

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 101),
    st.floats(-1, 2, allow_nan=False),
    st.sampled_from(["", "a", "a\x00", "folder", JOB, JOB.upper(), "s3://in/a"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["uri", "job", "group", "label"]), inner, max_size=2),
    ),
    max_leaves=6,
)
PLACES = [
    *((name,) for name in (*GOOD, "output", "dry_run", "spec", "other")),
    *(("input", name) for name in ("uri", "job", "group", "format", "tensor")),
    *(("evaluation", name) for name in (*GOOD["evaluation"], "of_group", "other")),
    ("on_error", "max_share"),
]


def takes(document) -> bool:
    try:
        EVALUATION_JOB.check(document)
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
@given(
    base=st.sampled_from([GOOD, OF_JOB | {"evaluation": {}}, OF_GROUP | {"evaluation": {}}]),
    place=st.sampled_from([place for place in PLACES if place[0] != "on_error"]),
    value=st.one_of(values, st.lists(st.sampled_from(["a", "b", ""]), max_size=3)),
)
def test_check_and_schema_agree(base, place, value):
    document = put(base, place, value)
    assert takes(document) == SCHEMA.is_valid(document), document


def test_the_examples_are_good_and_the_one_schema_takes_them():
    either = jsonschema_rs.validator_for(one_schema())
    for good in (GOOD, SMALL, OF_JOB, OF_GROUP):
        assert takes(good) and SCHEMA.is_valid(good) and either.is_valid(good)
    both = {"job": JOB, "group": GROUP}
    for wrong in ({}, {"uri": "s3://in/a", "job": JOB}, both, {"job": JOB, "format": "csv"}):
        assert not takes(OF_JOB | {"input": wrong}), wrong


def test_what_was_asked_for_is_in_the_spec_and_survives_its_payload():
    read = read_one(GOOD)
    spec = read.bulk
    assert (read.kind, read.priority, read.max_attempts) == (JobKind.EVALUATION, 3, 1)
    assert spec.input.uris == ("s3://in/a.parquet",) and spec.input.format is BulkFormat.PARQUET
    assert spec.input.where == (Condition("split", "=", "test"),)
    assert spec.output == BulkOutput()  # workers keep label and slices by themselves
    assert spec.evaluation == EvaluationSpec("digit", ("hour", "place"), JOB, None, 5, 0.01)
    assert (spec.max_error_share, spec.max_attempts) == (0.25, 5)
    assert spec_of(payload_of(spec)) == spec


def test_little_said_means_the_defaults():
    read = read_one(SMALL)
    assert (read.priority, read.run_timeout_ms) == (2, 7 * 86_400_000)
    assert read.bulk.evaluation == EvaluationSpec("digit")
    nulls = SMALL | {"evaluation": {"label": "digit", "slices": None, "tolerance": None}}
    assert read_one(nulls).bulk == read.bulk


def test_a_group_is_scored_again_and_compared_with_its_own_answers():
    spec = read_one(OF_GROUP).bulk
    assert spec.input.uris == ()
    assert (spec.evaluation.of_group, spec.evaluation.against) == (GROUP, GROUP)
    later = read_one(OF_GROUP | {"evaluation": {"against": JOB, "examples": 0}}).bulk
    assert (later.evaluation.of_group, later.evaluation.against) == (GROUP, JOB)


WRONG = [
    (("input",), {"text": "a"}, "unknown_field", "input.text", "inference"),
    (("input",), {"uri": "s3://a/b", "job": JOB}, "unknown_field", "input.uri", "one too many"),
    (("input",), {"job": JOB, "where": []}, "unknown_field", "input.where", "taken over"),
    (("input",), {"job": "7"}, "invalid_value", "input.job", "an id"),
    (("output",), {"uri": "s3://a"}, "unknown_field", "output", "Parquet"),
    (("evaluation",), {"labels": "a"}, "unknown_field", "evaluation.labels", "'label'"),
    (("evaluation",), {"label": ""}, "invalid_value", "evaluation.label", "1 to"),
    (("evaluation",), {"slices": ["a", "b", "a"]}, "invalid_value", "evaluation.slices[2]", "once"),
    (
        ("evaluation",),
        {"slices": [f"c{n}" for n in range(17)]},
        "too_many",
        "evaluation.slices",
        "0 to 16",
    ),
    (
        ("evaluation",),
        {"label": "a", "slices": ["b", "a"]},
        "invalid_value",
        "evaluation.slices[1]",
        "the label",
    ),
    (("evaluation",), {"examples": 101}, "out_of_range", "evaluation.examples", "100"),
    (("evaluation",), {"tolerance": -0.1}, "out_of_range", "evaluation.tolerance", "0 to 1"),
]


@pytest.mark.parametrize(("place", "value", "code", "field", "says"), WRONG)
def test_what_is_wrong_is_named(place, value, code, field, says):
    with pytest.raises(InvalidInput) as caught:
        read_one(put(SMALL, place, value))
    assert (caught.value.stable_code, caught.value.field) == (code, field)
    assert says in caught.value.message


def of_format(form, **evaluation):
    document = {"uri": "s3://in/a", "format": form}
    return read_one(SMALL | {"input": document, "evaluation": evaluation})


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "npz", "npy", "requests", "uris"])
def test_data_without_labels_needs_something_to_compare_with(form):
    with pytest.raises(Unprocessable) as caught:
        of_format(form)
    assert (caught.value.stable_code, caught.value.field) == ("no_labels", "evaluation.label")
    assert of_format(form, against=JOB).bulk.evaluation.label is None


def test_requests_and_a_lone_array_have_no_labels_and_no_columns():
    for form in ("requests", "npy"):
        with pytest.raises(Unprocessable) as caught:
            of_format(form, label="digit", against=JOB)
        assert caught.value.stable_code == "no_labels"
        with pytest.raises(InvalidInput) as other:
            of_format(form, slices=["hour"], against=JOB)
        assert other.value.field == "evaluation.slices"
    with pytest.raises(Unprocessable):
        read_one(OF_GROUP | {"evaluation": {"label": "digit"}})


def test_the_label_of_a_picture_is_its_folder():
    assert of_format("images").bulk.evaluation.label is None  # the worker knows
    for form in ("images", "uris"):
        assert of_format(form, label="folder").bulk.evaluation.label == "folder"
        with pytest.raises(InvalidInput, match="folder"):
            of_format(form, label="digit")


def test_it_is_submitted_alone():
    with pytest.raises(InvalidInput, match="POST /v1/jobs") as caught:
        read_many({"jobs": [{"model": "digits", "input": {"text": "a"}}, SMALL]}, most=9)
    assert [error["field"] for error in caught.value.details] == ["jobs[1].kind"]
    with pytest.raises(InvalidInput, match='"kind": "evaluation"'):
        read_one({"model": "digits", "input": {"text": "a"}, "evaluation": {}})


def test_what_an_earlier_job_read_is_taken_over():
    before = read_one(GOOD).bulk
    taken = filled(read_one(OF_JOB), Earlier(jobs={JOB: before})).bulk
    assert taken.input == before.input
    assert taken.evaluation == EvaluationSpec("digit", ("hour", "place"), JOB)
    asked = OF_JOB | {"evaluation": {"label": "other", "slices": ["hour"], "against": OTHER}}
    own = filled(read_one(asked), Earlier(jobs={JOB: before, OTHER: before})).bulk
    assert own.evaluation == EvaluationSpec("other", ("hour",), OTHER)


def test_of_a_bulk_job_only_the_rows_are_taken_over():
    before = BulkSpec(read_one(GOOD).bulk.input, BulkOutput("s3://out/a", join=True))
    taken = filled(read_one(OF_JOB), Earlier(jobs={JOB: before})).bulk
    assert taken.output == BulkOutput() and taken.evaluation == EvaluationSpec(against=JOB)


def test_an_evaluation_of_a_group_is_of_the_same_group_again():
    before = read_one(OF_GROUP).bulk
    taken = filled(read_one(OF_JOB), Earlier(jobs={JOB: before})).bulk
    assert (taken.evaluation.of_group, taken.evaluation.against) == (GROUP, JOB)


def test_why_it_cannot_be_compared_is_said_of_the_field_that_named_it():
    gone = NotFound("you have no job", code="job_not_found")
    open_ = Conflict("3 jobs are not over", code="group_not_over")
    asked = {
        "input.job": (read_one(OF_JOB), Earlier(jobs={JOB: gone})),
        "evaluation.against": (read_one(GOOD), Earlier(jobs={JOB: gone})),
        "input.group": (read_one(OF_GROUP), Earlier(groups={GROUP: open_})),
    }
    for field, (request, earlier) in asked.items():
        with pytest.raises((NotFound, Conflict)) as caught:
            filled(request, earlier)
        assert caught.value.field == field and caught.value.message.startswith(f"{field}: ")
        assert filled_if_good(request, earlier) == request


def test_what_is_taken_over_is_checked_as_if_it_was_said():
    before = read_one(GOOD).bulk
    with pytest.raises(InvalidInput) as caught:
        filled(
            read_one(OF_JOB | {"evaluation": {"slices": ["digit"]}}), Earlier(jobs={JOB: before})
        )
    assert caught.value.field == "evaluation.slices[0]"
    uris = [f"s3://in/{'a' * 300}/{n}.parquet" for n in range(100)]
    long = read_one(put(GOOD, ("input", "uri"), uris)).bulk
    columns = [f"{n}{'c' * 250}" for n in range(9)]
    with pytest.raises(TooLarge):
        filled(read_one(OF_JOB | {"evaluation": {"slices": columns}}), Earlier(jobs={JOB: long}))
