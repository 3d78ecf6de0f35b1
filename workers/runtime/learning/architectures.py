"""Networks that others wrote: a Keras architecture as JSON, or a version to train on.

Both are nested behind inputs of our own, which take the rows as they are kept, unless the model
takes them so already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.records.errors import InvalidInput
from storage.records.keras_archive import inspect_archive
from storage.records.keras_config import check_objects, parse_config
from storage.records.training import Network, TextPreparation
from workers.runtime.framework import Framework
from workers.runtime.learning.heads import Head
from workers.runtime.learning.refusals import (
    NETWORK,
    bad_network,
    first_line,
    shape_mismatch,
    told,
)
from workers.runtime.learning.texts import standardization_of
from workers.training.ports import Feature, Prepared


def from_config(framework: Framework, config: Mapping[str, Any]) -> Any:
    """The model, of nothing but allowed classes; ``refused_layer`` or ``bad_network``."""
    where = f"{NETWORK}.keras"
    try:
        parsed = parse_config(json.dumps(config).encode())
        check_objects(parsed)
    except InvalidInput as error:
        code = error.stable_code if error.stable_code == "refused_layer" else "bad_network"
        raise InvalidInput(error.message, code=code, field=where) from None
    parsed.pop("compile_config", None)
    try:
        return framework.keras.saving.deserialize_keras_object(parsed, safe_mode=True)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        message = f"Keras cannot build this architecture: {first_line(error)}"
        raise bad_network(message, where) from error


def from_version(framework: Framework, artifact: Path, network: Network) -> Any:
    """The version's model with its weights, the first ``frozen_layers`` of them fixed."""
    with artifact.open("rb") as file:
        inspect_archive(file)
    model = framework.keras.saving.load_model(artifact, compile=False, safe_mode=True)
    holding = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if layer.weights and not getattr(layer, "layers", None)
    ]
    if network.frozen_layers >= len(holding) > 0:
        raise bad_network(
            f"frozen_layers is {network.frozen_layers}, and the version has {len(holding)} layers"
            " with weights: nothing would be learned",
            f"{NETWORK}.frozen_layers",
        )
    for layer in holding[: network.frozen_layers]:
        layer.trainable = False
    return model


def without_text_layer(framework: Framework, model: Any, prepared: Prepared) -> Any:
    """A text model from its token ids on: rows hold the ids that its own layer would give."""
    keras = framework.keras
    layer = text_layer_of(framework, model)
    if layer is None:
        return model
    text = prepared.text
    if text is None:
        raise shape_mismatch("the version takes raw text, and the data has no text column")
    _same_text(layer, text, prepared.vocabulary)
    if model.layers[-1] is not layer and _is_last_two(model, layer):
        return model.layers[-1]
    if isinstance(model, keras.Sequential):
        ids = keras.Input((text.length,), dtype="int64", name="tokens")
        return keras.Sequential([ids, *model.layers[model.layers.index(layer) + 1 :]])
    return keras.Model(layer.output, model.output)


def text_layer_of(framework: Framework, model: Any) -> Any:
    """The model's own TextVectorization, if that is its first layer."""
    kind = framework.keras.layers.TextVectorization
    layers = [one for one in model.layers if type(one).__name__ != "InputLayer"]
    return layers[0] if layers and isinstance(layers[0], kind) else None


def fitted(
    framework: Framework,
    model: Any,
    prepared: Prepared,
    tensors: Sequence[Any],
    head: Head,
) -> Any:
    """The model's output for our inputs; ``shape_mismatch`` where one of both does not fit."""
    features = prepared.features
    given = _given(framework, model, features, tensors)
    try:
        output = model(given)
    except (ValueError, TypeError) as error:
        raise shape_mismatch(
            f"the network does not take rows of {_told(features)}: {first_line(error)}"
        ) from error
    flat = framework.keras.tree.flatten(output)
    shape = tuple(flat[0].shape[1:])
    if len(flat) != 1 or shape != (head.units,):
        outputs = ", ".join(told(one.shape[1:]) for one in flat)
        wanted = f"{len(prepared.labels)} labels" if prepared.labels else "a number"
        raise shape_mismatch(
            f"the network gives {outputs}, and for {wanted} with this loss it has to give"
            f" {told((head.units,))}"
        )
    return flat[0]


