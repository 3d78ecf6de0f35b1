"""Training jobs: what is asked for, as the job's payload holds it.

The request's own shape is in ``producers.training_requests``, which checks it and fills in every
default: what is here is whole. Nothing in it depends on the machine that trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from storage.records.bulk import Condition

_PAYLOAD = b'{"training":'  # no inference input and no bulk job begins so

CHECKPOINT_EVERY_S = 300.0


class DataFormat(StrEnum):
    """What the files hold."""

    IDX = "idx"  # MNIST's own: one file of pictures, one of labels beside it
    NPZ = "npz"  # several arrays of equal length, by name
    CSV = "csv"  # with a header line
    PARQUET = "parquet"
    JSONL = "jsonl"  # one object of columns a line
    IMAGES = "images"  # a prefix: pictures in folders that are called as their label


class Task(StrEnum):
    """What the network is to say; the loss decides."""

    CLASSES = "classes"
    NUMBERS = "numbers"


class Scaling(StrEnum):
    """How numbers are brought to size. What it takes is learned on the training rows only."""

    NONE = "none"
    DIVIDE = "divide"  # by ``Preparation.divide_by``
    STANDARD = "standard"  # mean 0, deviation 1, by column
    MINMAX = "minmax"  # 0 to 1, by column


class MissingRule(StrEnum):
    """What becomes of a row with a feature that is missing or not a number."""

    REFUSE = "refuse"
    DROP = "drop"
    FILL = "fill"  # by ``Preparation.fill``


class Cut(StrEnum):
    """What a token of a text is."""

    WORDS = "words"
    CHARACTERS = "characters"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Which rows, and which of their columns."""

    uris: tuple[str, ...]
    format: DataFormat | None = None  # None: by the files' names
    features: tuple[str, ...] = ()  # columns, or NPZ arrays; empty: all that have no other part
    label: str | None = None  # a column or an NPZ array; IDX and pictures need none
    labels_uri: str | None = None  # IDX: the file of the labels
    shape: tuple[int, ...] = ()  # what a row's numbers are put into; of pictures (h, w, channels)
    where: tuple[Condition, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)  # by address, what must be found there


@dataclass(frozen=True, slots=True)
class TextPreparation:
    """How texts become token ids: 0 is padding, 1 is any token that is not in the vocabulary."""

    max_tokens: int = 10_000
    length: int = 64  # tokens; longer texts are cut, shorter ones padded at their end
    mask: bool = True  # padding takes no part in what the network computes
    lower: bool = True
    strip_punctuation: bool = True
    cut: Cut = Cut.WORDS


@dataclass(frozen=True, slots=True)
class Preparation:
    """From rows as they are to rows as the network takes them."""

    missing: MissingRule = MissingRule.REFUSE
    fill: Mapping[str, float | str] = field(default_factory=dict)  # a value, "mean" or "median"
    drop_duplicates: bool = False
    replace: Mapping[str, Mapping[str, str | float | None]] = field(default_factory=dict)
    scale: Scaling = Scaling.NONE
    divide_by: float = 255.0
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # (): learned
    text: TextPreparation | None = None
    labels: tuple[tuple[str, str], ...] = ()  # (as it is in the data, its name); (): learned
    drop_unknown_labels: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of the rows; the rest is trained on. The same seed gives the same rows."""

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    stratify: bool = True  # each class in the same share; of numbers it means nothing


@dataclass(frozen=True, slots=True)
class Network:
    """One of the three: a recipe, a Keras architecture, or a version to train on."""

    recipe: str | None = None  # RECIPES
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the recipe
    keras: Mapping[str, Any] | None = None  # a model's config as Keras writes it
    version: str | None = None  # "name:3", resolved at submit
    version_id: str | None = None
    frozen_layers: int = (
        0  # of a version: so many of its first layers with weights stay as they are
    )


@dataclass(frozen=True, slots=True)
class Named:
    """Something of Keras's by its name, with its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weights:
    """How much a row counts: its class's weight times its group's. Empty: all count 1."""

    classes: Mapping[str, float] = field(default_factory=dict)  # by label name
    balanced: bool = False  # each class as much as any other
    group: str | None = None  # a column, which is no feature unless it is named as one
    groups: Mapping[str, float] = field(default_factory=dict)  # by the column's value


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop when nothing gets better for ``patience`` epochs."""

    monitor: str = "val_loss"
    patience: int = 3
    min_delta: float = 0.0
    restore_best: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """When a training ends besides its epochs, with what it has learned so far."""

    max_s: float | None = None  # of training, counted over all who worked at it
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What a training job is asked to do."""

    data: TrainingData
    network: Network
    loss: Named
    prepare: Preparation = field(default_factory=Preparation)
    split: Split = field(default_factory=Split)
    optimizer: Named = field(default_factory=lambda: Named("adam"))
    schedule: Named | None = None  # of the learning rate, one of keras.optimizers.schedules
    metrics: tuple[str, ...] = ()
    epochs: int = 10
    batch_size: int = 32
    weights: Weights = field(default_factory=Weights)
    early_stopping: EarlyStopping | None = None
    limits: Limits = field(default_factory=Limits)
    checkpoint_every_s: float = CHECKPOINT_EVERY_S  # besides the end of every epoch
    deterministic: bool = False
    seed: int = 0
    halve_batch: bool = False  # when the device's memory does not suffice
    max_deaths: int = 3  # of the training's process, between two checkpoints

    @property
    def task(self) -> Task:
        """Classes or numbers."""
        return Task.NUMBERS if self.loss.name in NUMBER_LOSSES else Task.CLASSES


