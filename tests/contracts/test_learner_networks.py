"""What a spec may ask for: networks, losses, optimisers, metrics; and what is said otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import Named, Network
from tests.support.learner_course import layer, normalised
from tests.support.learning import columns, pictures, recipe, rows_of, spec_of, texts
from workers.runtime.learning.opening import open_learning
from workers.training.ports import Batch, Learner, OutOfMemory, Prepared, Target

pytestmark = [pytest.mark.tensorflow]


def opened(
    network: str | Network, prepared: Prepared, *loss: str | Named, **said: object
) -> Learner:
    return open_learning("cpu").open_learner(spec_of(network, *loss, **said), prepared, None)


def refused(code: str, *arguments: object, **said: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        opened(*arguments, **said)  # type: ignore[arg-type]
    assert caught.value.stable_code == code
    return caught.value


@pytest.mark.parametrize(
    ("network", "prepared", "loss", "metrics"),
    [
        (
            recipe("cnn", filters=[4], dense=[8], dropout=0.1),
            pictures(Target.ONE_HOT),
            "categorical_crossentropy",
            ("accuracy", "auc"),
        ),
        (
            recipe("dense", units=[16]),
            pictures(),
            "sparse_categorical_crossentropy",
            ("accuracy", "precision", "recall", "f1", "sparse_top_k_categorical_accuracy"),
        ),
        (
            recipe("text-average", embedding=8, units=[4]),
            texts(),
            "binary_crossentropy",
            ("accuracy", "recall", "auc"),
        ),
        (
            recipe("rnn", cell="simple", units=[6], bidirectional=True, embedding=6),
            texts(Target.INDEX),
            "sparse_categorical_crossentropy",
            ("accuracy",),
        ),
        (
            recipe("linear", l2=0.001),
            columns(Target.SIGNED, labels=("a", "b")),
            "hinge",
            ("accuracy", "f1", "auc"),
        ),
        (recipe("linear"), columns(Target.SIGNED), "squared_hinge", ("accuracy",)),
    ],
    ids=["cnn", "dense", "text-average", "rnn", "svm", "svm of three"],
)
def test_each_recipe_learns(
    network: Network, prepared: Prepared, loss: str, metrics: tuple[str, ...]
) -> None:
    learner = opened(
        network, prepared, loss, metrics=metrics, optimizer=Named("adam", {"learning_rate": 0.03})
    )
    rows = rows_of(prepared, 100)
    before = learner.loss_and_metrics([rows])
    for _ in range(12):
        learner.begin_epoch()
        steps = learner.run(rows, 16)
    assert len(steps.losses) == 7 and steps.losses.dtype == np.float32
    assert steps.metrics.keys() == set(metrics)
    after = learner.loss_and_metrics([_cut(rows, 0, 60), _cut(rows, 60, 100)])
    assert after.keys() == {"loss", *metrics}
    assert after["loss"] < before["loss"]
    assert min(value for name, value in after.items() if name != "loss") > 0.65
    assert learner.predict(rows.inputs).shape[0] == 100


def test_numbers_are_learned_and_their_errors_measured() -> None:
    prepared = columns(Target.NUMBER)
    learner = opened(
        recipe("linear"),
        prepared,
        "mean_squared_error",
        metrics=("mae", "mse", "r2"),
        optimizer=Named("sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    )
    rows = rows_of(prepared, 300)
    for _ in range(10):
        learner.run(rows, 32)
    found = learner.loss_and_metrics([rows])
    gap = learner.predict(rows.inputs) - rows.target
    assert found["mse"] == pytest.approx(float((gap**2).mean()), rel=1e-5)
    assert found["loss"] == pytest.approx(found["mse"], rel=1e-5)
    assert found["mae"] == pytest.approx(float(np.abs(gap).mean()), rel=1e-5)
    assert found["r2"] == pytest.approx(1 - (gap**2).sum() / (rows.target.var() * 300), rel=1e-4)


def test_metrics_over_an_epoch_are_those_of_all_its_steps() -> None:
    prepared = columns(labels=("a", "b", "c"))
    learner = opened("linear", prepared, metrics=("accuracy", "precision", "recall", "f1"))
    still = opened(
        "linear",
        prepared,
        metrics=("accuracy", "precision", "recall", "f1"),
        optimizer=Named("sgd", {"learning_rate": 0.0}),
    )
    rows = rows_of(prepared, 50)
    still.run(_cut(rows, 0, 30), 8)
    steps = still.run(_cut(rows, 30, 50), 8)
    said, true = still.predict(rows.inputs).argmax(-1), rows.target
    each = [
        (np.sum((said == k) & (true == k)), np.sum(said == k), np.sum(true == k)) for k in range(3)
    ]
    precision = np.mean([hit / max(1, called) for hit, called, _ in each])
    recall = np.mean([hit / is_so for hit, _, is_so in each])
    assert steps.metrics["accuracy"] == pytest.approx(np.mean(said == true))
    assert steps.metrics["precision"] == pytest.approx(precision)
    assert steps.metrics["recall"] == pytest.approx(recall)
    still.begin_epoch()
    assert still.run(_cut(rows, 0, 8), 8).metrics["accuracy"] == pytest.approx(
        np.mean(said[:8] == true[:8])
    )
    assert learner.learning_rate() == pytest.approx(0.001)


@pytest.mark.parametrize(
    "named",
    [
        Named("adam", {"beta_1": 0.8, "weight_decay": 0.01, "clipnorm": 1.0}),
        Named("adam_w", {"learning_rate": 0.01}),
        Named("SGD", {"momentum": 0.9, "nesterov": True}),
        Named("sgd", {"learning_rate": 0.1}),
        Named("adam", {"gradient_accumulation_steps": 2}),
        Named("adam_w", {"gradient_accumulation_steps": 3, "clipnorm": 1.0}),
        Named("sgd", {"momentum": 0.9, "gradient_accumulation_steps": 2}),
    ],
    ids=lambda named: named.name,
)
def test_a_fused_update_is_kerass_own(named: Named) -> None:
    learning = open_learning("cpu")
    prepared = columns(Target.ONE_HOT, weighted=True)
    rows = rows_of(prepared, 40, weighted=True)
    spec = spec_of(recipe("dense", units=[8]), "categorical_crossentropy", optimizer=named)
    ours = learning.open_learner(spec, prepared, None)
    theirs = learning.open_learner(spec, prepared, None).network  # type: ignore[attr-defined]
    theirs.set_weights(ours.network.get_weights())  # type: ignore[attr-defined]
    keras = learning.framework.keras
    kind = {"adam": "Adam", "adam_w": "AdamW"}.get(named.name, "SGD")
    optimizer = getattr(keras.optimizers, kind)(**named.arguments)
    theirs.compile(optimizer=optimizer, loss="categorical_crossentropy")
    assert rows.weights is not None
    for _ in range(3):
        ours.run(rows, 16)
        theirs.fit(
            rows.inputs["record"],
            rows.target,
            sample_weight=rows.weights,
            batch_size=16,
            shuffle=False,
            verbose=0,
        )
    for mine, other in zip(
        ours.network.get_weights(),  # type: ignore[attr-defined]
        theirs.get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_a_schedule_counts_steps() -> None:
    prepared = columns()
    learner = opened(
        "linear",
        prepared,
        optimizer=Named("sgd", {"learning_rate": 0.5}),
        schedule=Named("exponential_decay", {"decay_steps": 2, "decay_rate": 0.25}),
    )
    assert learner.learning_rate() == pytest.approx(0.5)
    learner.run(rows_of(prepared, 20), 8)
    assert learner.learning_rate() == pytest.approx(0.5 * 0.25**1.5)


def test_an_architecture_of_allowed_layers_trains_behind_the_scaling() -> None:
    prepared = pictures()
    config = normalised()
    config["config"]["layers"] = [
        layer("Flatten"),
        layer("Dense", units=3, activation="softmax"),
    ]
    learner = opened(Network(keras=config), prepared)
    rows = rows_of(prepared, 20)
    assert len(learner.run(rows, 8).losses) == 3
    assert learner.network.inputs[0].dtype == "uint8"  # type: ignore[attr-defined]


def test_an_architecture_that_does_not_fit_the_data_is_told_both_shapes() -> None:
    config = normalised()
    error = refused("shape_mismatch", Network(keras=config), columns(labels=("a", "b", "c", "d")))
    assert "[3]" in error.message and "[4]" in error.message
    asked = layer("InputLayer", batch_shape=[None, 7], dtype="float32")
    config["config"]["layers"].insert(0, asked)
    error = refused("shape_mismatch", Network(keras=config), columns())
    assert "[7]" in error.message and "[4]" in error.message
    assert error.field == "spec.network"


def test_a_network_that_cannot_take_its_rows_is_told_whatever_is_done_with_them() -> None:
    config = normalised()
    config["config"]["layers"] = [
        layer("Embedding", input_dim=4, output_dim=3),
        layer("GlobalAveragePooling1D"),
        layer("Dense", units=1, activation="sigmoid"),
    ]
    config["config"]["layers"][0]["config"]["name"] = "words"
    prepared = texts()
    learner = opened(Network(keras=config), prepared, "binary_crossentropy")
    rows = rows_of(prepared, 40)
    for call in (
        lambda: learner.run(rows, 8),
        lambda: learner.run(rows, 64),
        lambda: learner.predict(rows.inputs),
        lambda: learner.loss_and_metrics([rows]),
    ):
        with pytest.raises(InvalidInput, match=r"= 4 is not in \[0, 4\) \(at .*words") as caught:
            call()
        assert (caught.value.stable_code, caught.value.field) == ("bad_network", "spec.network")


@pytest.mark.parametrize("axis", ["x", 7])
def test_an_argument_that_shows_itself_only_in_a_step_is_told_with_its_field(axis: object) -> None:
    prepared = columns(Target.ONE_HOT)
    loss = Named("categorical_crossentropy", {"axis": axis})
    learner = opened("linear", prepared, loss)
    rows = rows_of(prepared, 20)
    for call in (lambda: learner.run(rows, 8), lambda: learner.loss_and_metrics([rows])):
        with pytest.raises(InvalidInput, match="does not fit what the network gives") as caught:
            call()
        assert (caught.value.stable_code, caught.value.field) == ("bad_loss", "spec.loss")
    halves = Named("adam", {"gradient_accumulation_steps": 2.5})
    learner = opened("linear", prepared, "categorical_crossentropy", optimizer=halves)
    with pytest.raises(InvalidInput, match=r"cannot take a step: .*2\.5") as caught:
        learner.run(rows, 8)
    assert (caught.value.stable_code, caught.value.field) == ("bad_optimizer", "spec.optimizer")


@pytest.mark.parametrize(
    "fault",
    [ZeroDivisionError("by zero"), KeyError("k"), AssertionError("no"), RecursionError("r")],
)
def test_whatever_keras_raises_as_it_builds_is_of_the_network(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(*_: object) -> None:
        raise fault

    monkeypatch.setattr("workers.runtime.learning.networks._build", fails)
    assert "cannot build" in refused("bad_network", "linear", columns()).message


def test_an_architecture_with_code_is_refused_here_as_well() -> None:
    config = normalised()
    config["config"]["layers"].insert(1, layer("Lambda", function="print"))
    error = refused("refused_layer", Network(keras=config), columns())
    assert "Lambda" in error.message and error.field == "spec.network.keras"
    config["config"]["layers"][1] = layer("Dense", units="many")
    refused("bad_network", Network(keras=config), columns())


def test_what_keras_has_not_is_named_with_the_nearest() -> None:
    prepared = columns()
    error = refused("bad_optimizer", "linear", prepared, optimizer=Named("adamm"))
    assert "'adam'" in error.message and "rmsprop" in error.message
    error = refused("bad_optimizer", "linear", prepared, optimizer=Named("adam", {"momentun": 1}))
    assert "momentun" in error.message and "ema_momentum" in error.message
    error = refused("bad_optimizer", "linear", prepared, optimizer=Named("sgd", {"momentum": 3.0}))
    assert "momentum" in error.message
    refused("bad_optimizer", "linear", prepared, optimizer=Named("sgd", {"learning_rate": "fast"}))
    error = refused("bad_loss", "linear", prepared, Named("categorical_crosentropy"))
    assert "'categorical_crossentropy'" in error.message
    refused("bad_schedule", "linear", prepared, schedule=Named("cosine_decay"))
    error = refused("bad_metric", "linear", prepared, metrics=("acuracy",))
    assert "'accuracy'" in error.message
    refused("bad_metric", "linear", columns(Target.NUMBER), "huber", metrics=("recall",))
    error = refused("bad_network", recipe("dense", unit=[3]), prepared)
    assert "'units'" in error.message and error.field == "spec.network.unit"


def test_a_network_or_loss_that_the_data_cannot_have_is_refused() -> None:
    three = columns(Target.BINARY)
    error = refused("bad_loss", "linear", three, "binary_crossentropy")
    assert "sparse_categorical_crossentropy" in error.message and "3" in error.message
    assert "data.shape" in refused("bad_network", "cnn", columns()).message
    assert "text" in refused("bad_network", "text-average", columns()).message
    assert "text-average" in refused("bad_network", "dense", texts(Target.INDEX)).message
    refused("bad_network", recipe("cnn", kernel=9), pictures())


@pytest.mark.parametrize("name", ["label", "value", "a/b", "two words"])
def test_an_input_may_be_called_anything(name: str) -> None:
    prepared = columns()
    feature = replace(prepared.features[0], name=name)
    prepared = replace(prepared, features=(feature,))
    assert len(opened("linear", prepared).run(rows_of(prepared, 8), 8).losses) == 1


def test_a_text_without_words_spoils_no_weight() -> None:
    prepared = texts()
    learner = opened("text-average", prepared, "binary_crossentropy")
    rows = rows_of(prepared, 8)
    rows.inputs["text"][3:] = 0
    assert np.isfinite(learner.run(rows, 4).losses).all()
    assert all(np.isfinite(value).all() for value in learner.weights().values())


def test_a_loss_that_is_no_number_comes_back_as_such() -> None:
    prepared = columns(labels=("a", "b"))
    metrics = ("accuracy", "auc", "f1", "categorical_accuracy")
    learner = opened("linear", prepared, metrics=metrics)
    rows = rows_of(prepared, 20)
    rows.inputs["record"][9] = np.nan
    losses = learner.run(rows, 8).losses
    assert np.isfinite(losses).tolist() == [True, False, False]


def test_rows_that_count_nothing_teach_nothing() -> None:
    prepared = columns(weighted=True)
    learner = opened("linear", prepared, optimizer=Named("sgd"))
    rows, before = rows_of(prepared, 16), learner.weights()
    learner.run(replace(rows, weights=np.zeros(16, np.float32)), 8)
    assert all(np.array_equal(before[name], value) for name, value in learner.weights().items())


def test_too_little_memory_is_told_with_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = columns()
    learner = opened("linear", prepared)
    errors = open_learning("cpu").framework.tf.errors

    def too_much(*_: object) -> None:
        raise errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(learner._steps, "whole", lambda *_: too_much)  # type: ignore[attr-defined]
    with pytest.raises(OutOfMemory, match="16 rows"):
        learner.run(rows_of(prepared, 40), 16)


def test_weights_that_do_not_fit_are_no_fault_but_told() -> None:
    with pytest.raises(OutOfMemory, match="take a smaller network") as caught:
        opened(recipe("dense", units=[10**6, 10**6]), columns())
    assert caught.value.field == "spec.network"


def test_a_whole_number_is_a_learning_rate_as_well() -> None:
    learner = opened("linear", columns(), optimizer=Named("adadelta", {"learning_rate": 1}))
    assert learner.learning_rate() == 1.0


def _cut(rows: Batch, start: int, stop: int) -> Batch:
    inputs = {name: value[start:stop] for name, value in rows.inputs.items()}
    return Batch(inputs, rows.target[start:stop], None)


def test_the_artifact_of_a_version_is_needed(tmp_path: Path) -> None:
    refused("bad_network", Network(version="digits:3"), columns())
