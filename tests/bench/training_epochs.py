"""An epoch of ours against one of Keras's own ``fit``, as fast as we could make that.

``python -m tests.bench.training_epochs [deterministic] [runs]``: the same network on the same
5,000 made-up pictures of 28 x 28, batches of 32, Adam, accuracy measured. ``fit`` is tried with
numpy arrays and with ``tf.data``, with 1, 16 and 64 steps per execution, once with XLA; the two
that were fastest in their second and third epochs run in turn with ours, and the faster one of
them is what ours is divided by. Seconds of the clock, and of the processor beside them: those do
not know of other programs on the machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from storage.records.push_options import InputForm
from storage.records.training import Network
from tests.support.learning import DIVIDED, prepared_of, spec_of
from workers.runtime.learning.opening import Learning, open_learning
from workers.training.ports import Batch, Feature, Prepared, Target

ROWS, BATCH, GROUP = 5_000, 32, 32
NETWORKS = {
    "cnn [32] pooling": Network("cnn", {"filters": [32], "dense": [128]}),
    "cnn [32, 64] pooling": Network("cnn", {"filters": [32, 64], "dense": [128]}),
    "cnn [32] without pooling": Network("cnn", {"filters": [32], "dense": [], "pooling": False}),
    "dense 128-128": Network("dense", {"units": [128, 128]}),
}
Epoch = Callable[[], tuple[float, float]]  # seconds of the clock, of the processor


def main(deterministic: bool, runs: int) -> list[dict[str, Any]]:
    """Seconds of an epoch each way, medians, and their ratio."""
    learning = open_learning(deterministic=deterministic)
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (ROWS, 28, 28, 1), dtype=np.uint8)
    labels = chance.integers(0, 10, ROWS).astype(np.int64)
    told = []
    for name, network in NETWORKS.items():
        fits = _fits(learning, network, pixels, labels, deterministic)
        first = {}
        for how, epoch in fits.items():
            epoch()
            first[how] = min(epoch()[0], epoch()[0])
        best = sorted(first, key=lambda how: first[how])[:2]
        ours = _ours(learning, network, pixels, labels)
        ours()
        taken: dict[str, list[tuple[float, float]]] = {"ours": [], **{how: [] for how in best}}
        for _ in range(runs):
            for how in best:
                taken[how].append(fits[how]())
            taken["ours"].append(ours())
        middle = {how: statistics.median(s for s, _ in times) for how, times in taken.items()}
        used = {how: statistics.median(s for _, s in times) for how, times in taken.items()}
        fit = min(best, key=lambda how: middle[how])
        told.append(
            {
                "network": name,
                "deterministic": deterministic,
                "fit": fit,
                "fit_s": round(middle[fit], 4),
                "ours_s": round(middle["ours"], 4),
                "ratio": round(middle[fit] / middle["ours"], 3),
                "processor_ratio": round(min(used[how] for how in best) / used["ours"], 3),
                "tried_s": {how: round(seconds, 3) for how, seconds in first.items()},
            }
        )
        print(json.dumps(told[-1]), flush=True)
    return told


def _ours(learning: Learning, network: Network, pixels: Any, labels: Any) -> Epoch:
    prepared = _prepared()
    learner = learning.open_learner(spec_of(network, metrics=("accuracy",)), prepared, None)
    order_of = np.random.default_rng(1)

    def epoch() -> tuple[float, float]:
        began = time.perf_counter(), time.process_time()
        order = order_of.permutation(ROWS)
        learner.begin_epoch()
        for start in range(0, ROWS, BATCH * GROUP):
            rows = order[start : start + BATCH * GROUP]
            learner.run(Batch({"image": pixels[rows]}, labels[rows], None), BATCH)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    return epoch


def _fits(
    learning: Learning, network: Network, pixels: Any, labels: Any, deterministic: bool
) -> dict[str, Epoch]:
    tf, floats = learning.framework.tf, pixels.astype(np.float32)
    found: dict[str, Epoch] = {}
    for steps in (1, 16, 64):
        for xla in (False, True) if steps == 64 and not deterministic else (False,):
            data = tf.data.Dataset.from_tensor_slices((pixels, labels)).cache()
            data = data.shuffle(ROWS).batch(BATCH).prefetch(tf.data.AUTOTUNE)
            given = {"numpy": (floats, labels), "tf.data": (data,)}
            for how, arguments in given.items():
                model = _model(learning, network)
                model.compile(
                    optimizer="adam",
                    loss="sparse_categorical_crossentropy",
                    metrics=["accuracy"],
                    steps_per_execution=steps,
                    jit_compile=xla,
                )
                name = f"fit {how}, {steps} steps per execution{', XLA' if xla else ''}"
                found[name] = _fit(model, arguments)
    return found


def _fit(model: Any, arguments: tuple[Any, ...]) -> Epoch:
    sized = {"batch_size": BATCH, "shuffle": True} if len(arguments) == 2 else {"shuffle": False}

    def epoch() -> tuple[float, float]:
        began = time.perf_counter(), time.process_time()
        model.fit(*arguments, epochs=1, verbose=0, **sized)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    return epoch


def _model(learning: Learning, network: Network) -> Any:
    """The very network that ours trains, untouched."""
    return learning.open_learner(spec_of(network), _prepared(), None).network  # type: ignore[attr-defined]


def _prepared() -> Prepared:
    feature = Feature("image", "uint8", (28, 28, 1))
    labels = tuple("0123456789")
    return prepared_of(feature, Target.INDEX, InputForm.IMAGE, labels=labels, scales=DIVIDED)


if __name__ == "__main__":
    main("deterministic" in sys.argv, int(next((a for a in sys.argv[1:] if a.isdigit()), "7")))
