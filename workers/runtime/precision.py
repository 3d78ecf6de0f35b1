"""A model made to compute in half precision, with its weights and its outputs as they were.

Keras' mixed policies do that layer by layer. The layers that give the outputs, those that prepare
raw values (0 to 255, vocabulary indices) and those whose maker chose a type stay as they are: there
the missing digits would show.
"""

from __future__ import annotations

from typing import Any

from storage.records.serving import Precision
from workers.inference.ports import ModelBroken
from workers.runtime.framework import Framework

_POLICIES = {Precision.FLOAT16: "mixed_float16", Precision.BFLOAT16: "mixed_bfloat16"}
UNSUPPORTED = "precision_unsupported"
TOLERANCE = 0.05  # of the largest value: more than that is another answer


def lower(framework: Framework, model: Any, precision: Precision) -> None:
    """Set the layers' policies; what is traced afterwards computes in them."""
    keras = framework.keras
    if model is None:
        raise ModelBroken(
            "the precision of a SavedModel is fixed when it is saved: push a .keras file, or leave"
            " serving.precision out",
            code=UNSUPPORTED,
        )
    policy = keras.dtype_policies.DTypePolicy(_POLICIES[precision])
    last = {id(tensor._keras_history.operation) for tensor in keras.tree.flatten(model.outputs)}
    for layer in model._flatten_layers(include_self=False):
        native = getattr(layer.dtype_policy, "name", None) == "float32"
        prepares = ".preprocessing." in type(layer).__module__
        if native and not prepares and id(layer) not in last and not hasattr(layer, "layers"):
            layer.dtype_policy = policy
