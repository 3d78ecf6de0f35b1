"""What a trained network is worth, on rows that it never saw.

The result is JSON. Of classes::

    {"on": "test", "rows": 500, "metrics": {"loss": 0.2, "accuracy": 0.95, …},   the spec's own
     "task": "classes", "accuracy": 0.95,
     "macro": {"precision": …, "recall": …, "f1": …}, "auc": 0.99,      each against the rest
     "labels": [{"label": "cat", "support": 40, "precision": …, "recall": …, "f1": …}, …],
     "confusion": [[38, 2], [1, 59]]}      rows are what is so, columns what was said

of two labels also ``"positive": {"label": …, "precision": …, "recall": …, "f1": …}``, of the second
one, and ``auc`` is that one's. Of numbers: ``"task": "numbers", "mse": …, "mae": …, "rmse": …,
"r2": …``. ``on`` is ``validation`` where no test rows were set aside, which ``note`` says, and None
where nothing was. ``confusion`` is None of more than 200 labels, ``auc`` where there are too many
scores to keep. No value is NaN or infinite: such are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from storage.records.training import Task, TrainingSpec
from workers.training.held_out import HeldOut
from workers.training.ports import Array, Learner, Part, Prepared, Rows, Target
from workers.training.scores import (
    auc,
    auc_macro,
    confusion,
    errors_of_numbers,
    macro,
    shares,
    tally,
)

MOST_CONFUSED = 200  # labels
_MOST_SCORES = 32 << 20  # numbers that are kept for the AUC
_NOT_TEST = (
    "no test rows were set aside (split.test is 0): these are the validation rows, which early"
    " stopping may have chosen by"
)


def evaluated(
    spec: TrainingSpec,
    rows: Rows,
    learner: Learner,
    batch_size: int,
    look: Callable[[], None],
) -> dict[str, Any]:
    """On the rows that were set aside for it, or the next best. ``look`` is called now and then,
    and may raise."""
    for part in (Part.TEST, Part.VALIDATION):
        held = HeldOut(rows, part, look)
        if held.count:
            told = evaluate(spec, held, rows.labels_of(part), learner, batch_size)
            return told if part is Part.TEST else told | {"note": _NOT_TEST}
    return nothing_held_out()


def nothing_held_out() -> dict[str, Any]:
    """The evaluation of a training that set no rows aside."""
    return {"on": None, "rows": 0, "note": "the split sets no rows aside: nothing is known"}


def evaluate(
    spec: TrainingSpec, held: HeldOut, truth: Array, learner: Learner, batch_size: int
) -> dict[str, Any]:
    """``truth``: the part's labels, as indices or numbers."""
    prepared = held.prepared
    told: dict[str, Any] = {
        "on": held.part.value,
        "rows": held.count,
        "metrics": _plain(held.loss_and_metrics(learner, batch_size)),
        "task": spec.task.value,
    }
    if spec.task is Task.NUMBERS:
        said = np.concatenate(list(held.predictions(learner, batch_size)))
        return told | _plain(errors_of_numbers(truth, said))
    threshold = threshold_of(spec, prepared)
    said_parts, kept, size = [], [], 0
    for output in held.predictions(learner, batch_size):
        said_parts.append(said_of(output, threshold))
        size += output.size
        if size <= _MOST_SCORES:
            kept.append(scores_of(spec, output))
    scores = np.concatenate(kept) if size <= _MOST_SCORES else None
    return told | of_classes(prepared, truth, np.concatenate(said_parts), scores)


def threshold_of(spec: TrainingSpec, prepared: Prepared) -> float | None:
    """Above which a single output means the second label; None where each label has its own."""
    if prepared.target is Target.BINARY:
        return 0.0 if spec.loss.arguments.get("from_logits") else 0.5
    if prepared.target is Target.SIGNED and len(prepared.labels) == 2:
        return 0.0
    return None


def said_of(output: Array, threshold: float | None) -> Array:
    """Labels' indices, int64 (rows,)."""
    flat = output.reshape(len(output), -1)
    said: Array = flat.argmax(axis=1) if threshold is None else flat[:, 0] > threshold
    return said.astype(np.int64)


def scores_of(spec: TrainingSpec, output: Array) -> Array:
    """Float64 (rows, outputs) that rows can be ranked by, label for label. Logits of several labels
    say only together how much one of them is meant: their softmax does."""
    flat = output.reshape(len(output), -1).astype(np.float64)
    loss = spec.loss
    if "categorical" not in loss.name or not loss.arguments.get("from_logits"):
        return flat
    powers = np.exp(flat - flat.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def of_classes(
    prepared: Prepared, truth: Array, said: Array, scores: Array | None
) -> dict[str, Any]:
    """See the module. ``scores``: the outputs, (rows, labels) or (rows, 1)."""
    labels, truth = prepared.labels, truth.astype(np.int64)
    found = tally(truth, said, len(labels))
    by_label = shares(found)
    each = [
        {
            "label": label,
            "support": int(found.support[index]),
            **{name: float(values[index]) for name, values in by_label.items()},
        }
        for index, label in enumerate(labels)
    ]
    few = len(labels) <= MOST_CONFUSED
    told: dict[str, Any] = {
        "accuracy": float(found.hits.sum() / max(1, len(truth))),
        "macro": macro(found),
        "auc": None if scores is None else _auc(truth, scores, len(labels)),
        "labels": each,
        "confusion": confusion(truth, said, len(labels)).tolist() if few else None,
    }
    if len(labels) == 2:
        told["positive"] = {name: each[1][name] for name in ("label", "precision", "recall", "f1")}
    return told


def _auc(truth: Array, scores: Array, labels: int) -> float | None:
    if labels == 2:
        return auc(truth == 1, _margin(scores))
    return auc_macro(truth, scores)


def _margin(scores: Array) -> Array:
    """How much more the second label is meant than the first."""
    return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]


def _plain(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {
        name: float(value) if value is not None and math.isfinite(value) else None
        for name, value in values.items()
    }
