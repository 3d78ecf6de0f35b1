"""Small data and specs for tests of the learners; TensorFlow starts when ``learning`` is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from storage.records.push_options import InputForm, PushOptions
from storage.records.training import Named, Network, TextPreparation, TrainingData, TrainingSpec
from workers.training.ports import Array, Batch, Feature, Part, Prepared, Scale, Target

LABELS = ("ant", "bee", "cat")
WORDS = ("good", "bad", "fine", "poor")
TEXT = TextPreparation(max_tokens=100, length=6)
DIVIDED = {"image": Scale(np.float32(0), np.float32(1 / 255))}  # type: ignore[dict-item]


def spec_of(
    network: str | Network = "dense",
    loss: str | Named = "sparse_categorical_crossentropy",
    **said: Any,
) -> TrainingSpec:
    """A spec with nothing of data in it. ``network``: a recipe, or the whole."""
    return TrainingSpec(
        data=TrainingData(uris=("file:x",)),
        network=Network(recipe=network) if isinstance(network, str) else network,
        loss=Named(loss) if isinstance(loss, str) else loss,
        **{"seed": 7, **said},
    )


def recipe(name: str, **arguments: Any) -> Network:
    """A recipe with arguments."""
    return Network(recipe=name, arguments=arguments)


def pictures(target: Target = Target.INDEX, **said: Any) -> Prepared:
    """8 x 8 grey pictures of three labels."""
    return prepared_of(
        Feature("image", "uint8", (8, 8, 1)), target, InputForm.IMAGE, scales=DIVIDED, **said
    )


def columns(target: Target = Target.INDEX, width: int = 4, **said: Any) -> Prepared:
    """Vectors of numbers."""
    feature = Feature("record", "float32", (width,))
    return prepared_of(feature, target, InputForm.TENSOR, **said)


def texts(target: Target = Target.BINARY, **said: Any) -> Prepared:
    """Texts of six tokens, good or bad."""
    said = {"labels": ("no", "yes"), **said}
    feature = Feature("text", "int32", (TEXT.length,))
    return prepared_of(feature, target, InputForm.TEXT, text=TEXT, vocabulary=WORDS, **said)


def prepared_of(feature: Feature, target: Target, form: InputForm, **said: Any) -> Prepared:
    """``Prepared`` of one input."""
    labels = said.pop("labels", () if target is Target.NUMBER else LABELS)
    options = PushOptions(input=form, labels=labels)
    rows = {Part.TRAIN: 100, Part.VALIDATION: 10, Part.TEST: 10}
    return Prepared((feature,), target, labels, rows, options=options, **said)


def rows_of(prepared: Prepared, count: int, seed: int = 0, *, weighted: bool = False) -> Batch:
    """Made-up rows whose label can be told by their first numbers."""
    chance = np.random.default_rng(seed)
    labels = max(2, len(prepared.labels))
    truth = chance.integers(0, labels, count)
    inputs: dict[str, Array] = {}
    for feature in prepared.features:
        shape = (count, *feature.shape)
        if feature.dtype == "uint8":
            values: Array = chance.integers(0, 100, shape, dtype=np.uint8)
            values[np.arange(count), truth] = 250
        elif feature.dtype == "int32":
            values = chance.integers(4, 6, shape, dtype=np.int32)
            values[:, 0] = 2 + truth
            values[:, 4:] = 0
        else:
            values = chance.normal(size=shape).astype(np.float32)
            values[:, 0] += 3 * truth
        inputs[feature.name] = values
    weights = chance.random(count).astype(np.float32) if weighted else None
    return Batch(inputs, _target(prepared.target, truth, labels), weights)


def _target(target: Target, truth: Array, labels: int) -> Array:
    one_hot = np.eye(labels, dtype=np.float32)[truth]
    made: Mapping[Target, Array] = {
        Target.INDEX: truth.astype(np.int64),
        Target.ONE_HOT: one_hot,
        Target.BINARY: truth.astype(np.float32)[:, None],
        Target.SIGNED: 2 * (truth.astype(np.float32)[:, None] if labels == 2 else one_hot) - 1,
        Target.NUMBER: truth.astype(np.float32)[:, None] * 10,
    }
    return made[target]
