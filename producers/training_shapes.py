"""A training's ``spec`` as its shape: fields, types and bounds, and no field beside them.

What the fields have to do with each other is said in ``training_requests``.
"""

from __future__ import annotations

from producers.bulk_requests import COLUMN, MAX_CONDITIONS, MAX_URIS, URI, Comparison, OneOrMany
from producers.shapes import (
    Choice,
    Either,
    Fields,
    Flag,
    Labels,
    ListOf,
    Number,
    Schema,
    Shape,
    Text,
    Wrong,
    show,
)
from producers.training_names import (
    LOSS,
    LOSS_GIVEN,
    METRIC,
    OPTIMIZER,
    OPTIMIZER_GIVEN,
    SCHEDULE,
    SCHEDULE_GIVEN,
)
from producers.training_networks import NetworkShape
from storage.records.training import Cut, DataFormat, MissingRule, Scaling

MAX_LABELS, MAX_COLUMNS, MAX_REPLACED, MAX_METRICS = 10_000, 1_000, 1_000, 16
MAX_EPOCHS, MAX_BATCH, MAX_STEPS = 100_000, 65_536, 10**9
MAX_SEED = 2**31 - 1
MAX_WEIGHT = 1e6
MAX_TIME_S = 30 * 86_400

BALANCED, LEARN = "balanced", "learn"

_VALUE = Text(0, 1024, r"^[^\u0000]*$", "text without NUL")
_LABEL = Text(1, 256, r"^[^\u0000]*$", "a label without NUL")
_DIGEST = Text(1, 256, r"^[\u0021-\u007e]*$", "an ETag or a SHA-256")
_ANY_NUMBER = Number(-1e300, 1e300, whole=False)
_SEED = Number(0, MAX_SEED, default=0)
_WEIGHT = Number(0, MAX_WEIGHT, whole=False)


class OrNull:
    """A number, a text or null."""

    def check(self, value: object) -> None:
        if value is None:
            return
        if type(value) is str:
            _VALUE.check(value)
        elif type(value) in (int, float):
            _ANY_NUMBER.check(value)
        else:
            says = f"must be a string, a number or null, not {show(value)}"
            raise Wrong(says, code="invalid_type")

    def schema(self) -> Schema:
        return {"anyOf": [_VALUE.schema(), _ANY_NUMBER.schema(), {"type": "null"}]}


class More:
    """A number above zero."""

    def __init__(self, most: float) -> None:
        self._most = most

    def check(self, value: object) -> None:
        Number(-1e300, self._most, whole=False).check(value)
        assert isinstance(value, int | float)
        if value <= 0:
            raise Wrong(f"must be more than 0, not {show(value)}", code="out_of_range")

    def schema(self) -> Schema:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": self._most}


