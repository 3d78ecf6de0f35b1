"""What a training leaves behind is served as any pushed version, and can be trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.keras_archive import inspect_archive
from storage.records.models import ModelVersion
from storage.records.signatures import build_signature
from storage.records.training import Network
from tests.contracts.test_runtime import version_of
from tests.support import models
from tests.support.learning import (
    LABELS,
    TEXT,
    WORDS,
    columns,
    pictures,
    recipe,
    rows_of,
    spec_of,
    texts,
)
from workers.inference.ports import Array
from workers.runtime.keras_runtime import KerasRuntime
from workers.runtime.learning.opening import open_learning
from workers.training.ports import Learner, Prepared, Scale, Target

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def trained(network: Network, prepared: Prepared, loss: str, path: Path) -> Learner:
    learner = open_learning("cpu").open_learner(spec_of(network, loss), prepared, None)
    learner.run(rows_of(prepared, 40), 8)
    learner.export(path, prepared)
    return learner


def served(path: Path, prepared: Prepared, given: Array) -> tuple[ModelVersion, Array]:
    """What the runtime answers to one input, after the looks that every push gets."""
    with path.open("rb") as file:
        report = inspect_archive(file)
    signature = build_signature(
        report.inputs, prepared.options, rescales_itself=report.rescales_itself
    )
    version = replace(version_of(report.inputs), signature=signature.to_json())
    model = KerasRuntime(max_batch=64).load(version, path)
    (output,) = model.forward({report.inputs[0].name: given}).values()
    return version, output


@pytest.mark.parametrize("network", ["text-average", "rnn"])
def test_a_text_model_takes_raw_text(network: str, tmp_path: Path) -> None:
    prepared, path = texts(), tmp_path / "m.keras"
    learner = trained(recipe(network, embedding=4), prepared, "binary_crossentropy", path)
    raw = ["good", "Bad, fine!", "", "unheard of good", "poor poor poor poor poor poor poor"]
    ids = open_learning("cpu").vectorizer_of(TEXT).apply(WORDS, raw)
    version, output = served(path, prepared, np.array(raw, dtype=object))
    np.testing.assert_allclose(output, learner.predict({"text": ids}), rtol=0, atol=1e-6)
    assert [spec["name"] for spec in version.signature["inputs"]] == ["text"]  # type: ignore


def test_pictures_come_as_they_are_and_are_scaled_inside(tmp_path: Path) -> None:
    prepared, path = pictures(), tmp_path / "m.keras"
    learner = trained(
        recipe("cnn", filters=[4], dense=[]), prepared, "sparse_categorical_crossentropy", path
    )
    rows = rows_of(prepared, 8, seed=2)
    version, output = served(path, prepared, rows.inputs["image"])
    np.testing.assert_allclose(output, learner.predict(rows.inputs), rtol=0, atol=1e-6)
    assert version.signature["image"]["scale"] == 1.0  # type: ignore[index]
    assert version.signature["labels"] == list(LABELS)


def test_columns_far_from_zero_are_scaled_inside_without_loss(tmp_path: Path) -> None:
    scale = Scale(np.array([1e6, 0, 5, 5], np.float32), np.array([0.5, 1, 0, 2], np.float32))
    prepared, path = columns(scales={"record": scale}), tmp_path / "m.keras"
    learner = trained(recipe("linear"), prepared, "sparse_categorical_crossentropy", path)
    rows = rows_of(prepared, 8).inputs["record"] + scale.offset
    _, output = served(path, prepared, rows)
    np.testing.assert_allclose(output, learner.predict({"record": rows}), rtol=0, atol=1e-6)
    plain = open_learning("cpu").open_learner(spec_of("linear"), columns(), None)
    plain.set_weights(learner.weights())
    by_hand = plain.predict({"record": (rows - scale.offset) * scale.factor})
    np.testing.assert_allclose(output, by_hand, rtol=0, atol=1e-5)


def test_a_scale_that_a_version_has_no_use_for_is_said_to_be_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own is part of what it has learned; one in its middle scales no input."""
    keras = open_learning("cpu").framework.keras
    scale = Scale(np.zeros(4, np.float32), np.full(4, 0.5, np.float32))
    prepared = columns(scales={"record": scale})
    spec = spec_of(Network(version="m:1"))
    for first, uses in ((True, False), (False, True)):
        own, dense = keras.layers.Rescaling(2.0), keras.layers.Dense(4, activation="relu")
        inner = [own, dense] if first else [dense, own]
        model = keras.Sequential([keras.Input((4,)), *inner, keras.layers.Dense(3, "softmax")])
        path = tmp_path / f"{first}.keras"
        model.save(path)
        caplog.clear()
        learner = open_learning("cpu").open_learner(spec, prepared, path)
        rows = rows_of(prepared, 8).inputs["record"]
        expected = model(rows * 0.5 if uses else rows)
        np.testing.assert_allclose(learner.predict({"record": rows}), expected, rtol=1e-5)
        assert ("prepare.scale is not used" in caplog.text) is not uses


