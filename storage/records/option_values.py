"""One JSON value of an option, checked: what it is, or a refusal that names its field.

Shared by everything that reads options strictly: push options, picture specs, serving knobs and
stored signatures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from storage.records.errors import InvalidInput

MAX_TEXT = 512


def refuse(message: str, field_name: str) -> InvalidInput:
    """The one way an option is refused."""
    return InvalidInput(message, code="invalid_options", field=field_name)


def as_object(value: object, where: str) -> dict[str, object]:
    """The JSON object, or a refusal."""
    if not isinstance(value, dict):
        raise refuse(f"{where} must be a JSON object", where)
    return value


def no_unknown_keys(entry: Mapping[str, object], known: set[str], where: str) -> None:
    """Refuse what nobody reads, so that a misspelt option is not silently without effect."""
    for key in entry:
        if key not in known:
            raise InvalidInput(
                f"{where} has no option {key[:80]!r}; there are {', '.join(sorted(known))}",
                code="unknown_field",
                field=f"{where}.{key[:80]}",
            )


def as_text(value: object, where: str) -> str:
    """A short printable string, or a refusal."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or "\x00" in value:
        raise refuse(f"{where} must be a string of 1 to {MAX_TEXT} characters, no NUL", where)
    return value


def as_integer(value: object, low: int, high: int, where: str) -> int:
    """An integer within bounds, or a refusal."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise refuse(f"{where} must be an integer from {low} to {high}", where)
    return value


def as_number(value: object, where: str) -> float:
    """A finite number, or a refusal."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse(f"{where} must be a finite number", where)
    return float(value)


def as_choice(value: object, choices: type[StrEnum], where: str) -> str:
    """One of an enumeration's values, or a refusal that lists them."""
    known = [choice.value for choice in choices]
    if not isinstance(value, str) or value not in known:
        raise refuse(f"{where} must be one of {', '.join(known)}", where)
    return value
