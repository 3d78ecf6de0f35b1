"""Plain Keras: what ``fit`` takes for an epoch of the same network on the same rows, tuned.

``python -m tests.bench.training_fit FOLDER DETERMINISTIC TRIES`` reads ``rows.npz`` (what goes into
the network and labels, for training and validation; texts are vectorised here), tries how ``fit``
is fed, how many steps it runs in one call and whether XLA compiles them, keeps the fastest, and
then runs as many epochs as each line that it reads says, answering with their seconds as JSON. Idle
it costs nothing.

The networks are the recipes of the demo's specs, by hand. Pictures come scaled, as whoever writes
such a script would have them: ours scales in every step, which is counted against it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from workers.training.child import NICENESS

VALIDATION_ROWS = 256  # of a pass; ours takes as many
TRIED_EPOCHS = 3
TOKENS, LENGTH = 20_000, 40
WAYS = [(feed, steps, False) for steps in (32, 1, 8, 64) for feed in ("arrays", "dataset")]
COMPILED = [("arrays", 32, True), ("dataset", 32, True)]  # by XLA


@dataclass(frozen=True)
class Case:
    """What one of the specs asks for."""

    layers: Callable[[], list[Any]]
    optimizer: Callable[[], Any]
    loss: str
    batch: int
    metrics: tuple[str, ...] = ("accuracy",)


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """The seconds of each epoch, its validation among them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def _cnn() -> list[Any]:
    layers = keras.layers
    return [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(10, activation="softmax"),
    ]


def _dense() -> list[Any]:
    layers = keras.layers
    return [
        keras.Input((784,)),
        layers.Dense(128, activation="relu"),
        layers.Dense(128, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]


def _tweets() -> list[Any]:
    layers = keras.layers
    return [
        keras.Input((LENGTH,), dtype="int32"),
        layers.Embedding(TOKENS, 128, mask_zero=True),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(1, activation="sigmoid"),
    ]


CASES = {
    "cnn": Case(_cnn, lambda: keras.optimizers.Adam(1e-3), "categorical_crossentropy", 32),
    "dense": Case(
        _dense, lambda: keras.optimizers.RMSprop(1e-3), "sparse_categorical_crossentropy", 64
    ),
    "tweets": Case(
        _tweets,
        lambda: keras.optimizers.Adam(1e-3),
        "binary_crossentropy",
        128,
        ("accuracy", "recall"),
    ),
}


class Fit:
    """One way to feed one model. ``data`` is ``x``, ``y`` and perhaps weights ``w``; the same with
    ``v`` before it is for validation."""

    def __init__(self, case: Case, data: dict[str, Any], way: tuple[str, int, bool]) -> None:
        feed, steps_per_call, compiled = way
        self._model = keras.Sequential(case.layers())
        weighted = "w" in data
        self._model.compile(
            case.optimizer(),
            case.loss,
            metrics=list(case.metrics),
            steps_per_execution=steps_per_call,
            jit_compile=compiled,
        )
        train = tuple(data[name] for name in (("x", "y", "w") if weighted else ("x", "y")))
        self._held_out = tuple(data[f"v{name}"] for name in ("xyw" if weighted else "xy"))
        if feed == "dataset":
            rows = tf.data.Dataset.from_tensor_slices(train).cache().shuffle(len(data["x"]))
            self._given: dict[str, Any] = {"x": rows.batch(case.batch).prefetch(tf.data.AUTOTUNE)}
        else:
            self._given = dict(zip(("x", "y", "sample_weight"), train, strict=False))
            self._given["batch_size"] = case.batch

    def epochs(self, count: int) -> list[float]:
        """What each took."""
        clock = Epochs()
        self._model.fit(
            **self._given,
            validation_data=self._held_out,
            validation_batch_size=VALIDATION_ROWS,
            epochs=count,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds


def main(folder: Path, *, deterministic: bool, tries: int) -> None:
    """Tune, then answer."""
    os.nice(max(0, NICENESS - os.nice(0)))  # as trainers: both give way to others alike
    keras.utils.set_random_seed(1)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with np.load(folder / "rows.npz") as file:
        data = {name: file[name] for name in file.files}
    case = CASES[str(data.pop("case"))]
    if data["x"].dtype.kind == "U":
        _vectorise(data)
    took: dict[str, float] = {}
    fits: dict[str, Fit] = {}
    for way in [*WAYS, *COMPILED][:tries]:
        name = f"{way[0]}, {way[1]} steps a call{', XLA' if way[2] else ''}"
        fits[name] = Fit(case, data, way)
        took[name] = min(fits[name].epochs(TRIED_EPOCHS)[1:])
    best = min(took, key=took.__getitem__)
    print(json.dumps({"best": best, "tried": took}), flush=True)
    for line in sys.stdin:
        print(json.dumps(fits[best].epochs(int(line))), flush=True)


def _vectorise(data: dict[str, Any]) -> None:
    layer = keras.layers.TextVectorization(max_tokens=TOKENS, output_sequence_length=LENGTH)
    layer.adapt(data["x"])
    for name in ("x", "vx"):
        data[name] = np.asarray(layer(data[name]), np.int32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), deterministic=sys.argv[2] == "1", tries=int(sys.argv[3]))
