"""What is learned from real data: 5,000 digits of MNIST, and tweets that are positive or negative.

The demo's specs as they are, by jobs on a full stack; measured on rows that no training saw.
"""

from __future__ import annotations

from typing import Any

from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig
from tests.bench.training_jobs import Data, Trained, train, training_stack

NAME = "training-quality"
DIGITS = Goal(0.95, 0.97, most=False)
TWEETS = Goal(0.75, 0.8, most=False)
RECALL = Goal(0.7, 0.8, most=False)
OTHERS = ("cnn-flat", "dense", "pictures")


def measure(rig: Rig) -> list[Figure]:
    """Each spec once: with its seed it always learns from the same rows."""
    data = Data(rig.folder / NAME)
    data.write_demo(quick=rig.quick)
    figures = []
    names = ("cnn",) if rig.quick else ("cnn", "tweets", *OTHERS)
    with training_stack(rig, data) as (_, caller):
        for name in names:
            model, spec = data.spec(name, **({"epochs": 2} if rig.quick else {}))
            figures += _figures(name, train(caller, model, spec))
    return figures


def _figures(name: str, made: Trained) -> list[Figure]:
    found = made.result["evaluation"]
    accuracy = round(float(found["accuracy"]), 4)
    detail: dict[str, Any] = {
        "rows": found["rows"],
        "epochs": made.result["epochs"],
        "f1": round(found["macro"]["f1"], 4),
        "auc": None if found["auc"] is None else round(found["auc"], 4),
    }
    words = f"training, {name}.yaml: test"
    if name == "cnn":
        return [DIGITS.of(NAME, f"{words} accuracy", accuracy, "", detail=detail)]
    if name != "tweets":
        return [told(NAME, f"{words} accuracy", accuracy, "", detail=detail)]
    recall = round(float(found["positive"]["recall"]), 4)
    return [
        TWEETS.of(NAME, f"{words} accuracy", accuracy, "", detail=detail),
        RECALL.of(NAME, f"{words} recall of positive ones", recall, ""),
    ]
