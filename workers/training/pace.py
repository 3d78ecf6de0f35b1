"""How many steps go into one call of the learner: few enough to hear a pause, enough to be fast.

Pure: whoever holds the clock says how long a call took. How steps are grouped changes no result
(where metrics of fractions are summed, no result of a ``deterministic`` training).
"""

from __future__ import annotations

from collections import deque

MOST_S = 0.05  # of one call: so soon a pause or a cancel is heard
MOST_STEPS = 1_024
MOST_BYTES = 64 << 20  # of one call's rows
_LATELY = 3  # calls that are looked at


class Pace:
    """Doubles the steps of a call as long as it stays within ``MOST_S``.

    What counts is the fastest of the last few calls: the first one compiles, and any number of
    steps that is new may compile again.
    """

    def __init__(self, batch_bytes: int) -> None:
        self._most = max(1, min(MOST_STEPS, MOST_BYTES // max(1, batch_bytes)))
        self._lately: deque[float] = deque(maxlen=_LATELY)  # seconds a step, of each call
        self._compiled = False
        self._steps = 1

    @property
    def steps(self) -> int:
        """How many the next call should take; a power of two."""
        return self._steps

    @property
    def step_s(self) -> float | None:
        """Seconds a step, lately; None while unknown."""
        return min(self._lately, default=None)

    def took(self, steps: int, seconds: float) -> None:
        """A call of so many steps took so long."""
        if not self._compiled:
            self._compiled = True
            return
        self._lately.append(max(seconds, 1e-9) / steps)
        fits = int(MOST_S / min(self._lately))
        if fits >= 2 * self._steps:
            self._steps = min(2 * self._steps, _power_of_two(self._most))
        while self._steps > 1 and fits < self._steps:
            self._steps //= 2


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)
