"""Plain Keras: what ``fit`` takes for an epoch of the same network on the same rows, tuned.

``python -m tests.bench.training_fit FOLDER DETERMINISTIC`` reads ``rows.npz`` (scaled float32
pictures and one-hot labels for training and validation), tries how ``fit`` is fed and how many
steps it runs in one call, keeps the fastest, and then runs as many epochs as each line that it
reads says, answering with their seconds as JSON. Idle it costs nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

READY = "ready"
BATCH = 32
STEPS_PER_CALL = (1, 8, 32, 64)
TRIED_EPOCHS = 3


class Epochs(keras.callbacks.Callback):  # type: ignore[misc,name-defined]
    """The seconds of each epoch, its validation among them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def network() -> Any:
    """The recipe of the demo's ``cnn.yaml``, by hand; pictures come scaled."""
    layers = keras.layers
    return keras.Sequential(
        [
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
    )


class Fit:
    """One way to feed one model."""

    def __init__(self, data: dict[str, Any], steps_per_call: int, feed: str) -> None:
        self._model = network()
        self._model.compile(
            keras.optimizers.Adam(1e-3),
            "categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=steps_per_call,
            jit_compile=False,
        )
        self._feed, self._data = feed, data
        self._dataset = None
        if feed == "dataset":
            rows = tf.data.Dataset.from_tensor_slices((data["x"], data["y"]))
            self._dataset = rows.cache().shuffle(len(data["x"])).batch(BATCH).prefetch(4)

    def epochs(self, count: int) -> list[float]:
        """What each took."""
        clock, data = Epochs(), self._data
        common = {"epochs": count, "verbose": 0, "callbacks": [clock]}
        held_out = {"validation_data": (data["vx"], data["vy"]), "validation_batch_size": 256}
        if self._dataset is not None:
            self._model.fit(self._dataset, **held_out, **common)
        else:
            self._model.fit(data["x"], data["y"], batch_size=BATCH, **held_out, **common)
        return clock.seconds


def main(folder: Path, *, deterministic: bool) -> None:
    """Tune, then answer."""
    keras.utils.set_random_seed(1)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    with np.load(folder / "rows.npz") as file:
        data = {name: file[name] for name in file.files}
    ways = {
        f"{feed}, {steps} steps a call": _made(data, steps, feed)
        for steps, feed in product(STEPS_PER_CALL, ("arrays", "dataset"))
    }
    took: dict[str, float] = {}
    for name, make in ways.items():
        took[name] = min(make().epochs(TRIED_EPOCHS)[1:])
    best = min(took, key=took.__getitem__)
    fit = ways[best]()
    fit.epochs(1)
    print(READY, flush=True)
    print(json.dumps({"best": best, "tried": took}), flush=True)
    for line in sys.stdin:
        print(json.dumps(fit.epochs(int(line))), flush=True)


def _made(data: dict[str, Any], steps: int, feed: str) -> Callable[[], Fit]:
    return lambda: Fit(data, steps, feed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), deterministic=sys.argv[2] == "1")
