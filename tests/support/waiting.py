"""Waiting for a condition with a deadline, never for an amount of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class DeadlinePassed(AssertionError):
    """The condition did not come true in time; the message says what was last seen."""


def wait_until(
    condition: Callable[[], T],
    deadline_s: float = 30.0,
    *,
    what: str | None = None,
    every_s: float = 0.02,
    ignoring: tuple[type[BaseException], ...] = (),
) -> T:
    """The first truthy value of ``condition()``.

    Raises ``DeadlinePassed`` with the last value (or the last ignored error) when none comes
    within ``deadline_s``. The condition is always looked at once more after the deadline, so a
    machine that stood still does not fail a condition that has long been true.
    """
    end = time.monotonic() + deadline_s
    while True:
        late = time.monotonic() >= end
        try:
            value = condition()
            seen: object = value
            if value:
                return value
        except ignoring as error:
            seen = error
        if late:
            name = what or getattr(condition, "__qualname__", "the condition")
            raise DeadlinePassed(f"{name}: not within {deadline_s} s; last seen: {seen!r}")
        time.sleep(every_s)
