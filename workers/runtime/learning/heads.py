"""What a network says at its end: decided by how labels are given and by the loss."""

from __future__ import annotations

from dataclasses import dataclass

from storage.records.training import Named
from workers.runtime.learning.refusals import bad_loss
from workers.training.ports import Prepared, Target

_ACTIVATIONS = {
    Target.INDEX: "softmax",
    Target.ONE_HOT: "softmax",
    Target.BINARY: "sigmoid",
    Target.SIGNED: "linear",
    Target.NUMBER: "linear",
}


@dataclass(frozen=True, slots=True)
class Head:
    """The last layer."""

    units: int
    activation: str
    name: str  # of the layer, and so of the output


def head_of(loss: Named, prepared: Prepared) -> Head:
    """``bad_loss`` where the loss knows two labels and the data has another number of them."""
    count, target = len(prepared.labels), prepared.target
    if target is not Target.NUMBER and count < 2:
        raise bad_loss(f"the data has {count} label(s): there is nothing to tell apart")
    if target is Target.BINARY and count != 2:
        fitting = "sparse_categorical_crossentropy or categorical_crossentropy"
        raise bad_loss(
            f"{loss.name} tells two labels apart and the data has {count}: use {fitting}"
        )
    if target is Target.NUMBER:
        # Of a count, which Poisson's loss takes the logarithm of.
        return Head(1, "softplus" if loss.name == "poisson" else "linear", _free("value", prepared))
    single = target is Target.BINARY or (target is Target.SIGNED and count == 2)
    activation = "linear" if loss.arguments.get("from_logits") else _ACTIVATIONS[target]
    return Head(1 if single else count, activation, _free("label", prepared))


def _free(name: str, prepared: Prepared) -> str:
    """A name that no input has: Keras takes each only once."""
    while any(feature.name == name for feature in prepared.features):
        name += "_out"
    return name
