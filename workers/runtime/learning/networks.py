"""From a spec to a network: what trains, and what is served of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.records.push_options import InputForm
from storage.records.training import TrainingSpec
from workers.runtime.framework import Framework
from workers.runtime.learning import architectures
from workers.runtime.learning.blame import laid_to
from workers.runtime.learning.heads import Head
from workers.runtime.learning.recipes import Recipe
from workers.runtime.learning.refusals import bad_network
from workers.runtime.learning.scaling import scaled
from workers.runtime.learning.texts import text_layer
from workers.training.ports import Feature, Prepared

log = logging.getLogger(__name__)

_FORMS = {InputForm.IMAGE: "image", InputForm.TEXT: "text", InputForm.RECORD: "record"}


def build(
    framework: Framework,
    spec: TrainingSpec,
    prepared: Prepared,
    head: Head,
    artifact: Path | None,
) -> Any:
    """A Functional model whose inputs are the features, in their order, as the rows are kept."""
    with laid_to(framework, bad_network, "Keras cannot build this network"):
        model = _build(framework, spec, prepared, head, artifact)
    if not model.trainable_variables:
        raise bad_network("the network has nothing that could be trained")
    return model


def served(framework: Framework, model: Any, prepared: Prepared) -> Any:
    """The same network for what callers have: a text in the place of its token ids."""
    keras, text = framework.keras, prepared.text
    if text is None or not any(one.dtype == "int32" for one in prepared.features):
        return model
    inputs, given = [], []
    for feature, tensor in zip(prepared.features, model.inputs, strict=True):
        if feature.dtype != "int32":
            inputs.append(keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name))
            given.append(inputs[-1])
            continue
        inputs.append(keras.Input((), dtype="string", name=_name(feature, prepared)))
        given.append(text_layer(framework, text, prepared.vocabulary)(inputs[-1]))
    return keras.Model(_one(inputs), model(_one(given)), name="served")


def _build(
    framework: Framework,
    spec: TrainingSpec,
    prepared: Prepared,
    head: Head,
    artifact: Path | None,
) -> Any:
    keras, network = framework.keras, spec.network
    inputs = [
        keras.Input(one.shape, dtype=one.dtype, name=_name(one, prepared, tokens=True))
        for one in prepared.features
    ]
    if network.version is not None or artifact is not None:
        if artifact is None:
            raise bad_network("the version's artifact is not there", "spec.network.version")
        base = architectures.from_version(framework, artifact, network)
        base = architectures.without_text_layer(framework, base, prepared)
        if architectures.takes_rows_raw(base, prepared):
            if prepared.scales:
                log.warning("prepare.scale is not used: the version scales its inputs itself")
            output = architectures.fitted(framework, base, prepared, inputs, head)
            return base if _is_same(base, inputs) else keras.Model(_one(inputs), output)
        tensors = _scaled(framework, inputs, prepared)
        output = architectures.fitted(framework, base, prepared, tensors, head)
    elif network.keras is not None:
        base = architectures.from_config(framework, network.keras)
        tensors = _scaled(framework, inputs, prepared)
        output = architectures.fitted(framework, base, prepared, tensors, head)
    else:
        recipe = Recipe(framework, network.recipe or "", network.arguments, prepared, head)
        output = recipe.output(_scaled(framework, inputs, prepared))
    return keras.Model(_one(inputs), output, name=head.name + "s")


def _scaled(framework: Framework, inputs: Sequence[Any], prepared: Prepared) -> list[Any]:
    return [
        scaled(framework, tensor, feature, prepared.scales.get(feature.name))
        for feature, tensor in zip(prepared.features, inputs, strict=True)
    ]


def _is_same(base: Any, inputs: Sequence[Any]) -> bool:
    """Whether a version takes one tensor of the very type: then it needs nothing around it."""
    theirs = list(base.inputs)
    return len(theirs) == len(inputs) == 1 and (
        (theirs[0].dtype, tuple(theirs[0].shape)) == (inputs[0].dtype, tuple(inputs[0].shape))
    )


def _name(feature: Feature, prepared: Prepared, *, tokens: bool = False) -> str:
    """What callers call it: by the form of the input where there is only one."""
    form = prepared.options.input
    own = feature.name.replace("/", "_")  # which Keras keeps for itself
    if tokens and feature.dtype == "int32":
        return f"{own}_tokens"
    return _FORMS[form] if len(prepared.features) == 1 and form in _FORMS else own


def _one(some: Sequence[Any]) -> Any:
    return some[0] if len(some) == 1 else list(some)
