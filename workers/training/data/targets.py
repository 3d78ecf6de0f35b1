"""How a row's label is given to the loss, and how much the row counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.records.training import (
    BINARY_LOSSES,
    NUMBER_LOSSES,
    SIGNED_LOSSES,
    SPARSE_LOSSES,
    Weights,
)
from workers.training.data.trouble import bad_rule, nearest, told
from workers.training.data.values import key_of
from workers.training.ports import Target

Floats = npt.NDArray[np.float32]


def target_of(loss: str) -> Target:
    """What the loss takes. One that is not known here is given classes as one-hot."""
    for losses, target in (
        (NUMBER_LOSSES, Target.NUMBER),
        (SPARSE_LOSSES, Target.INDEX),
        (BINARY_LOSSES, Target.BINARY),
        (SIGNED_LOSSES, Target.SIGNED),
    ):
        if loss in losses:
            return target
    return Target.ONE_HOT


def targets(target: Target, labels: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Of rows with these labels (indices, or numbers); ``count`` is that of all classes."""
    match target:
        case Target.INDEX:
            return labels.astype(np.int64)
        case Target.NUMBER | Target.BINARY:
            return labels.astype(np.float32).reshape(-1, 1)
        case Target.SIGNED if count == 2:
            return (2 * labels.astype(np.float32) - 1).reshape(-1, 1)
    lower = np.float32(-1 if target is Target.SIGNED else 0)
    block = np.full((len(labels), count), lower, np.float32)
    block[np.arange(len(labels)), labels] = 1
    return block


def class_weights(
    weights: Weights, names: Sequence[str], counts: npt.NDArray[np.int64]
) -> Floats | None:
    """By class; ``counts`` are those of the rows that are trained on. None: all count 1.
    ``InvalidInput`` (``bad_preparation``) names what is no class."""
    if not weights.balanced and not weights.classes:
        return None
    if not names:
        raise bad_rule("the labels are numbers: there are no classes to weigh", "weights.classes")
    factors = np.ones(len(names))
    if weights.balanced:
        factors = counts.sum() / (len(names) * np.maximum(counts, 1))
    for name, weight in weights.classes.items():
        if name not in names:
            raise bad_rule(
                f"weights.classes names {name!r}, which is no label{nearest(name, names)}",
                "weights.classes",
            )
        factors[list(names).index(name)] *= weight
    return factors.astype(np.float32)


def group_weights(weights: Weights, words: Sequence[str]) -> Floats:
    """By a group's number; the last one is that of rows without a group. Those that nobody named
    count 1. ``InvalidInput`` (``bad_preparation``) names what is no group."""
    by_word = {word: at for at, word in enumerate(words)}
    by_key = {key_of(word): at for word, at in by_word.items()}
    factors = np.ones(len(words) + 1, np.float32)
    for name, weight in weights.groups.items():
        at = by_word.get(name, by_key.get(key_of(name)))
        if at is None:
            raise bad_rule(
                f"weights.group names {told(name)}, which is no value of its column"
                f" {told(weights.group)}{nearest(name, words)}",
                "weights.group.weights",
            )
        factors[at] = weight
    return factors
