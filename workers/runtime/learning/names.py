"""Keras's optimisers, losses, metrics and schedules by name, with their arguments checked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from storage.records.errors import InvalidInput
from storage.records.keras_allowed import ALLOWED
from storage.records.training import Named
from workers.runtime.learning.refusals import first_line, unknown

_NOT_FOR_CALLERS = frozenset({"self", "name", "dtype", "reduction", "kwargs"})
_OWN_WAY = {"RMSprop": "rmsprop", "AdamW": "adamw"}  # as Keras spells them itself
_LEFT_OUT = frozenset({"LossScaleOptimizer"})  # wraps another one


def plain(name: str) -> str:
    """A name without what spellings differ in: ``exponential_decay``, ``ExponentialDecay``."""
    return name.replace("_", "").replace("-", "").lower()


def snake(name: str) -> str:
    """A class's name as a spec spells it."""
    if name in _OWN_WAY:
        return _OWN_WAY[name]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def class_of(module: Any, path: str, name: str) -> type | None:
    """The class of this name in one of Keras's modules (``keras.losses``), if it is allowed."""
    for allowed in ALLOWED[path] - _LEFT_OUT:
        if plain(allowed) == plain(name):
            return getattr(module, allowed, None)
    return None


def known(path: str) -> list[str]:
    """All names of a module, as a spec spells them."""
    return [snake(name) for name in ALLOWED[path] - _LEFT_OUT]


def made(
    module: Any,
    path: str,
    named: Named,
    what: str,
    refusal: tuple[str, str],
    also: Mapping[str, Any] | None = None,
) -> Any:
    """The object. ``refusal``: the code and the field of what is wrong with the spec's words.
    ``also``: arguments that do not come from the spec."""
    code, field = refusal
    found = class_of(module, path, named.name)
    if found is None:
        raise InvalidInput(unknown(what, named.name, known(path)), code=code, field=field)
    parameters = inspect.signature(found.__init__).parameters  # type: ignore[misc]
    taken = set(parameters) - _NOT_FOR_CALLERS
    for argument in named.arguments:
        if argument not in taken:
            message = unknown(f"argument of {snake(found.__name__)} called", argument, taken)
            raise InvalidInput(message, code=code, field=f"{field}.{argument}")
    arguments = {
        name: float(value)  # Keras takes no 1 for 1.0
        if type(value) is int and type(parameters[name].default) is float
        else value
        for name, value in named.arguments.items()
    }
    try:
        return found(**{**arguments, **(also or {})})
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{snake(found.__name__)} cannot be made with {dict(named.arguments)}:"
            f" {first_line(error)}"[:1_000],
            code=code,
            field=field,
        ) from error