DATA = Fields(
    "TrainingData",
    required={"uri": OneOrMany(URI, MAX_URIS)},
    optional={
        "format": Choice(tuple(one.value for one in DataFormat)),
        "features": OneOrMany(COLUMN, MAX_COLUMNS),
        "label": COLUMN,
        "labels_uri": URI,
        "shape": ListOf(Number(1, 65_536), 1, 4),
        "where": ListOf(Comparison(), 0, MAX_CONDITIONS),
        "digests": Labels(MAX_URIS, URI, _DIGEST),
    },
)
_FILL = Labels(
    MAX_COLUMNS,
    COLUMN,
    Either('a number, "mean", "median" or another value', text=_VALUE, number=_ANY_NUMBER),
    least=1,
)
TEXT = Fields(
    "TextPreparation",
    required={},
    optional={
        "max_tokens": Number(3, 1_000_000, default=10_000),
        "length": Number(1, 100_000, default=64),
        "mask": Flag(),
        "lower": Flag(),
        "strip_punctuation": Flag(),
        "cut": Choice(tuple(one.value for one in Cut), default=Cut.WORDS.value),
    },
)
PREPARE = Fields(
    "Preparation",
    required={},
    optional={
        "missing": Either(
            'refuse, drop or {"fill": {column: value}}',
            text=Choice((MissingRule.REFUSE.value, MissingRule.DROP.value)),
            fields=Fields("MissingRule", required={"fill": _FILL}),
        ),
        "drop_duplicates": Flag(),
        "replace": Labels(
            MAX_COLUMNS, COLUMN, Labels(MAX_REPLACED, _VALUE, OrNull(), least=1), least=1
        ),
        "scale": Either(
            'none, standard, minmax or {"divide": number}',
            text=Choice((Scaling.NONE.value, Scaling.STANDARD.value, Scaling.MINMAX.value)),
            fields=Fields("Scale", required={"divide": More(1e300)}),
        ),
        "categories": Labels(
            MAX_COLUMNS,
            COLUMN,
            Either(
                'a list of the column\'s values, or "learn"',
                text=Choice((LEARN,)),
                entries=ListOf(_VALUE, 1, MAX_LABELS),
            ),
        ),
        "text": TEXT,
        "labels": Either(
            "a list of labels, or an object of their names by how they are in the data",
            entries=ListOf(
                Either("a string or a number", text=_LABEL, number=_ANY_NUMBER), 1, MAX_LABELS
            ),
            fields=Labels(MAX_LABELS, _LABEL, _LABEL, least=1),
        ),
        "unknown_labels": Choice(("refuse", "drop"), default="refuse"),
    },
)
_SHARE = Number(0, 0.9, whole=False, default=0.1)
SPLIT = Fields(
    "Split",
    required={},
    optional={"validation": _SHARE, "test": _SHARE, "seed": _SEED, "stratify": Flag()},
)
WEIGHTS = Fields(
    "Weights",
    required={},
    optional={
        "classes": Either(
            "balanced, or an object of weights by label",
            text=Choice((BALANCED,)),
            fields=Labels(MAX_LABELS, _LABEL, _WEIGHT, least=1),
        ),
        "group": Fields(
            "GroupWeights",
            required={"column": COLUMN, "weights": Labels(MAX_LABELS, _LABEL, _WEIGHT, least=1)},
        ),
    },
)
EARLY_STOPPING = Fields(
    "EarlyStopping",
    required={},
    optional={
        "monitor": Text(1, 100),
        "patience": Number(0, MAX_EPOCHS, default=3),
        "min_delta": Number(0, 1e300, whole=False, default=0.0),
        "restore_best": Flag(),
    },
)
LIMITS = Fields(
    "Limits",
    required={},
    optional={"max_s": More(MAX_TIME_S), "max_steps": Number(1, MAX_STEPS)},
)
_A_NAME = "a name, or an object of a name and arguments"
OPTIMIZER_SHAPE: Shape = Either(_A_NAME, text=OPTIMIZER, fields=OPTIMIZER_GIVEN)

SPEC = Fields(
    "TrainingSpec",
    required={
        "data": DATA,
        "network": NetworkShape(),
        "loss": Either(_A_NAME, text=LOSS, fields=LOSS_GIVEN),
    },
    optional={
        "prepare": PREPARE,
        "split": SPLIT,
        "optimizer": OPTIMIZER_SHAPE,
        "schedule": Either(_A_NAME, text=SCHEDULE, fields=SCHEDULE_GIVEN),
        "metrics": ListOf(METRIC, 0, MAX_METRICS),
        "epochs": Number(1, MAX_EPOCHS, default=10),
        "batch_size": Number(1, MAX_BATCH, default=32),
        "weights": WEIGHTS,
        "early_stopping": EARLY_STOPPING,
        "limits": LIMITS,
        "checkpoint_every_s": Number(1, 86_400, whole=False, default=300.0),
        "deterministic": Flag(),
        "seed": _SEED,
        "halve_batch": Flag(),
    },
    foreign={
        "model": "stands beside the spec: it names the model whose next version this makes",
        "input": "is of inference and bulk jobs; a training's is data",
        "name": "is no field of it: the model's name stands beside the spec",
    },
)
