"""A training's request: the check is the OpenAPI's, every wrong spec is named with its field, and
what was said is what the payload holds."""

from __future__ import annotations

import copy
import json

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.requests import TRAINING_JOB, one_schema, read_many, read_one
from producers.shapes import Wrong
from producers.training_names import LOSSES, METRICS, OPTIMIZERS, SCHEDULES, snake
from producers.training_requests import MAX_SPEC_BYTES, spec_from
from storage.records.errors import InvalidInput, TooLarge
from storage.records.jobs import JobKind
from storage.records.keras_allowed import ALLOWED
from storage.records.training import (
    DataFormat,
    EarlyStopping,
    Limits,
    MissingRule,
    Named,
    Network,
    Scaling,
    Split,
    Task,
    TextPreparation,
    Weights,
    payload_of,
    spec_of,
)
from tests.support.archives import input_layer, layer, sequential
from workers.training.data.values import word_of

DAY_MS = 86_400_000
SPEC = {
    "data": {
        "uri": ["s3://in/a.csv", "s3://in/more/*.csv"],
        "format": "csv",
        "features": ["a", "b"],
        "label": "y",
        "labels_uri": None,
        "shape": [28, 28, 1],
        "where": [["split", "=", "train"], ["n", ">", 3]],
        "digests": {"s3://in/a.csv": "abc"},
    },
    "prepare": {
        "missing": {"fill": {"a": "mean", "b": 0.5}},
        "drop_duplicates": True,
        "replace": {"a": {"?": None, "one": 1, "x": "y"}},
        "scale": "standard",
        "categories": {"c": ["u", "v"], "d": "learn"},
        "text": {"max_tokens": 5000, "length": 32, "cut": "characters"},
        "labels": {"0": "no", "1": "yes"},
        "unknown_labels": "drop",
    },
    "split": {"validation": 0.2, "test": 0.1, "seed": 7, "stratify": False},
    "network": {"recipe": "dense", "units": [64], "activation": "tanh"},
    "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
    "schedule": {"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": 100},
    "loss": {"name": "binary_crossentropy", "label_smoothing": 0.1},
    "metrics": ["accuracy", "recall"],
    "epochs": 3,
    "batch_size": 16,
    "weights": {
        "classes": {"no": 1, "yes": 2.5},
        "group": {"column": "g", "weights": {"u": 0.5, "v": 2}},
    },
    "early_stopping": {
        "monitor": "val_accuracy",
        "patience": 2,
        "min_delta": 0.01,
        "restore_best": False,
    },
    "limits": {"max_s": 60, "max_steps": 1000},
    "checkpoint_every_s": 30,
    "deterministic": True,
    "seed": 3,
    "halve_batch": True,
}
GOOD = {
    "kind": "training",
    "model": "digits",
    "spec": SPEC,
    "custom_id": "a",
    "priority": 3,
    "expires_in_s": 60,
    "run_timeout_s": 30 * 86_400,
    "max_attempts": 5,
    "metadata": {"k": "v"},
    "webhook": None,
}
SMALL_SPEC = {
    "data": {"uri": "s3://in/a.csv", "label": "y"},
    "network": {"recipe": "dense"},
    "loss": "sparse_categorical_crossentropy",
}
SMALL = {"kind": "training", "model": "digits", "spec": SMALL_SPEC}
SCHEMA = jsonschema_rs.validator_for(TRAINING_JOB.schema())
KERAS = json.loads(
    json.dumps(sequential(input_layer("x", (None, 4)), layer("Dense", name="d", units=2)))
)


def takes(document) -> bool:
    try:
        TRAINING_JOB.check(document)
    except Wrong:
        return False
    return True


def put(document, place, value):
    changed = copy.deepcopy(document)
    at = changed
    for step in place[:-1]:
        at = at.setdefault(step, {})
    at[place[-1]] = value
    return changed


