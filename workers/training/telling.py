"""What a course says of an epoch: to people, and as numbers that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from storage.records.errors import ForebayError, InvalidInput
from workers.training.position import End, Position


def number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    known = {name: number(value) for name, value in values.items()}
    return {name: value for name, value in known.items() if value is not None}


def summary(told: Mapping[str, float | None], epochs: int, at: Position) -> str:
    """One line on an epoch."""
    measured = [
        f"{name} {value:.5g}" if value is not None else f"{name} is no number"
        for name, value in told.items()
        if name not in ("epoch", "rows", "seconds")
    ]
    line = f"epoch {told['epoch']} of {epochs}: {', '.join(measured)}; {told['seconds']} s"
    reasons = {
        End.EARLY: f"nothing got better for {at.patience.waited} epochs: it stops",
        End.MAX_S: "the time that limits.max_s allows is over: it stops",
        End.MAX_STEPS: "the steps that limits.max_steps allows are done: it stops",
    }
    return f"{line}; {reasons[at.ended]}" if at.ended in reasons else line


def with_place(error: ForebayError) -> str:
    """The message with the field of the spec that it is about, if there is one: a job's error has
    no other place for it."""
    if error.field is None:
        return error.message
    field = error.field if error.field.startswith("spec") else f"spec.{error.field}"
    return error.message if field in error.message else f"{field}: {error.message}"


def with_files(
    error: InvalidInput, before: Mapping[str, Any] | None, now: Mapping[str, Any]
) -> InvalidInput:
    """``data_changed`` with the files that are not what the run's data (``before``) says of them;
    any other error as it is."""
    if error.stable_code != "data_changed" or not before:
        return error
    known, found = _by_uri(before), _by_uri(now)
    uris = [uri for uri in known | found if known.get(uri) != found.get(uri)]
    if not uris:
        return error
    more = f" and {len(uris) - 3} more" if len(uris) > 3 else ""
    says = f"{error.message}. Changed: {', '.join(uris[:3])}{more}"
    return InvalidInput(says, code="data_changed", field="data.uri")


def _by_uri(data: Mapping[str, Any]) -> dict[str, Any]:
    return {one["uri"]: one for one in data.get("files", ())}
