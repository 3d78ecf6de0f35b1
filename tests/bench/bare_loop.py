"""The least that serving photographs costs: decode, stack, forward, in one process and no more.

``python -m tests.bench.bare_loop build FOLDER PHOTOGRAPH…`` saves a MobileNetV2 with seeded
weights and what it answers to each photograph. ``… time FOLDER SECONDS BATCH:THREADS… --
PHOTOGRAPH…`` prints rows/s of the loop at each batch size and number of decoding threads (0: the
loop decodes itself). A process of its own with TensorFlow's own choice of threads, as a worker.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

SIDE, CLASSES, SEED = 224, 1_000, 20_240_615
SCALE, MEAN = 1 / 127.5, 1.0  # what MobileNetV2 was trained on: -1 to 1
SPREAD = 3.0  # of the logits over photographs: seeded weights alone tell none from another
MODEL, ANSWERS = "mobilenet.keras", "answers.npy"


def decode(data: bytes) -> Any:
    """As the signature says: upright, RGB, stretched bilinearly, scaled."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        small = upright.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small, dtype=np.float32) * np.float32(SCALE) - np.float32(MEAN)


def traced(model: Any) -> Any:
    """One function for every batch size."""
    import tensorflow as tf

    spec = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32)]
    function = tf.function(lambda rows: model(rows, training=False), input_signature=spec)
    concrete = function.get_concrete_function()
    return lambda rows: concrete(tf.constant(rows)).numpy()


def build(folder: Path, photographs: list[bytes]) -> None:
    """The model, its last layer stretched so that photographs get different labels."""
    import keras

    keras.utils.set_random_seed(SEED)
    model = keras.applications.MobileNetV2(
        (SIDE, SIDE, 3), weights=None, classes=CLASSES, classifier_activation=None
    )
    rows = np.stack([decode(data) for data in photographs])
    head = model.layers[-1]
    logits = traced(model)(rows)
    factor = SPREAD / logits.std(axis=0).mean()
    kernel, bias = head.get_weights()
    head.set_weights([kernel * factor, bias - logits.mean(axis=0) * factor])
    scores = keras.layers.Softmax(name="scores")(model.output)
    classifier = keras.Model(model.input, scores)
    classifier.save(folder / MODEL)
    np.save(folder / ANSWERS, traced(classifier)(rows))


class Loop:
    """Batches of photographs through the model, over and over."""

    def __init__(self, folder: Path, photographs: list[bytes]) -> None:
        import keras

        self._forward = traced(keras.saving.load_model(folder / MODEL, compile=False))
        self._photographs = photographs
        self._answers = np.load(folder / ANSWERS)

    def rows_per_s(self, batch: int, threads: int, seconds: float) -> float:
        """After one batch that is not counted; every answer is looked at when time is up."""
        made: list[tuple[list[int], Any]] = []
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            batches = self._ahead(batch, pool) if threads else self._here(batch)
            self._one(next(batches), made)
            began = time.perf_counter()
            while time.perf_counter() - began < seconds or len(made) < 3:
                self._one(next(batches), made)
            took = time.perf_counter() - began
            pool.shutdown(wait=False, cancel_futures=True)
        for which, answers in made:
            if not np.allclose(answers, self._answers[which], atol=1e-3):
                raise AssertionError("the loop's answers are wrong")
        return (len(made) - 1) * batch / took

    def _one(self, batch: tuple[list[int], Any], made: list[tuple[list[int], Any]]) -> None:
        which, rows = batch
        made.append((which, self._forward(np.stack(rows))))

    def _orders(self, batch: int) -> Iterator[list[int]]:
        order = itertools.cycle(range(len(self._photographs)))
        while True:
            yield list(itertools.islice(order, batch))

    def _here(self, batch: int) -> Iterator[tuple[list[int], Any]]:
        for which in self._orders(batch):
            yield which, [decode(self._photographs[one]) for one in which]

    def _ahead(self, batch: int, pool: ThreadPoolExecutor) -> Iterator[tuple[list[int], Any]]:
        """One batch is decoded while another is computed."""

        def start(which: list[int]) -> tuple[list[int], list[Future[Any]]]:
            return which, [pool.submit(decode, self._photographs[one]) for one in which]

        orders = self._orders(batch)
        coming = start(next(orders))
        for following in orders:
            which, rows = coming
            coming = start(following)
            yield which, [row.result() for row in rows]


def main() -> None:
    """See the module's own words."""
    verb, folder, *rest = sys.argv[1:]
    if verb == "build":
        build(Path(folder), [Path(name).read_bytes() for name in rest])
        return
    seconds, *rest = rest
    at = rest.index("--")
    loop = Loop(Path(folder), [Path(name).read_bytes() for name in rest[at + 1 :]])
    found = {}
    for setting in rest[:at]:
        batch, threads = map(int, setting.split(":"))
        found[setting] = loop.rows_per_s(batch, threads, float(seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
