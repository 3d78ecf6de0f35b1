"""What a training's ``network`` may be: a recipe with its arguments, a Keras architecture, or a
version to go on from. Exactly one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.names import MODEL_REF
from producers.shapes import (
    Choice,
    Fields,
    Flag,
    ListOf,
    Number,
    Raw,
    Schema,
    Shape,
    Wrong,
    present,
    show,
)
from storage.records.errors import InvalidInput
from storage.records.keras_config import check_objects
from storage.records.training import RECIPES, Network

ACTIVATIONS = (
    *("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "leaky_relu", "softplus"),
    *("softsign", "linear"),
)
CELLS = ("lstm", "gru", "simple")
MAX_UNITS, MAX_LAYERS = 65_536, 16

_UNITS = Number(1, MAX_UNITS)
_DROPOUT = Number(0, 0.95, whole=False, default=0.0)

ARGUMENTS: Mapping[str, Mapping[str, Shape]] = {
    "dense": {
        "units": ListOf(_UNITS, 0, MAX_LAYERS),
        "activation": Choice(ACTIVATIONS, default="relu"),
        "dropout": _DROPOUT,
    },
    "cnn": {
        "filters": ListOf(Number(1, 4096), 1, MAX_LAYERS),
        "kernel": Number(1, 31, default=3),
        "pooling": Flag(),
        "dense": ListOf(_UNITS, 0, MAX_LAYERS),
        "activation": Choice(ACTIVATIONS, default="relu"),
        "dropout": _DROPOUT,
    },
    "rnn": {
        "cell": Choice(CELLS, default="lstm"),
        "units": ListOf(_UNITS, 1, MAX_LAYERS),
        "bidirectional": Flag(),
        "embedding": Number(1, 4096, default=64),
        "dropout": _DROPOUT,
    },
    "text-average": {
        "embedding": Number(1, 4096, default=128),
        "units": ListOf(_UNITS, 0, MAX_LAYERS),
        "activation": Choice(ACTIVATIONS, default="relu"),
        "dropout": _DROPOUT,
    },
    "linear": {"l2": Number(0, 1_000, whole=False, default=0.0)},
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"units": [128, 128], "activation": "relu", "dropout": 0.0},
    "cnn": {
        "filters": [32, 64],
        "kernel": 3,
        "pooling": True,
        "dense": [128],
        "activation": "relu",
        "dropout": 0.0,
    },
    "rnn": {
        "cell": "lstm",
        "units": [64],
        "bidirectional": False,
        "embedding": 64,
        "dropout": 0.0,
    },
    "text-average": {"embedding": 128, "units": [16], "activation": "relu", "dropout": 0.0},
    "linear": {"l2": 0.0},
}
_KINDS = ("recipe", "keras", "version")
_ALONE = "goes alone: give one of recipe, keras and version"


def _others(kind: str) -> dict[str, str]:
    return {name: _ALONE for name in _KINDS if name != kind}


def _of_other_recipes(recipe: str) -> dict[str, str]:
    """The arguments that it lacks, each with the recipes that have it."""
    having: dict[str, list[str]] = {}
    for name, arguments in ARGUMENTS.items():
        for argument in arguments:
            having.setdefault(argument, []).append(name)
    return {
        argument: f"is an argument of the recipe {' and '.join(names)}, not of {recipe};"
        f" that one takes {', '.join(ARGUMENTS[recipe])}"
        for argument, names in having.items()
        if recipe not in names
    }


def _recipe(name: str) -> Fields:
    return Fields(
        f"Recipe {name}",
        required={"recipe": Choice((name,))},
        optional=ARGUMENTS[name],
        foreign=_others("recipe")
        | _of_other_recipes(name)
        | {"frozen_layers": "goes with a version to train on, not with a recipe"},
    )


_RECIPES = {name: _recipe(name) for name in RECIPES}
_RECIPE = Choice(RECIPES)
_KERAS = Fields(
    "KerasNetwork",
    required={
        "keras": Raw(
            {
                "description": (
                    "A Sequential or Functional model as its to_json() has it: class_name, config,"
                    " …. Every class in it is checked against the allow-list."
                )
            }
        )
    },
    foreign=_others("keras"),
)
_VERSION = Fields(
    "VersionNetwork",
    required={"version": MODEL_REF},
    optional={"frozen_layers": Number(0, 10_000, default=0)},
    foreign=_others("version"),
)


class NetworkShape:
    """Which of the three it is shows by the field that names it."""

    def check(self, value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be a JSON object, not {show(value)}", code="invalid_type")
        if "recipe" in value:
            name = value["recipe"]
            try:
                _RECIPE.check(name)
            except Wrong as wrong:
                raise wrong.under("recipe") from None
            _RECIPES[name].check(value)
        elif "keras" in value:
            _KERAS.check(value)
        elif "version" in value:
            _VERSION.check(value)
        else:
            known = {name for one in ARGUMENTS.values() for name in one} | {"frozen_layers"}
            for name in value:  # a misspelt recipe= is the likely mistake, if it is there at all
                if name not in known:
                    _ANY.check({name: None})
            raise Wrong(f"names no network: give one of {', '.join(_KINDS)}", code="missing_field")

    def schema(self) -> Schema:
        shapes = (*_RECIPES.values(), _KERAS, _VERSION)
        return {"title": "Network", "anyOf": [shape.schema() for shape in shapes]}


_ANY = Fields("Network", required={}, optional={name: Raw({}) for name in _KINDS})


def read_network(value: Mapping[str, Any]) -> Network:
    """Of a checked one, every default filled in; ``Wrong`` for a layer that is not allowed."""
    told = present(value)
    if "recipe" in told:
        name = str(told.pop("recipe"))
        return Network(recipe=name, arguments={**DEFAULTS[name], **told})
    if "version" in told:
        return Network(version=told["version"], frozen_layers=int(told.get("frozen_layers", 0)))
    # How it was compiled is no part of an architecture, and building it would be.
    config = {key: item for key, item in told["keras"].items() if key != "compile_config"}
    try:
        check_objects(config)
    except InvalidInput as error:
        raise Wrong(f"is refused: {error.message}", code=error.stable_code).under("keras") from None
    return Network(keras=config)
