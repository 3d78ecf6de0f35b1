"""Small Keras models for tests, one for each form of input. TensorFlow is imported when called.

Every builder saves to a path and returns it; weights are chosen or seeded, so that a test can say
what an answer must be.
"""

from __future__ import annotations

import tempfile
import zipfile
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


def _over_words(tokens: Any, mask: Any, keras: Any) -> Any:
    """The mean of the tokens that are there: a number each."""
    ops = keras.ops
    seen = ops.cast(tokens, "float32") * mask
    return ops.sum(seen, axis=1, keepdims=True) / ops.sum(mask, axis=1, keepdims=True)


def save_masked(path: Path) -> Path:
    """Tokens of any length and their mask to the mean of those that are not masked."""
    keras = _keras()
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = keras.Input((None,), name="mask")
    mean = keras.layers.Identity(name="mean")(_over_words(tokens, mask, keras))
    keras.Model([tokens, mask], mean).save(path)
    return path


def save_careless(path: Path) -> Path:
    """The mean of tokens of any length, padding and all: it must not be padded."""
    keras = _keras()
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    floats = keras.ops.expand_dims(keras.ops.cast(tokens, "float32"), axis=-1)
    keras.Model(tokens, keras.layers.GlobalAveragePooling1D(name="mean")(floats)).save(path)
    return path


def save_mask_zero(path: Path) -> Path:
    """Tokens to the mean of their embeddings, which is the token itself; 0 is padding."""
    keras = _keras()
    layers = keras.layers
    embedding = layers.Embedding(100, 1, mask_zero=True)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mean = layers.GlobalAveragePooling1D(name="mean")(embedding(tokens))
    model = keras.Model(tokens, mean)
    embedding.set_weights([np.arange(100, dtype=np.float32).reshape(100, 1)])
    model.save(path)
    return path


def save_tags(path: Path) -> Path:
    """Tokens of any length to two numbers for each: the token and its double."""
    keras = _keras()
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    floats = keras.ops.expand_dims(keras.ops.cast(tokens, "float32"), axis=-1)
    dense = keras.layers.Dense(2, use_bias=False, name="tags")
    model = keras.Model(tokens, dense(floats))
    dense.set_weights([np.array([[1, 2]], dtype=np.float32)])
    model.save(path)
    return path


def save_map(path: Path) -> Path:
    """Grey pictures of any size and their mask to a picture twice as bright, and the mean."""
    keras = _keras()
    ops, layers = keras.ops, keras.layers
    pixels = keras.Input((None, None, 1), name="pixels")
    mask = keras.Input((None, None, 1), name="mask")
    conv = layers.Conv2D(1, 3, padding="same", use_bias=False, name="map")
    seen = layers.Multiply()([pixels, mask])
    bright = ops.sum(seen, axis=(1, 2)) / ops.sum(mask, axis=(1, 2))
    model = keras.Model([pixels, mask], [conv(seen), layers.Identity(name="bright")(bright)])
    kernel = np.zeros((3, 3, 1, 1), dtype=np.float32)
    kernel[1, 1] = 2.0
    conv.set_weights([kernel])
    model.save(path)
    return path


def save_menace(path: Path) -> Path:
    """``x`` to ``y``, the same two numbers, unless one is among ``misbehaviour``: a SavedModel.

    What it does then no ``.keras`` file could: TensorFlow's own operations in its graph.
    """
    from tests.support import misbehaviour as bad

    _keras()
    import tensorflow as tf

    def menace(x: Any) -> Any:
        def asked(value: float) -> Any:
            return tf.reduce_any(tf.equal(x, value))

        def eat() -> Any:  # a size known only when it runs: else it is folded into the graph
            rows = tf.cast(tf.reduce_sum(tf.ones_like(x[:1, 0])) * (1 << 20), tf.int32)
            return tf.reduce_sum(tf.fill([rows, 1 << 18], x[0, 0]))

        def dawdle() -> Any:
            seconds = tf.reduce_max(tf.where(tf.equal(x[:, 0], bad.SLOW), x[:, 1], 0.0))
            until = tf.timestamp() + tf.cast(seconds, tf.float64)  # a state, so that it is computed
            turns = tf.while_loop(
                lambda _: tf.timestamp() < until, lambda turn: (turn + 1,), (tf.constant(0.0),)
            )
            return turns[0]

        def die() -> Any:
            with tf.control_dependencies([tf.raw_ops.Abort(error_msg="a test asked for it")]):
                return tf.constant(0.0)

        nothing = tf.zeros_like(x[0, 0])
        for value, act in ((bad.GREEDY, eat), (bad.SLOW, dawdle), (bad.KILLER, die)):
            nothing += 0 * tf.cond(asked(value), act, lambda: tf.constant(0.0))
        y = tf.where(tf.equal(x, bad.NAN), np.nan, x + nothing)
        sound = tf.debugging.Assert(tf.logical_not(asked(bad.POISON)), ["poison"])
        with tf.control_dependencies([sound]):
            y = tf.identity(y)
        y = tf.cond(asked(bad.FEWER), lambda: y[1:], lambda: y)
        return tf.cond(asked(bad.WIDER), lambda: tf.concat([y, y], axis=1), lambda: y)

    return _save_module(path, menace)


def save_fickle(path: Path) -> Path:
    """``x`` to ``y``, but seven answers to eight rows: a SavedModel."""
    _keras()
    import tensorflow as tf

    def fickle(x: Any) -> Any:
        return tf.cond(tf.equal(tf.shape(x)[0], 8), lambda: x[1:], lambda: x)

    return _save_module(path, fickle)


def save_crowded(path: Path) -> Path:
    """``x`` to ``y``; four rows and more need terabytes: a SavedModel."""
    _keras()
    import tensorflow as tf

    def crowded(x: Any) -> Any:
        rows = tf.shape(x)[0] // 4 * (1 << 20)
        return x + 0 * tf.reduce_sum(tf.fill([rows, 1 << 18], x[0, 0]))

    return _save_module(path, crowded)


def _save_module(path: Path, compute: Any) -> Path:
    """A function of two float32 a row, as a zipped SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec((None, 2), tf.float32, name="x")
    module.serve = tf.function(lambda x: {"y": compute(x)}, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, file.relative_to(folder))
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