def takes_rows_raw(model: Any, prepared: Prepared) -> bool:
    """Whether a version's inputs are the rows as they are kept: it brings them to size by layers
    of its own, or takes bytes, or its data was not scaled and is not now."""
    whole = all(str(tensor.dtype).startswith("uint") for tensor in model.inputs)
    return _scales_itself(model) or whole or not prepared.scales


def _scales_itself(model: Any) -> bool:
    """Whether it scales before it does anything that was learned; what it scales in its middle
    are no inputs."""
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ in ("Rescaling", "Normalization"):
            return True
        if layer.weights and not getattr(layer, "layers", None):
            return False
    return False


def _given(
    framework: Framework, model: Any, features: Sequence[Feature], tensors: Sequence[Any]
) -> Any:
    """Our tensors in the structure that the model was built with."""
    asked = list(getattr(model, "inputs", None) or ())
    if not asked:  # a Sequential that does not know its input yet
        return tensors[0] if len(tensors) == 1 else list(tensors)
    if len(asked) != len(features):
        raise shape_mismatch(
            f"the network takes {len(asked)} inputs, and the data has {_told(features)}"
        )
    by_name = {one.name: (one, ours) for one, ours in zip(features, tensors, strict=True)}
    if len(asked) == 1:
        by_name = {asked[0].name: (features[0], tensors[0])}
    ordered = {}
    for tensor in asked:
        if tensor.name not in by_name:
            names = ", ".join(one.name for one in asked)
            raise shape_mismatch(
                f"the network's inputs are called {names}, and the data has {_told(features)}"
            )
        feature, ours = by_name[tensor.name]
        ordered[tensor.name] = _checked(framework, tensor, feature, ours)
    if isinstance(model, framework.keras.Sequential) or len(asked) == 1:
        single = ordered[asked[0].name]
        if isinstance(model, framework.keras.Sequential):
            return single
        return framework.keras.tree.map_structure(lambda _: single, model.input)
    return framework.keras.tree.map_structure(lambda one: ordered[one.name], model.input)


def _checked(framework: Framework, tensor: Any, feature: Feature, ours: Any) -> Any:
    shape = tuple(tensor.shape[1:])
    fits = len(shape) == len(feature.shape) and all(
        asked in (None, axis) for asked, axis in zip(shape, feature.shape, strict=True)
    )
    if tensor.dtype == "string" or not fits:
        raise shape_mismatch(
            f"the network takes {tensor.dtype} {told(shape)}, and the rows of {feature.name!r} are"
            f" {feature.dtype} {told(feature.shape)}"
        )
    if str(ours.dtype) == str(tensor.dtype):
        return ours
    return framework.keras.ops.cast(ours, tensor.dtype)


def _same_text(layer: Any, text: TextPreparation, vocabulary: Sequence[str]) -> None:
    """Whether the rows' ids are those of the version's own layer."""
    said = layer.get_config()
    theirs = {
        "length": said["output_sequence_length"],
        "standardize": said["standardize"],
        "split": said["split"],
        "ngrams": said["ngrams"],
        "mode": said["output_mode"],
    }
    standardize, split = standardization_of(text)
    ours = {
        "length": text.length,
        "standardize": standardize,
        "split": split,
        "ngrams": None,
        "mode": "int",
    }
    for key, value in ours.items():
        if theirs[key] != value:
            raise shape_mismatch(
                f"the version cuts texts with {key} {theirs[key]}, and prepare.text says {value}",
                "spec.prepare.text",
            )
    if list(layer.get_vocabulary())[2:] != list(vocabulary):
        raise shape_mismatch(
            "the rows were prepared with another vocabulary than the version's own",
            "spec.prepare.text",
        )


def _is_last_two(model: Any, layer: Any) -> bool:
    """Whether the model is the text layer and another model behind it: as ours are."""
    rest = [one for one in model.layers if type(one).__name__ != "InputLayer"]
    return len(rest) == 2 and rest[0] is layer and bool(getattr(rest[1], "layers", None))


def _told(features: Sequence[Feature]) -> str:
    return ", ".join(f"{one.name} {one.dtype} {told(one.shape)}" for one in features)