def places(value, path=()):
    """Every place in a document, and one beside those of each object."""
    yield path
    if isinstance(value, dict):
        yield (*path, "other")
        for name, inner in value.items():
            yield from places(inner, (*path, name))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.floats(-2, 2, allow_nan=False),
    st.sampled_from(
        ["", "a", "a\x00", "csv", "learn", "balanced", "mean", "adam", "momentum", "mse", "acc"]
    ),
    st.sampled_from(["dense", "cnn", "linear", "name", "digits:3", "s3://in/a", "drop", "none"]),
    st.text(max_size=2),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["", "a", "name", "recipe", "version", "keras", "fill", "divide", "units", "l2"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
PLACES = [place for place in places(GOOD) if place]
NETWORKS = [
    {"recipe": "cnn", "filters": [8], "kernel": 5, "pooling": False, "dense": []},
    {"recipe": "rnn", "cell": "gru", "units": [8, 8], "bidirectional": True, "embedding": 16},
    {"recipe": "text-average", "embedding": 16, "units": [], "dropout": 0.5},
    {"recipe": "linear", "l2": 0.01},
    {"recipe": "dense", "units": None},
    {"keras": KERAS},
    {"version": "digits:3", "frozen_layers": 2},
    {"version": "digits@prod", "frozen_layers": None},
]


@settings(max_examples=2500, deadline=None)
@given(place=st.sampled_from(PLACES), value=values)
def test_check_and_schema_agree(place, value):
    document = put(GOOD, place, value)
    assert takes(document) == SCHEMA.is_valid(document), document


@settings(max_examples=600, deadline=None)
@given(
    network=st.sampled_from(NETWORKS),
    name=st.sampled_from(["recipe", "filters", "units", "cell", "keras", "version", "l2", "odd"]),
    value=values,
)
def test_check_and_schema_agree_on_networks(network, name, value):
    document = put(GOOD, ("spec", "network"), {**network, name: value})
    assert takes(document) == SCHEMA.is_valid(document), document


def test_the_examples_are_good_and_the_one_schema_takes_them():
    either = jsonschema_rs.validator_for(one_schema())
    for good in (GOOD, SMALL, *(put(GOOD, ("spec", "network"), one) for one in NETWORKS)):
        assert takes(good) and SCHEMA.is_valid(good) and either.is_valid(good)
        read_one(good)


def test_what_was_asked_for_is_in_the_spec_and_survives_its_payload():
    read = read_one(GOOD)
    spec = read.training
    assert (read.kind, read.priority, read.max_attempts) == (JobKind.TRAINING, 3, 1)
    assert (read.expires_in_ms, read.run_timeout_ms) == (60_000, 30 * DAY_MS)
    assert spec.data.uris == ("s3://in/a.csv", "s3://in/more/*.csv")
    assert (spec.data.format, spec.data.shape) == (DataFormat.CSV, (28, 28, 1))
    assert spec.data.where[1].value == 3 and spec.data.digests == {"s3://in/a.csv": "abc"}
    assert (spec.prepare.missing, spec.prepare.fill) == (MissingRule.FILL, {"a": "mean", "b": 0.5})
    assert (spec.prepare.scale, spec.prepare.categories) == (
        Scaling.STANDARD,
        {"c": ("u", "v"), "d": ()},
    )
    assert spec.prepare.text == TextPreparation(5000, 32, cut=spec.prepare.text.cut)
    assert spec.prepare.labels == (("0", "no"), ("1", "yes")) and spec.prepare.drop_unknown_labels
    assert spec.split == Split(0.2, 0.1, 7, False)
    assert spec.network == Network("dense", {"units": [64], "activation": "tanh", "dropout": 0.0})
    assert spec.optimizer == Named("sgd", {"momentum": 0.9, "nesterov": True})
    assert spec.loss == Named("binary_crossentropy", {"label_smoothing": 0.1})
    assert spec.weights == Weights({"no": 1, "yes": 2.5}, False, "g", {"u": 0.5, "v": 2})
    assert spec.early_stopping == EarlyStopping("val_accuracy", 2, 0.01, False)
    assert (spec.limits, spec.max_deaths) == (Limits(60, 1000), 5)
    assert (spec.deterministic, spec.halve_batch, spec.seed) == (True, True, 3)
    assert spec_of(payload_of(spec)) == spec


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_survives_its_payload(network):
    spec = read_one(put(SMALL, ("spec", "network"), network)).training
    assert spec_of(payload_of(spec)) == spec
    kinds = [spec.network.recipe, spec.network.keras, spec.network.version]
    assert sum(kind is not None for kind in kinds) == 1


def test_little_said_means_the_defaults():
    read = read_one(SMALL)
    spec = read.training
    assert (read.priority, read.expires_in_ms, read.run_timeout_ms) == (5, 7 * DAY_MS, 7 * DAY_MS)
    assert (spec.epochs, spec.batch_size, spec.optimizer, spec.task) == (
        10,
        32,
        Named("adam"),
        Task.CLASSES,
    )
    assert spec.network.arguments == {"units": [128, 128], "activation": "relu", "dropout": 0.0}
    assert (spec.split, spec.early_stopping, spec.max_deaths) == (Split(), None, 3)
    assert spec.prepare.text is None and spec.prepare.labels == ()
    nulls = dict.fromkeys(SPEC, None) | SMALL_SPEC
    nulls["data"] = dict.fromkeys(SPEC["data"], None) | SMALL_SPEC["data"]
    assert read_one(SMALL | {"spec": nulls}).training == spec
    assert spec_from(SMALL_SPEC) == spec


SHORT = [
    ({"optimizer": "momentum"}, "optimizer", Named("sgd", {"momentum": 0.9})),
    (
        {"optimizer": {"name": "momentum", "momentum": 0.5}},
        "optimizer",
        Named("sgd", {"momentum": 0.5}),
    ),
    ({"loss": "mse"}, "loss", Named("mean_squared_error")),
    ({"loss": {"name": "mae"}}, "loss", Named("mean_absolute_error")),
    (
        {"loss": "mse", "metrics": ["rmse", "mean_absolute_error"]},
        "metrics",
        ("root_mean_squared_error", "mae"),
    ),
    ({"metrics": ["acc", "accuracy", "f1_score"]}, "metrics", ("accuracy", "f1")),
    (
        {"optimizer": {"name": "adam", "learning_rate": 0.1}, "schedule": "cosine_decay"},
        "schedule",
        Named("cosine_decay"),
    ),
]


@pytest.mark.parametrize(("change", "name", "means"), SHORT)
def test_short_names_stand_for_keras_own(change, name, means):
    assert getattr(spec_from(SMALL_SPEC | change), name) == means


def test_labels_are_words_however_they_are_written():
    for given_, means in (
        ([0, 1.0, "2"], (("0", "0"), ("1", "1"), ("2", "2"))),
        ({"0": "no", "1": "yes", "2": "yes"}, (("0", "no"), ("1", "yes"), ("2", "yes"))),
    ):
        spec = spec_from(SMALL_SPEC | {"prepare": {"labels": given_}})
        assert spec.prepare.labels == means


NUMBERS = [
    0,
    7,
    7.0,
    -0.0,
    2.5,
    0.1 + 0.2,
    1e-9,
    12345678901234567,
    1234567890123456.5,
    1e22,
    -(3**40),
]


def test_a_number_is_called_as_the_worker_calls_it():
    for number in NUMBERS:
        ((word, _), _) = spec_from(
            SMALL_SPEC | {"prepare": {"labels": [number, "b"]}}
        ).prepare.labels
        assert word == word_of(number)


def test_a_text_recipe_has_a_vectoriser_and_a_division_its_divisor():
    text = spec_from(SMALL_SPEC | {"network": {"recipe": "text-average"}})
    assert text.prepare.text == TextPreparation()
    scaled = spec_from(SMALL_SPEC | {"prepare": {"scale": {"divide": 16}}})
    assert (scaled.prepare.scale, scaled.prepare.divide_by) == (Scaling.DIVIDE, 16.0)


def test_how_an_architecture_was_compiled_is_left_out():
    compiled = {**KERAS, "compile_config": {"optimizer": {"class_name": "Odd"}}}
    assert spec_from(SMALL_SPEC | {"network": {"keras": compiled}}).network.keras == KERAS


def test_every_name_is_one_of_keras():
    assert set(LOSSES) <= set(map(snake, ALLOWED["keras.losses"]))
    friendly = {"f1", "mae", "mse", "r2"}
    assert set(METRICS) - friendly <= set(map(snake, ALLOWED["keras.metrics"]))
    assert {"adam", "adamw", "rmsprop", "sgd", "nadam"} <= set(OPTIMIZERS)
    assert "cosine_decay" in SCHEDULES


LAMBDA = sequential(input_layer("x", (None, 4)), layer("Lambda", name="code", function={}))
# place in the spec, value, code, field below the spec, a piece of the message
WRONG = [
    ("", {**SMALL_SPEC, "epoch": 3}, "unknown_field", "epoch", "'epochs'"),
    ("", {**SMALL_SPEC, "model": "a"}, "unknown_field", "model", "beside the spec"),
    ("", {"data": SMALL_SPEC["data"], "loss": "mse"}, "missing_field", "network", "missing"),
    ("data", {"uri": "s3://a/b.csv", "lable": "y"}, "unknown_field", "data.lable", "'label'"),
    ("data", {"uri": []}, "invalid_value", "data.uri", "1 to 1000"),
    ("data", {"uri": "s3://a/b.csv"}, "missing_field", "data.label", "column"),
    (
        "data",
        {"uri": "s3://a/b", "format": "parquet"},
        "missing_field",
        "data.label",
        "is missing",
    ),
    ("data.features", ["a", "y"], "invalid_value", "data.features[1]", "is the label"),
    ("data.features", ["a", "b", "a"], "invalid_value", "data.features[2]", "entry 0"),
    ("data.format", "xls", "invalid_value", "data.format", "idx, npz, csv"),
    ("data.shape", [0], "out_of_range", "data.shape[0]", "1 to"),
    ("data.where", [["a", "like", 1]], "invalid_value", "data.where[0][1]", "is_null"),
    ("data.digests", {"s3://in/A.csv": "1"}, "invalid_value", "data.digests", "'s3://in/a.csv'"),
    (
        "data",
        {"uri": "s3://a/b", "format": "csv", "label": "y", "labels_uri": "s3://a/c"},
        "invalid_value",
        "data.labels_uri",
        "idx",
    ),
    ("prepare", {"scaling": "none"}, "unknown_field", "prepare.scaling", "'scale'"),
    ("prepare.missing", "ignore", "invalid_value", "prepare.missing", "refuse, drop"),
    ("prepare.missing", {"fil": {}}, "unknown_field", "prepare.missing.fil", "'fill'"),
    ("prepare.missing", {"fill": {}}, "invalid_value", "prepare.missing.fill", "at least 1"),
    ("prepare.scale", {"divide": 0}, "out_of_range", "prepare.scale.divide", "more than 0"),
    ("prepare.scale", 255, "invalid_type", "prepare.scale", "divide"),
    ("prepare.text", {"lenght": 3}, "unknown_field", "prepare.text.lenght", "'length'"),
    ("prepare.labels", ["a", "a"], "invalid_value", "prepare.labels[1]", "entry 0"),
    ("prepare.labels", ["a"], "invalid_value", "prepare.labels", "tell apart"),
    ("prepare.labels", {"0": "a", "1": "a"}, "invalid_value", "prepare.labels", "tell apart"),
    ("split", {"validation": 0.5, "test": 0.5}, "out_of_range", "split", "takes 1 of"),
    ("split", {"valid": 0.1}, "unknown_field", "split.valid", "'validation'"),
    (
        "network",
        {"recipe": "dense", "filters": [3]},
        "unknown_field",
        "network.filters",
        "recipe cnn, not of dense",
    ),
    ("network", {"recipe": "cnn", "kernels": 3}, "unknown_field", "network.kernels", "'kernel'"),
    ("network", {"recipe": "mlp"}, "invalid_value", "network.recipe", "dense, cnn, rnn"),
    (
        "network",
        {"recipe": "cnn", "version": "a:1"},
        "unknown_field",
        "network.version",
        "goes alone",
    ),
    ("network", {}, "missing_field", "network", "recipe, keras, version"),
    ("network", {"recpie": "cnn"}, "unknown_field", "network.recpie", "'recipe'"),
    ("network", {"version": "a:0"}, "invalid_value", "network.version", "name:version"),
    ("network", {"keras": LAMBDA}, "refused_layer", "network.keras", "'code'"),
    (
        "network",
        {"keras": {"class_name": "MyModel", "config": {}}},
        "refused_layer",
        "network.keras",
        "Sequential or Functional",
    ),
    ("optimizer", "adm", "unknown_optimizer", "optimizer", "'adam'"),
    ("optimizer", {"name": "Adam"}, "unknown_optimizer", "optimizer.name", "'adam'"),
    (
        "optimizer",
        {"name": "adam", "learning_rate": "1e-3"},
        "invalid_type",
        "optimizer.learning_rate",
        "write 0.001",
    ),
    ("optimizer", {"learning_rate": 1}, "missing_field", "optimizer.name", "missing"),
    (
        "optimizer",
        {"name": "adam", "learning_rate": {"class_name": "x"}},
        "invalid_type",
        "optimizer.learning_rate",
        "a number, a string",
    ),
    ("loss", "crossentropy", "unknown_loss", "loss", "crossentropy'"),
    ("metrics", ["acuracy"], "unknown_metric", "metrics[0]", "'accuracy'"),
    ("metrics", ["r2"], "invalid_value", "metrics[0]", "numbers"),
    ("schedule", "linear_decay", "unknown_schedule", "schedule", "_decay'"),
    ("epochs", 0, "out_of_range", "epochs", "1 to 100000"),
    ("epochs", 1.5, "invalid_type", "epochs", "integer"),
    ("batch_size", 65_537, "out_of_range", "batch_size", "65536"),
    ("weights", {"class": "balanced"}, "unknown_field", "weights.class", "'classes'"),
    ("weights", {"classes": "even"}, "invalid_value", "weights.classes", "balanced"),
    ("weights", {"classes": {"a": -1}}, "out_of_range", "weights.classes.a", "from 0"),
    ("weights", {"group": {"column": "c"}}, "missing_field", "weights.group.weights", "missing"),
    (
        "early_stopping",
        {"monitor": "val_recall"},
        "invalid_value",
        "early_stopping.monitor",
        "not measured",
    ),
    ("early_stopping", {"patienc": 1}, "unknown_field", "early_stopping.patienc", "'patience'"),
    ("limits", {"max_s": 0}, "out_of_range", "limits.max_s", "more than 0"),
    ("limits", {"max_step": 1}, "unknown_field", "limits.max_step", "'max_steps'"),
    ("deterministic", "yes", "invalid_type", "deterministic", "true or false"),
    ("seed", -1, "out_of_range", "seed", "from 0"),
]


@pytest.mark.parametrize(("place", "value", "code", "field", "says"), WRONG)
def test_what_is_wrong_is_named(place, value, code, field, says):
    spec = put(SMALL_SPEC, place.split("."), value) if place else value
    with pytest.raises(InvalidInput) as caught:
        read_one(SMALL | {"spec": spec})
    assert (caught.value.stable_code, caught.value.field) == (code, f"spec.{field}")
    assert says in caught.value.message
    with pytest.raises(InvalidInput) as alone:
        spec_from(spec)
    assert (alone.value.stable_code, alone.value.field) == (code, field)


TOGETHER = [
    (
        {"split": {"validation": 0}, "early_stopping": {}},
        "early_stopping.monitor",
        "split.validation is 0",
    ),
    (
        {"split": {"validation": 0}, "early_stopping": {"monitor": "val_loss"}},
        "early_stopping.monitor",
        "split.validation is 0",
    ),
    ({"loss": "mse", "metrics": ["mae", "accuracy"]}, "metrics[1]", "measures classes"),
    (
        {"loss": "hinge", "metrics": ["accuracy", "binary_crossentropy"]},
        "metrics[1]",
        "measures probabilities, unlike the loss hinge",
    ),
    (
        {"loss": "binary_crossentropy", "metrics": ["top_k_categorical_accuracy"]},
        "metrics[0]",
        "an output for each label, unlike the loss binary_crossentropy",
    ),
    (
        {"loss": "binary_focal_crossentropy", "metrics": ["categorical_crossentropy"]},
        "metrics[0]",
        "an output for each label",
    ),
    ({"loss": "mse", "weights": {"classes": "balanced"}}, "weights.classes", "of numbers"),
    ({"loss": "mse", "prepare": {"labels": ["a", "b"]}}, "prepare.labels", "of numbers"),
    (
        {"loss": "binary_crossentropy", "prepare": {"labels": ["a", "b", "c"]}},
        "prepare.labels",
        "takes two",
    ),
    (
        {"prepare": {"labels": ["cat", "dog"]}, "weights": {"classes": {"dgo": 2}}},
        "weights.classes.dgo",
        "'dog'",
    ),
    (
        {
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "schedule": {"name": "cosine_decay", "initial_learning_rate": 0.2},
        },
        "optimizer.learning_rate",
        "initial_learning_rate",
    ),
]


@pytest.mark.parametrize(("changes", "field", "says"), TOGETHER)
def test_fields_that_contradict_each_other_are_named(changes, field, says):
    with pytest.raises(InvalidInput) as caught:
        spec_from(SMALL_SPEC | changes)
    assert (caught.value.stable_code, caught.value.field) == ("invalid_value", field)
    assert says in caught.value.message


@pytest.mark.parametrize("rate", [0, -1, -0.5])
def test_a_learning_rate_is_above_zero(rate):
    with pytest.raises(InvalidInput, match="more than 0") as caught:
        spec_from(SMALL_SPEC | {"optimizer": {"name": "sgd", "learning_rate": rate}})
    assert caught.value.stable_code == "out_of_range"
    assert caught.value.field == "optimizer.learning_rate"


def test_early_stopping_on_what_is_trained_on_needs_no_validation():
    changes = {"split": {"validation": 0}, "early_stopping": {"monitor": "loss"}}
    assert spec_from(SMALL_SPEC | changes).early_stopping.monitor == "loss"
    short = {"metrics": ["acc"], "early_stopping": {"monitor": "val_acc"}}
    assert spec_from(SMALL_SPEC | short).early_stopping.monitor == "val_accuracy"


def test_fields_of_other_kinds_are_told_where_they_belong():
    for change, says in (
        ({"input": {"text": "a"}}, "said in spec"),
        ({"output": {"uri": "s3://a/b"}}, "said in spec"),
        ({"model": "digits:3"}, "next version"),
        ({"pirority": 1}, "'priority'"),
    ):
        with pytest.raises(InvalidInput, match=says):
            read_one(SMALL | change)
    for kind in ("inference", "bulk"):
        with pytest.raises(InvalidInput, match='"kind": "training"'):
            read_one({"kind": kind, "model": "digits", "spec": {}})


def test_a_training_is_no_member_of_a_group():
    with pytest.raises(InvalidInput, match="POST /v1/jobs") as caught:
        read_many({"jobs": [{"model": "digits", "input": {"text": "a"}}, SMALL]}, most=9)
    assert [error["field"] for error in caught.value.details] == ["jobs[1].kind"]


def test_a_spec_that_is_too_long_for_its_row_is_refused():
    uris = [f"s3://in/{'a' * 1900}/{n}.csv" for n in range(200)]
    fits = put(SMALL, ("spec", "data", "uri"), uris[:100])
    assert len(payload_of(read_one(fits).training)) <= MAX_SPEC_BYTES
    with pytest.raises(TooLarge) as caught:
        read_one(put(SMALL, ("spec", "data", "uri"), uris))
    assert (caught.value.stable_code, caught.value.field) == ("input_too_long", "spec")


def test_a_too_long_architecture_is_not_even_looked_through(monkeypatch):
    monkeypatch.setattr("producers.training_networks.check_objects", pytest.fail)
    long = {**KERAS, "more": ["x" * 100] * (MAX_SPEC_BYTES // 100)}
    with pytest.raises(TooLarge, match="push the architecture as a version") as caught:
        read_one(put(SMALL, ("spec", "network"), {"keras": long}))
    assert (caught.value.stable_code, caught.value.field) == ("input_too_long", "spec.network")
