"""Whether two answers to one input say the same: by their label if both have one, else by every
number of every output. Pure; answers are what callers get, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_TINY = 1e-6  # numbers this near to each other agree, however near to nothing they are
_MOST_SHOWN = 8  # numbers of an output


def agree(one: Any, other: Any, tolerance: float) -> bool:
    """``tolerance`` is relative to the larger of two numbers."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if "label" in one and "label" in other:
            return bool(one["label"] == other["label"])
        if "items" in one or "items" in other:
            return agree(one.get("items"), other.get("items"), tolerance)
        if "outputs" in one and "outputs" in other:
            return agree(one["outputs"], other["outputs"], tolerance)
        return one.keys() == other.keys() and all(
            agree(value, other[key], tolerance) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            agree(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=_TINY)
    return bool(one == other)


def shown(answer: Any) -> Any:
    """An answer as it is shown beside another: its label with the score, else its first numbers."""
    if not isinstance(answer, Mapping):
        return answer
    if "label" in answer:
        top = answer.get("top")
        score = top[0].get("score") if isinstance(top, list) and top else None
        return {"label": answer["label"], "score": score}
    outputs = answer.get("outputs")
    if not isinstance(outputs, Mapping):
        return {"items": len(answer.get("items") or ())}
    return {name: _first(value) for name, value in outputs.items()}


def _first(value: Any) -> Any:
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return value[:_MOST_SHOWN] if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
