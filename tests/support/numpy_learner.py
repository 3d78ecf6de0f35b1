"""A learner of linear regression by SGD with momentum, in numpy: exact, quick and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from storage.records.training import (
    DataFormat,
    EarlyStopping,
    Limits,
    Named,
    Network,
    TrainingData,
    TrainingSpec,
)
from tests.support.archives import HDF5, archive, input_layer, layer, sequential
from workers.training.ports import (
    Array,
    Batch,
    Feature,
    Order,
    OutOfMemory,
    Part,
    Prepared,
    Steps,
    Target,
)


def spec_of_numbers(**fields: Any) -> TrainingSpec:
    """A regression of three columns."""
    told: dict[str, Any] = {
        "data": TrainingData(uris=("forebay://files/x",), format=DataFormat.CSV),
        "network": Network(recipe="linear"),
        "loss": Named("mean_squared_error"),
        "optimizer": Named("sgd"),
        "metrics": ("mae",),
        "epochs": 4,
        "batch_size": 8,
        "seed": 5,
    }
    for name, kind in (("early_stopping", EarlyStopping), ("limits", Limits)):
        if isinstance(fields.get(name), dict):
            fields[name] = kind(**fields[name])
    return TrainingSpec(**(told | fields))


class ArrayRows:
    """Rows in memory."""

    def __init__(self, parts: Mapping[Part, tuple[Array, Array]], digest: str = "d" * 64) -> None:
        self._parts = parts
        counts = {part: len(x) for part, (x, _) in parts.items()}
        width = parts[Part.TRAIN][0].shape[1]
        self._prepared = Prepared(
            features=(Feature("columns", "float32", (width,)),),
            target=Target.NUMBER,
            labels=(),
            rows=counts,
            digest=digest,
        )
        self.taken: list[tuple[Part, list[int]]] = []
        self.closed = False

    @property
    def prepared(self) -> Prepared:
        return self._prepared

    def take(self, part: Part, order: Order) -> Batch:
        x, y = self._parts[part]
        self.taken.append((part, order.tolist()))
        return Batch({"columns": x[order]}, y[order].reshape(-1, 1), None)

    def labels_of(self, part: Part) -> Array:
        return self._parts[part][1]

    def close(self) -> None:
        self.closed = True


def rows_of_numbers(
    train: int = 50, validation: int = 20, test: int = 10, digest: str = "d" * 64
) -> ArrayRows:
    """Noisy linear data; the same for the same sizes."""
    chance = np.random.Generator(np.random.PCG64(3))

    def made(count: int) -> tuple[Array, Array]:
        x = chance.normal(size=(count, 3)).astype(np.float32)
        y = x @ np.array([1.0, -2.0, 0.5], np.float32) + 0.3
        return x, (y + chance.normal(scale=0.1, size=count)).astype(np.float32)

    return ArrayRows(
        {
            Part.TRAIN: made(train),
            Part.VALIDATION: made(validation),
            Part.TEST: made(test),
        },
        digest,
    )


@dataclass
class NumpyLearner:
    """``dropout`` draws from a generator whose state is part of the learner's."""

    width: int = 3
    feature: str = "columns"
    rate: float = 0.05
    momentum: float = 0.9
    dropout: float = 0.2
    most_rows: int | None = None  # of a step: more is out of memory
    nan_at: int | None = None  # the step whose gradient is no number
    on_step: Callable[[int], None] = lambda _: None
    groups: list[int] = field(default_factory=list)
    step_rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.w = np.zeros(self.width + 1, np.float32)
        self.velocity = np.zeros(self.width + 1, np.float32)
        self.count = np.zeros((), np.int64)
        self.mae = np.zeros(2, np.float64)
        self.chance = np.random.Generator(np.random.PCG64(11))

    def run(self, batch: Batch, batch_size: int) -> Steps:
        x, y = batch.inputs[self.feature], batch.target[:, 0]
        losses = []
        for row in range(0, len(x), batch_size):
            rows = x[row : row + batch_size]
            if self.most_rows is not None and len(rows) > self.most_rows:
                raise OutOfMemory("too many rows")
            losses.append(self._step(rows, y[row : row + batch_size]))
        self.groups.append(len(losses))
        return Steps(np.array(losses, np.float32), self._metrics())

    def _step(self, x: Array, y: Array) -> float:
        self.on_step(int(self.count) + 1)
        kept = self.chance.random(x.shape) >= self.dropout
        off = self._said(x * kept) - y
        grown = np.concatenate([x * kept, np.ones((len(x), 1), np.float32)], axis=1)
        slope = (2 * off @ grown / len(x)).astype(np.float32)
        self.count = self.count + 1
        self.step_rows.append(len(x))
        if self.nan_at is not None and self.count == self.nan_at:
            slope = slope * np.float32(np.nan)
        self.velocity = self.momentum * self.velocity - np.float32(self.rate) * slope
        self.w = self.w + self.velocity
        self.mae += [float(np.abs(off).sum()), len(off)]
        return float(np.mean(off**2))

    def _said(self, x: Array) -> Array:
        return x @ self.w[:-1] + self.w[-1]

    def _metrics(self) -> dict[str, float]:
        return {"mae": float(self.mae[0] / max(1.0, self.mae[1]))}

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        return np.asarray(self._said(inputs[self.feature])).reshape(-1, 1).astype(np.float32)

    def loss_and_metrics(self, batches: Iterable[Batch]) -> dict[str, float]:
        off = [self._said(one.inputs[self.feature]) - one.target[:, 0] for one in batches]
        every = np.concatenate(off).astype(np.float64)
        return {"loss": float(np.mean(every**2)), "mae": float(np.mean(np.abs(every)))}

    def begin_epoch(self) -> None:
        self.mae = np.zeros(2, np.float64)

    def learning_rate(self) -> float:
        return self.rate

    def state(self) -> dict[str, Array]:
        told = self.chance.bit_generator.state["state"]
        words = [int(told[name]) >> shift for name in ("state", "inc") for shift in (0, 64)]
        chance = np.array([word & (2**64 - 1) for word in words], np.uint64)
        return {
            "w": self.w.copy(),
            "velocity": self.velocity.copy(),
            "count": np.array(self.count),
            "mae": self.mae.copy(),
            "chance": chance,
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        self.w, self.velocity = state["w"].copy(), state["velocity"].copy()
        self.count, self.mae = state["count"].copy(), state["mae"].copy()
        low, high, inc_low, inc_high = (int(one) for one in state["chance"])
        self.chance.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": low | high << 64, "inc": inc_low | inc_high << 64},
            "has_uint32": 0,
            "uinteger": 0,
        }

    def weights(self) -> dict[str, Array]:
        return {"w": self.w.copy()}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        self.w = weights["w"].copy()

    def export(self, path: Path, prepared: Prepared) -> None:
        network = sequential(
            input_layer(self.feature, (None, self.width)),
            layer("Dense", name="said", units=1, activation="linear"),
        )
        path.write_bytes(archive(network, weights=HDF5 + self.w.tobytes()).getvalue())
