"""What the parts of a training hand each other. None of them knows another but by these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from storage.records.errors import ForebayError
from storage.records.push_options import PushOptions
from storage.records.training import TextPreparation, TrainingSpec

Array: TypeAlias = npt.NDArray[Any]
Order: TypeAlias = npt.NDArray[np.int64]


class Part(StrEnum):
    """Which rows of a split."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Target(StrEnum):
    """How a row's label is given to the loss."""

    INDEX = "index"  # int64, shape (): of the label
    ONE_HOT = "one_hot"  # float32, shape (labels,)
    BINARY = "binary"  # float32, shape (1,): 0 or 1
    SIGNED = "signed"  # float32, shape (1,) for two labels, else (labels,): -1 or 1
    NUMBER = "number"  # float32, shape (1,)


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the network, without the batch axis, as the rows are kept: pictures as uint8,
    texts as int32 token ids, columns as one float32 vector."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """What is done to an input inside the network, first of all: ``(x - offset) * factor``."""

    offset: Array  # float32, of the input's last axis or ()
    factor: Array


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a network and its serving have to know of the data. JSON but for the arrays."""

    features: tuple[Feature, ...]
    target: Target
    labels: tuple[str, ...]  # of classes, by index; empty for numbers
    rows: Mapping[Part, int]
    scales: Mapping[str, Scale] = field(default_factory=dict)  # by input
    text: TextPreparation | None = None
    vocabulary: tuple[str, ...] = ()  # of texts: id = index + 2
    options: PushOptions = field(default_factory=PushOptions)  # the version's signature
    digest: str = ""  # SHA-256 hex of all that is learned and kept: equal data, equal digest
    note: Mapping[str, Any] = field(default_factory=dict)  # files with digests, dropped rows, …
    weighted: bool = False  # whether rows count differently


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in a given order."""

    inputs: Mapping[str, Array]  # by feature
    target: Array
    weights: Array | None  # float32, (rows,); None where all count 1


class Rows(Protocol):
    """The prepared rows, kept on this machine; in memory only as far as a budget goes."""

    @property
    def prepared(self) -> Prepared: ...

    def take(self, part: Part, order: Order) -> Batch:
        """Rows of a part, by their number in it (0 … rows - 1), in the order asked for."""
        ...

    def labels_of(self, part: Part) -> Array:
        """Every row's target, as labels' indices (int64) or numbers (float32)."""
        ...

    def close(self) -> None: ...


class Vectorizer(Protocol):
    """Texts to token ids, by the very layer that will serve."""

    def learn(self, texts: Callable[[], Iterable[Sequence[str]]]) -> tuple[str, ...]:
        """The vocabulary of some texts, most frequent first, ties by the token; at most
        ``max_tokens - 2`` of them."""
        ...

    def apply(self, vocabulary: Sequence[str], texts: Sequence[str]) -> Array:
        """Token ids, int32 (rows, length)."""
        ...


VectorizerOf: TypeAlias = Callable[[TextPreparation], Vectorizer]


class OutOfMemory(ForebayError):
    """The device has not enough memory for a batch of this size."""

    code: ClassVar[str] = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Steps:
    """What a few steps measured: ``loss`` of each, and the metrics over the epoch so far."""

    losses: Array  # float32 (steps,)
    metrics: Mapping[str, float]


class Learner(Protocol):
    """A network with its optimiser: what only TensorFlow can do.

    State is everything that the next step depends on, but for the data: weights, optimiser,
    metrics and random generators. Restoring it and taking the same batches gives the same weights.
    """

    def run(self, batch: Batch, batch_size: int) -> Steps:
        """One step for each ``batch_size`` rows of the batch (the last one may be shorter), in
        their order. Raises ``OutOfMemory``. Before the caller has looked at the losses nothing
        says whether they are numbers."""
        ...

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        """The network's output for these rows, nothing learned: float32 (rows, …)."""
        ...

    def loss_and_metrics(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``loss`` and the spec's metrics over all rows, nothing learned."""
        ...

    def begin_epoch(self) -> None:
        """Metrics are counted anew."""
        ...

    def learning_rate(self) -> float: ...

    def state(self) -> dict[str, Array]:
        """By a stable name."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """What ``state`` gave; ``InvalidInput`` (``checkpoint_mismatch``) for another network's."""
        ...

    def weights(self) -> dict[str, Array]:
        """The part of the state that is the model: what early stopping keeps of its best epoch."""
        ...

    def set_weights(self, weights: Mapping[str, Array]) -> None: ...

    def export(self, path: Path, prepared: Prepared) -> None:
        """A ``.keras`` archive that takes what callers have (raw text, 0…255 pixels, columns)."""
        ...


class OpenLearner(Protocol):
    """Builds a learner. ``artifact`` is that of the version to train on, if the spec names one.

    Raises ``InvalidInput`` (``bad_network``, ``refused_layer``, ``bad_optimizer``, ``bad_loss``,
    ``bad_metric``, ``shape_mismatch``) with the spec's field.
    """

    def __call__(
        self, spec: TrainingSpec, prepared: Prepared, artifact: Path | None
    ) -> Learner: ...
