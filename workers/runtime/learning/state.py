"""A learner's state as arrays by name, and back.

Names are made of the part, the variable's place in it and its own last name: Keras counts the
names of layers over the whole process, so they differ from one process to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from storage.records.errors import InvalidInput
from workers.training.ports import Array


def named(part: str, variables: Sequence[Any]) -> dict[str, Any]:
    """The variables by name; the same for every build of the same network."""
    return {
        f"{part}/{index:04d}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for index, variable in enumerate(variables)
    }


def taken(variables: Mapping[str, Any]) -> dict[str, Array]:
    """A copy of each value."""
    return {name: np.array(_tensor(one).numpy()) for name, one in variables.items()}


def put(variables: Mapping[str, Any], values: Mapping[str, Array], what: str) -> None:
    """Every value into its variable; ``checkpoint_mismatch`` before any is changed."""
    if variables.keys() != values.keys():
        odd = sorted(variables.keys() ^ values.keys())[0]
        raise _mismatch(f"{what} is of another network: {odd!r} is only in one of both")
    for name, variable in variables.items():
        value, tensor = values[name], _tensor(variable)
        if tuple(tensor.shape) != value.shape or tensor.dtype.as_numpy_dtype != value.dtype:
            raise _mismatch(
                f"{what} is of another network: {name!r} is {value.dtype} {list(value.shape)} in"
                f" it, and {tensor.dtype.name} {list(tensor.shape)} here"
            )
    for name, variable in variables.items():
        variable.assign(values[name])


def _tensor(variable: Any) -> Any:
    """TensorFlow's own variable, out of Keras's around it."""
    value = variable.value
    return variable if callable(value) else value


def _mismatch(message: str) -> InvalidInput:
    return InvalidInput(message, code="checkpoint_mismatch")
