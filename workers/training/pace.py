"""How many steps go into one call of the learner: few enough to hear a pause, enough to be fast.

Pure: whoever holds the clock says how long a call took. How steps are grouped changes no result.
"""

from __future__ import annotations

MOST_S = 0.05  # of one call: so soon a pause or a cancel is heard
MOST_STEPS = 1_024
MOST_BYTES = 64 << 20  # of one call's rows
_NEWEST = 0.3  # of the latest call in the average


class Pace:
    """Doubles the steps of a call as long as it stays within ``MOST_S``.

    The first call of a batch size is not counted: it compiles.
    """

    def __init__(self, batch_bytes: int) -> None:
        self._most = max(1, min(MOST_STEPS, MOST_BYTES // max(1, batch_bytes)))
        self._step_s: float | None = None
        self._calls = 0
        self._steps = 1

    @property
    def steps(self) -> int:
        """How many the next call should take; a power of two."""
        return self._steps

    @property
    def step_s(self) -> float | None:
        """Seconds a step, lately; None while unknown."""
        return self._step_s

    def took(self, steps: int, seconds: float) -> None:
        """A call of so many steps took so long."""
        self._calls += 1
        if self._calls == 1:
            return
        each_s = max(seconds, 1e-9) / steps
        known_s = self._step_s
        self._step_s = each_s if known_s is None else known_s + _NEWEST * (each_s - known_s)
        fits = int(MOST_S / self._step_s)
        if fits >= 2 * self._steps:
            self._steps = min(2 * self._steps, _power_of_two(self._most))
        while self._steps > 1 and fits < self._steps:
            self._steps //= 2


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)
