"""What of Keras a training's spec may name, and how: its own names in snake case, and the short
ones that people say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from producers.shapes import Labels, Schema, Shape, Text, Wrong, show
from storage.records.keras_allowed import ALLOWED
from storage.records.training import (
    BINARY_LOSSES,
    NUMBER_LOSSES,
    ONE_HOT_LOSSES,
    SIGNED_LOSSES,
    SPARSE_LOSSES,
    Named,
)

MAX_ARGUMENTS, MAX_NUMBERS = 32, 1_000
_ONE_WORD = {"LossScaleOptimizer"}  # it takes another optimiser


def snake(name: str) -> str:
    """``MeanSquaredError`` as Keras spells it in text: ``mean_squared_error``."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()


OPTIMIZERS = tuple(sorted(one.lower() for one in ALLOWED["keras.optimizers"] - _ONE_WORD))
MOMENTUM = "momentum"  # SGD with a momentum of 0.9
SCHEDULES = tuple(sorted(map(snake, ALLOWED["keras.optimizers.schedules"])))
# Those that take a row's label as a number, an index or one of many; CTC and circle do not.
_OF_SHARES = frozenset({"cosine_similarity", "dice", "kl_divergence", "tversky"})
LOSSES = tuple(
    sorted(
        NUMBER_LOSSES | ONE_HOT_LOSSES | SPARSE_LOSSES | BINARY_LOSSES | SIGNED_LOSSES | _OF_SHARES
    )
)
LOSS_ALIASES = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
}
# Of classes (of what is answered) and of numbers; others look at both.
_CLASS_METRICS = """
    accuracy precision recall f1 auc binary_accuracy categorical_accuracy false_negatives
    false_positives sparse_categorical_accuracy sparse_top_k_categorical_accuracy
    top_k_categorical_accuracy true_negatives true_positives
"""
_METRICS = """
    mae mse binary_crossentropy categorical_crossentropy categorical_hinge
    cosine_similarity hinge log_cosh_error mean_absolute_percentage_error
    mean_squared_logarithmic_error poisson root_mean_squared_error
    sparse_categorical_crossentropy squared_hinge
"""
CLASS_METRICS = frozenset(_CLASS_METRICS.split())
NUMBER_METRICS = frozenset({"r2"})
_OF_EACH = {"categorical_crossentropy", "sparse_categorical_crossentropy"}
_TOP = {"top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"}
STRANGE_METRICS = (  # that mean nothing for what a network with this loss gives
    (SIGNED_LOSSES, {*_OF_EACH, "binary_crossentropy"}, "measures probabilities, unlike the loss"),
    (BINARY_LOSSES, _OF_EACH | _TOP, "takes an output for each label, unlike the loss"),
)
METRICS = tuple(sorted(CLASS_METRICS | NUMBER_METRICS | frozenset(_METRICS.split())))
METRIC_ALIASES = {
    "acc": "accuracy",
    "f1_score": "f1",
    "r2_score": "r2",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "rmse": "root_mean_squared_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
}


def nearest(name: str, known: Iterable[str], most: int = 30) -> str:
    """What to say of a name that nobody knows."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"known are {', '.join(names[:most])}{more}"


@dataclass(frozen=True, slots=True)
class Known:
    """One of many names, or a short one for one of them."""

    what: str  # "optimizer"
    names: tuple[str, ...]
    code: str  # of a name that is none of them
    aliases: Mapping[str, str] = field(default_factory=dict)

    def check(self, value: object) -> None:
        if type(value) is not str:
            raise Wrong(f"must be a string, not {show(value)}", code="invalid_type")
        if value not in self.names and value not in self.aliases:
            says = f"is {show(value)}, and there is no such {self.what};"
            hint = nearest(value, (*self.names, *self.aliases))
            raise Wrong(f"{says} {hint}", code=self.code)

    def schema(self) -> Schema:
        return {"type": "string", "enum": [*self.names, *self.aliases]}

    def of(self, name: str) -> str:
        """The name that it stands for."""
        return self.aliases.get(name, name)


@dataclass(frozen=True, slots=True)
class Argument:
    """A number, a string, true or false; or a list of numbers."""

    def check(self, value: object) -> None:
        if type(value) is list:
            if not 1 <= len(value) <= MAX_NUMBERS:
                raise Wrong(f"has {len(value)} entries; it takes 1 to {MAX_NUMBERS}")
            for index, one in enumerate(value):
                if type(one) not in (int, float):
                    raise Wrong(f"must be a number, not {show(one)}", code="invalid_type").under(
                        index
                    )
        elif type(value) is str:
            _WORD.check(value)
        elif type(value) not in (int, float, bool):
            says = "must be a number, a string, true or false, or a list of numbers"
            raise Wrong(f"{says}, not {show(value)}", code="invalid_type")

    def schema(self) -> Schema:
        numbers = {"type": "number"}
        return {
            "anyOf": [
                {"type": ["number", "boolean"]},
                _WORD.schema(),
                {"type": "array", "items": numbers, "minItems": 1, "maxItems": MAX_NUMBERS},
            ]
        }


_WORD = Text(0, 100)
_ARGUMENT_NAME = Text(1, 64, r"^[a-z_][a-z0-9_]*$", "the name of an argument")
_ARGUMENTS = Labels(MAX_ARGUMENTS + 1, _ARGUMENT_NAME, Argument())


@dataclass(frozen=True, slots=True)
class WithArguments:
    """``{name, …}``: something of Keras's with its arguments, whose names the worker knows."""

    known: Known

    def check(self, value: object) -> None:
        _ARGUMENTS.check(value)
        assert isinstance(value, dict)
        if "name" not in value:
            raise Wrong("is missing", code="missing_field").under("name")
        try:
            self.known.check(value["name"])
        except Wrong as wrong:
            raise wrong.under("name") from None

    def schema(self) -> Schema:
        return {
            **_ARGUMENTS.schema(),
            "properties": {"name": self.known.schema()},
            "required": ["name"],
        }


def named(value: str | Mapping[str, object], known: Known) -> Named:
    """Of a checked name, with or without arguments."""
    if isinstance(value, str):
        return Named(known.of(value))
    arguments = {key: item for key, item in value.items() if key != "name"}
    return Named(known.of(str(value["name"])), arguments)


OPTIMIZER = Known("optimizer", OPTIMIZERS, code="unknown_optimizer", aliases={MOMENTUM: "sgd"})
LOSS = Known("loss", LOSSES, code="unknown_loss", aliases=LOSS_ALIASES)
METRIC = Known("metric", METRICS, code="unknown_metric", aliases=METRIC_ALIASES)
SCHEDULE = Known("schedule", SCHEDULES, code="unknown_schedule")
OPTIMIZER_GIVEN: Shape = WithArguments(OPTIMIZER)
LOSS_GIVEN: Shape = WithArguments(LOSS)
SCHEDULE_GIVEN: Shape = WithArguments(SCHEDULE)
