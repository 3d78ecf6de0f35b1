"""Small Keras models for tests, one for each form of input. TensorFlow is imported when called.

Every builder saves to a path and returns it; weights are chosen or seeded, so that a test can say
what an answer must be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["good", "bad", "fine", "awful"]


def _keras() -> Any:
    from workers.runtime.framework import start

    return start("cpu").keras


def save_echo(path: Path, width: int = 2) -> Path:
    """The output is the input: ``width`` float64, which hold every integer up to 2^53."""
    keras = _keras()
    echo = keras.layers.Identity(name="echo", dtype="float64")
    model = keras.Sequential([keras.Input((width,), dtype="float64", name="id"), echo])
    model.save(path)
    return path


def save_digits(path: Path, seed: int = 0) -> Path:
    """The demo's network, untrained."""
    from workers.runtime.digits import build

    _keras().utils.set_random_seed(seed)
    build().save(path)
    return path


def save_two_inputs(path: Path) -> Path:
    """``left`` (3 float32) and ``right`` (2 int32) to ``total`` (their sum) and ``both``."""
    keras = _keras()
    left = keras.Input((3,), name="left")
    right = keras.Input((2,), dtype="int32", name="right")
    floats = keras.ops.cast(right, "float32")
    both = keras.layers.Concatenate(name="both")([left, floats])
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="total")(both)
    model = keras.Model({"left": left, "right": right}, {"total": total, "both": both})
    model.save(path)
    return path


def save_text(path: Path) -> Path:
    """Raw text to one score: the mean of its known words, good and fine 1, bad and awful 0.

    The mask is what makes padding not count.
    """
    keras = _keras()
    layers = keras.layers
    words = layers.TextVectorization(max_tokens=8, output_sequence_length=6)
    words.adapt(WORDS)
    embedding = layers.Embedding(8, 1, mask_zero=True)
    model = keras.Sequential(
        [
            keras.Input((), dtype="string", name="text"),
            words,
            embedding,
            layers.GlobalAveragePooling1D(),
            layers.Activation("linear", name="score"),
        ]
    )
    weights = np.zeros((8, 1), dtype=np.float32)
    for word in ("good", "fine"):
        weights[words.get_vocabulary().index(word)] = 1.0
    embedding.set_weights([weights])
    model.save(path)
    return path


def save_tabular(path: Path) -> Path:
    """Three numbers, normalised by the model itself, to two logits (named in ``TABULAR``)."""
    keras = _keras()
    layers = keras.layers
    scale = layers.Normalization(mean=[10.0, 20.0, 30.0], variance=[4.0, 4.0, 4.0])
    head = layers.Dense(2, use_bias=False, name="logits")
    model = keras.Sequential([keras.Input((3,), name="features"), scale, head])
    head.set_weights([np.array([[1, -1], [1, -1], [1, -1]], dtype=np.float32)])
    model.save(path)
    return path


def save_mixing(path: Path) -> Path:
    """Subtracts the mean of its batch: a row's answer depends on its neighbours."""
    keras = _keras()
    rows = keras.Input((2,), name="rows")
    model = keras.Model(rows, rows - keras.ops.mean(rows, axis=0, keepdims=True))
    model.save(path)
    return path


def save_flattening(path: Path) -> Path:
    """Gives three rows for each of its rows."""
    keras = _keras()
    rows = keras.Input((3,), name="rows")
    model = keras.Model(rows, keras.ops.reshape(rows, (-1, 1)))
    model.save(path)
    return path


def save_lambda(path: Path) -> Path:
    """Holds code: must be refused before Keras sees it."""
    keras = _keras()
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1, name="sneaky")]
    )
    model.save(path)
    return path