RECIPES = ("dense", "cnn", "rnn", "text-average", "linear")
NUMBER_LOSSES = frozenset(
    {
        "mean_squared_error",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_logarithmic_error",
        "huber",
        "log_cosh",
        "poisson",
    }
)
ONE_HOT_LOSSES = frozenset(
    {"categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge"}
)
SPARSE_LOSSES = frozenset({"sparse_categorical_crossentropy"})
BINARY_LOSSES = frozenset({"binary_crossentropy", "binary_focal_crossentropy"})  # one output, 0..1
SIGNED_LOSSES = frozenset({"hinge", "squared_hinge"})  # -1 and 1; more classes: one output for each


def payload_of(spec: TrainingSpec) -> bytes:
    """The job's payload."""
    told = {"training": asdict(spec)}
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def is_training_payload(payload: object) -> bool:
    """Whether a claimed job is a training to look after."""
    return isinstance(payload, bytes) and payload.startswith(_PAYLOAD)


def spec_of(payload: bytes) -> TrainingSpec:
    """What ``payload_of`` wrote."""
    told: dict[str, Any] = json.loads(payload)["training"]
    return spec_from_json(told)


def parent_of(payload: object) -> str | None:
    """The id of the version that a training begins with, if the payload is one's that does."""
    if not isinstance(payload, bytes) or not is_training_payload(payload):
        return None
    told: dict[str, Any] = json.loads(payload)["training"]
    found: str | None = told.get("network", {}).get("version_id")
    return found


def spec_from_json(told: Mapping[str, Any]) -> TrainingSpec:
    """A spec from what ``asdict`` made of it."""
    data, prepare = told["data"], told["prepare"]
    form, text = data["format"], prepare["text"]
    schedule, stopping = told["schedule"], told["early_stopping"]
    return TrainingSpec(
        **{
            **told,
            "data": TrainingData(
                **{
                    **data,
                    "uris": tuple(data["uris"]),
                    "format": None if form is None else DataFormat(form),
                    "features": tuple(data["features"]),
                    "shape": tuple(data["shape"]),
                    "where": tuple(Condition(**one) for one in data["where"]),
                }
            ),
            "network": Network(**told["network"]),
            "loss": Named(**told["loss"]),
            "prepare": Preparation(
                **{
                    **prepare,
                    "missing": MissingRule(prepare["missing"]),
                    "scale": Scaling(prepare["scale"]),
                    "categories": {k: tuple(v) for k, v in prepare["categories"].items()},
                    "text": None
                    if text is None
                    else TextPreparation(**{**text, "cut": Cut(text["cut"])}),
                    "labels": tuple((raw, name) for raw, name in prepare["labels"]),
                }
            ),
            "split": Split(**told["split"]),
            "optimizer": Named(**told["optimizer"]),
            "schedule": None if schedule is None else Named(**schedule),
            "metrics": tuple(told["metrics"]),
            "weights": Weights(**told["weights"]),
            "early_stopping": None if stopping is None else EarlyStopping(**stopping),
            "limits": Limits(**told["limits"]),
        }
    )
