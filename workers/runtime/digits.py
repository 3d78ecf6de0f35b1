"""The demo's model: a small convolutional network for handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.runtime.framework import start

LABELS = tuple("0123456789")


def build() -> Any:
    """The network, untrained: 28 × 28 grey values from 0 to 1 in, ten probabilities out."""
    keras = start("cpu").keras
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def train(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    path: Path,
    *,
    epochs: int = 5,
    seed: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> float:
    """Train, save to ``path`` (``.keras``) and return the last epoch's training accuracy.

    ``images``: (n, 28, 28) or (n, 28, 28, 1), from 0 to 1 or from 0 to 255.
    ``on_epoch`` is told (epoch from 1, accuracy).
    """
    keras = start("cpu").keras
    keras.utils.set_random_seed(seed)
    pixels = np.asarray(images, dtype=np.float32).reshape(-1, 28, 28, 1)
    if pixels.max(initial=0.0) > 1.0:
        pixels = pixels / np.float32(255)
    model = build()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks = []
    if on_epoch is not None:
        told = on_epoch
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: told(epoch + 1, float(logs["accuracy"]))
            )
        )
    history = model.fit(
        pixels,
        np.asarray(labels, dtype=np.int64),
        batch_size=64,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )
    model.save(path)
    return float(history.history["accuracy"][-1])
