"""Where a training stands: with the learner's state, all that going on depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from storage.records.training import TrainingSpec
from workers.training.ports import Array, Order
from workers.training.stopping import Patience


class End(StrEnum):
    """Why a training is over."""

    EPOCHS = "epochs"  # all of them
    EARLY = "early"  # nothing got better
    MAX_S = "max_s"
    MAX_STEPS = "max_steps"


@dataclass(frozen=True, slots=True)
class Position:
    """Between two steps. JSON numbers keep every bit of it."""

    batch_size: int
    epoch: int = 0  # whole epochs behind it
    step: int = 0  # steps behind it, over the whole training
    row: int = 0  # rows of this epoch behind it
    loss_sum: float = 0.0  # of this epoch: each step's loss times its rows, added in their order
    loss_rows: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)  # over this epoch so far
    epoch_s: float = 0.0  # of this epoch
    trained_s: float = 0.0  # by all who worked at it
    patience: Patience = field(default_factory=Patience)
    ended: End | None = None
    checkpoints: int = 0  # made before it

    def to_json(self) -> dict[str, Any]:
        """What ``position_of`` reads."""
        return asdict(self)


def position_of(told: Mapping[str, Any]) -> Position:
    """What ``to_json`` told; ``TypeError``, ``ValueError`` or ``KeyError`` for anything else."""
    ended = told["ended"]
    return Position(
        **{
            **told,
            "patience": Patience(**told["patience"]),
            "ended": None if ended is None else End(ended),
        }
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy that nobody changes any more."""

    at: Position
    state: Mapping[str, Array]
    best: Mapping[str, Array] | None  # weights of the best epoch, where they are kept


def order_of(seed: int, epoch: int, rows: int) -> Order:
    """The rows' order in an epoch (from 0): it depends on nothing else."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


def steps_left(at: Position, rows: int, epochs: int) -> int:
    """Steps until the last epoch's end."""
    if at.ended is not None or at.epoch >= epochs:
        return 0
    size = at.batch_size
    return -(-(rows - at.row) // size) + (epochs - at.epoch - 1) * -(-rows // size)


def spec_digest(spec: TrainingSpec) -> str:
    """SHA-256 hex of all that is asked for."""
    told = json.dumps(asdict(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()
