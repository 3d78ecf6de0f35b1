"""The recipes: networks by a few words.

Layers have names of their own, so that an archive reads well and frozen layers can be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workers.runtime.framework import Framework
from workers.runtime.learning.heads import Head
from workers.runtime.learning.refusals import NETWORK, bad_network, told, unknown
from workers.training.ports import Feature, Prepared

_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"units": (128,), "activation": "relu", "dropout": 0.0},
    "cnn": {
        "filters": (32,),
        "kernel": 3,
        "pooling": True,
        "dense": (128,),
        "activation": "relu",
        "dropout": 0.0,
    },
    "rnn": {
        "cell": "lstm",
        "units": (64,),
        "bidirectional": False,
        "embedding": 64,
        "dropout": 0.0,
    },
    "text-average": {"embedding": 128, "units": (16,), "activation": "relu", "dropout": 0.0},
    "linear": {"l2": 0.0},
}
_CELLS = {"lstm": "LSTM", "gru": "GRU", "simple": "SimpleRNN"}


class Recipe:
    """One recipe with its arguments; ``output`` puts it between inputs and head."""

    def __init__(
        self,
        framework: Framework,
        name: str,
        arguments: Mapping[str, Any],
        prepared: Prepared,
        head: Head,
    ) -> None:
        if name not in _ARGUMENTS:
            raise bad_network(unknown("recipe", name, _ARGUMENTS), f"{NETWORK}.recipe")
        for argument in arguments:
            if argument not in _ARGUMENTS[name]:
                message = unknown(f"argument of {name} called", argument, _ARGUMENTS[name])
                raise bad_network(message, f"{NETWORK}.{argument}")
        self._name, self._prepared, self._head = name, prepared, head
        self._said = {**_ARGUMENTS[name], **arguments}
        self._keras, self._layers = framework.keras, framework.keras.layers
        self._features = prepared.features

    def output(self, tensors: Sequence[Any]) -> Any:
        """The head's output for the scaled inputs, in the features' order."""
        makers: Mapping[str, Callable[[Sequence[Any]], Any]] = {
            "dense": self._dense,
            "cnn": self._cnn,
            "rnn": self._rnn,
            "text-average": self._text_average,
            "linear": self._linear,
        }
        inner = makers[self._name](tensors)
        penalty = self._said.get("l2")
        return self._layers.Dense(
            self._head.units,
            activation=self._head.activation,
            kernel_regularizer=self._keras.regularizers.L2(penalty) if penalty else None,
            name=self._head.name,
        )(inner)

    def _dense(self, tensors: Sequence[Any]) -> Any:
        return self._stack(self._flat(tensors), self._said["units"])

    def _linear(self, tensors: Sequence[Any]) -> Any:
        return self._flat(tensors)

    def _cnn(self, tensors: Sequence[Any]) -> Any:
        feature, tensor = self._only(tensors)
        if feature.dtype == "int32" or len(feature.shape) not in (2, 3):
            raise bad_network(
                f"cnn takes pictures (height, width, channels), and the rows of"
                f" {feature.name!r} are {feature.dtype} {told(feature.shape)}: give data.shape, or"
                " use the recipe dense",
                f"{NETWORK}.recipe",
            )
        if len(feature.shape) == 2:
            tensor = self._layers.Reshape((*feature.shape, 1), name="channel")(tensor)
        for at, filters in enumerate(self._said["filters"], 1):
            tensor = self._layers.Conv2D(
                filters,
                self._said["kernel"],
                activation=self._said["activation"],
                name=f"conv_{at}",
            )(tensor)
            if self._said["pooling"]:
                tensor = self._layers.MaxPooling2D(name=f"pool_{at}")(tensor)
        tensor = self._layers.Flatten(name="flat")(tensor)
        return self._stack(tensor, self._said["dense"])

    def _rnn(self, tensors: Sequence[Any]) -> Any:
        feature, tensor = self._only(tensors)
        if self._is_text(feature):
            tensor = self._embedded(tensor)
        elif len(feature.shape) == 3 and feature.shape[-1] == 1:
            tensor = self._layers.Reshape(feature.shape[:2], name="rows")(tensor)
        elif len(feature.shape) != 2:
            raise bad_network(
                f"rnn takes texts or (steps, numbers), and the rows of {feature.name!r} are"
                f" {feature.dtype} {told(feature.shape)}: give data.shape",
                f"{NETWORK}.recipe",
            )
        if self._said["cell"] not in _CELLS:
            message = unknown("cell", str(self._said["cell"]), _CELLS)
            raise bad_network(message, f"{NETWORK}.cell")
        cell = getattr(self._layers, _CELLS[self._said["cell"]])
        last = len(self._said["units"])
        for at, units in enumerate(self._said["units"], 1):
            layer = cell(units, return_sequences=at < last, name=f"rnn_{at}")
            if self._said["bidirectional"]:
                layer = self._layers.Bidirectional(layer, name=f"both_{at}")
            tensor = layer(tensor)
        return self._dropped(tensor, "dropout_rnn")

    def _text_average(self, tensors: Sequence[Any]) -> Any:
        feature, tensor = self._only(tensors)
        if not self._is_text(feature):
            raise bad_network(
                f"text-average takes texts, and the rows of {feature.name!r} are {feature.dtype}"
                f" {told(feature.shape)}: name a text column and prepare.text",
                f"{NETWORK}.recipe",
            )
        tensor = self._layers.GlobalAveragePooling1D(name="average")(self._embedded(tensor))
        return self._stack(tensor, self._said["units"])

    def _embedded(self, ids: Any) -> Any:
        """Token ids to vectors. A text without a word is read as one unknown word: its mean
        would be 0 ÷ 0, and one such row would spoil every weight."""
        text = self._prepared.text
        assert text is not None
        first = np.zeros((1, text.length), ids.dtype)
        first[0, 0] = 1
        return self._layers.Embedding(
            len(self._prepared.vocabulary) + 2,
            self._said["embedding"],
            mask_zero=text.mask,
            name="words",
        )(self._keras.ops.maximum(ids, first))

    def _stack(self, tensor: Any, units: Sequence[int]) -> Any:
        for at, width in enumerate(units, 1):
            tensor = self._layers.Dense(
                width, activation=self._said["activation"], name=f"dense_{at}"
            )(tensor)
            tensor = self._dropped(tensor, f"dropout_{at}")
        return tensor

    def _dropped(self, tensor: Any, name: str) -> Any:
        share = self._said["dropout"]
        return self._layers.Dropout(share, name=name)(tensor) if share else tensor

    def _flat(self, tensors: Sequence[Any]) -> Any:
        flat = []
        for feature, tensor in zip(self._features, tensors, strict=True):
            if self._is_text(feature):
                raise bad_network(
                    f"{self._name} takes numbers, and {feature.name!r} holds texts: use"
                    " text-average or rnn",
                    f"{NETWORK}.recipe",
                )
            if len(feature.shape) > 1:
                tensor = self._layers.Flatten(name=f"flat_{feature.name}")(tensor)
            flat.append(tensor)
        return flat[0] if len(flat) == 1 else self._layers.Concatenate(name="together")(flat)

    def _only(self, tensors: Sequence[Any]) -> tuple[Feature, Any]:
        if len(tensors) != 1:
            names = ", ".join(feature.name for feature in self._features)
            raise bad_network(
                f"{self._name} takes one input, and the data has {len(tensors)}: {names}",
                f"{NETWORK}.recipe",
            )
        return self._features[0], tensors[0]

    def _is_text(self, feature: Feature) -> bool:
        return self._prepared.text is not None and feature.dtype == "int32"