def test_a_version_goes_on_from_its_weights_and_is_not_scaled_twice(tmp_path: Path) -> None:
    prepared, path = pictures(), tmp_path / "m.keras"
    loss = "sparse_categorical_crossentropy"
    learner = trained(recipe("cnn", filters=[4], dense=[8]), prepared, loss, path)
    rows = rows_of(prepared, 16, seed=3)
    again = Network(version="m:1", frozen_layers=2)
    tuned = open_learning("cpu").open_learner(spec_of(again, loss), prepared, path)
    np.testing.assert_array_equal(tuned.predict(rows.inputs), learner.predict(rows.inputs))
    before = tuned.weights()
    tuned.run(rows, 8)
    same = [np.array_equal(before[name], value) for name, value in tuned.weights().items()]
    assert same == [True] * 4 + [False] * 2
    tuned.export(tmp_path / "n.keras", prepared)
    _, output = served(tmp_path / "n.keras", prepared, rows.inputs["image"])
    np.testing.assert_allclose(output, tuned.predict(rows.inputs), rtol=0, atol=1e-6)
    four = pictures(labels=("a", "b", "c", "d"))
    with pytest.raises(InvalidInput) as caught:
        open_learning("cpu").open_learner(spec_of(again, loss), four, path)
    assert caught.value.stable_code == "shape_mismatch" and "4 labels" in caught.value.message


def test_a_text_version_keeps_its_words_over_generations(tmp_path: Path) -> None:
    learning, prepared, path = open_learning("cpu"), texts(), tmp_path / "m.keras"
    loss = "binary_crossentropy"
    learner = trained(recipe("text-average", embedding=4), prepared, loss, path)
    own = learning.vectorizer_of_version(path)(TEXT)
    assert own.learn(lambda: [["other words"]]) == WORDS
    rows, again = rows_of(prepared, 16), Network(version="m:1")
    for _ in range(2):
        tuned = learning.open_learner(spec_of(again, loss), prepared, path)
        np.testing.assert_array_equal(tuned.predict(rows.inputs), learner.predict(rows.inputs))
        tuned.run(rows, 8)
        tuned.export(path, prepared)
        learner = tuned
    other = replace(prepared, vocabulary=("good", "else"))
    with pytest.raises(InvalidInput, match="vocabulary"):
        learning.open_learner(spec_of(again, loss), other, path)
    shorter = replace(prepared, text=replace(TEXT, length=4))
    with pytest.raises(InvalidInput, match="length"):
        learning.open_learner(spec_of(again, loss), shorter, path)


def test_a_pushed_model_that_takes_scaled_values_gets_them(tmp_path: Path) -> None:
    keras = open_learning("cpu").framework.keras
    path = models.save_digits(tmp_path / "d.keras")
    prepared = pictures(labels=tuple("0123456789"))
    prepared = replace(prepared, features=(replace(prepared.features[0], shape=(28, 28, 1)),))
    spec = spec_of(Network(version="digits:1"))
    tuned = open_learning("cpu").open_learner(spec, prepared, path)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    theirs = keras.saving.load_model(path)(pixels.astype(np.float32) / 255).numpy()
    np.testing.assert_allclose(tuned.predict({"image": pixels}), theirs, rtol=0, atol=1e-6)


def test_an_unsafe_artifact_is_refused(tmp_path: Path) -> None:
    path = models.save_lambda(tmp_path / "lambda.keras")
    spec = spec_of(Network(version="m:1"), "mean_squared_error")
    with pytest.raises(InvalidInput) as caught:
        open_learning("cpu").open_learner(spec, columns(Target.NUMBER), path)
    assert caught.value.stable_code == "refused_layer"
