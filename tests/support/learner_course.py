"""Some steps of several small trainings in a process of its own, to be compared with others.

``python -m tests.support.learner_course OUT FROM TO GROUP [STATE]``: steps FROM to TO (of 12) in
calls of GROUP steps, beginning with the state that an earlier process left in STATE. Every state
is written to OUT, with the losses: one ``.npz``, no pickle.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from storage.records.training import Named, Network, TrainingSpec
from tests.support.learning import columns, pictures, recipe, rows_of, spec_of, texts
from workers.training.ports import Batch, Prepared, Target

BATCH, STEPS = 8, 12
LAYERS = "keras.layers"


def trainings() -> dict[str, tuple[TrainingSpec, Prepared]]:
    """Networks with everything that has a state of its own."""
    decay = Named("cosine_decay", {"decay_steps": 10})
    return {
        "cnn": (
            spec_of(recipe("cnn", filters=[4], dense=[8], dropout=0.4), metrics=("accuracy",)),
            pictures(),
        ),
        "text": (
            spec_of(
                recipe("text-average", embedding=8, units=[8], dropout=0.4),
                "binary_crossentropy",
                optimizer=Named("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
                metrics=("accuracy", "auc"),
            ),
            texts(),
        ),
        "normalised": (
            spec_of(
                Network(keras=normalised()),
                "categorical_crossentropy",
                optimizer=Named("rmsprop", {"momentum": 0.5}),
                schedule=decay,
                metrics=("categorical_crossentropy",),
                deterministic=True,
            ),
            columns(Target.ONE_HOT, weighted=True),
        ),
        "numbers": (
            spec_of(
                "linear",
                "mean_squared_error",
                metrics=("mae", "mse", "r2"),
                deterministic=True,
            ),
            columns(Target.NUMBER),
        ),
    }


def normalised() -> dict[str, Any]:
    """A Sequential with batch normalisation and dropout, as Keras writes it."""
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "own",
            "layers": [
                layer("Dense", units=8, activation="relu"),
                layer("BatchNormalization"),
                layer("Dropout", rate=0.3),
                layer("Dense", units=3, activation="softmax"),
            ],
        },
        "registered_name": "Sequential",
    }


def layer(name: str, **config: Any) -> dict[str, Any]:
    """One layer in Keras's own spelling."""
    return {"module": LAYERS, "class_name": name, "config": config, "registered_name": None}


def main(out: Path, first: int, last: int, group: int, state: Path | None) -> None:
    """Take the steps and write what came of them."""
    from workers.runtime.learning.opening import open_learning

    learning = open_learning("cpu", deterministic=True)
    before = {} if state is None else dict(np.load(state, allow_pickle=False))
    found = {}
    for name, (spec, prepared) in trainings().items():
        learner = learning.open_learner(spec, prepared, None)
        if before:
            own = {k.split("|")[1]: v for k, v in before.items() if k.startswith(f"{name}|")}
            own.pop("losses")
            learner.restore(own)
        rows = rows_of(prepared, BATCH * STEPS - 3, weighted=prepared.weighted)
        losses = []
        for step in range(first, last, group):
            some = slice(step * BATCH, min(step + group, last) * BATCH)
            losses.append(learner.run(_cut(rows, some), BATCH).losses)
        found |= {f"{name}|{key}": value for key, value in learner.state().items()}
        found[f"{name}|losses"] = np.concatenate(losses)
    np.savez(out, **found)


def _cut(rows: Batch, some: slice) -> Batch:
    weights = None if rows.weights is None else rows.weights[some]
    return Batch({k: v[some] for k, v in rows.inputs.items()}, rows.target[some], weights)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        *map(int, sys.argv[2:5]),
        Path(sys.argv[5]) if len(sys.argv) > 5 else None,
    )
