"""What a course says of an epoch: to people, and as numbers that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
