"""When to try a broken connection again: a pure decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays with jitter, so that many publishers do not knock together."""

    first_s: float = 0.1
    longest_s: float = 5.0

    def delay_s(self, failures: int, chance: float) -> float:
        """After ``failures`` in a row (from 1); ``chance`` in [0, 1) moves it by half at most."""
        full = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return full * (0.5 + chance / 2)


class Door:
    """Whether a publisher may knock now. Time and chance are handed in."""

    def __init__(self, backoff: Backoff, chance: Callable[[], float]) -> None:
        self._backoff, self._chance = backoff, chance
        self._failures = 0
        self._shut_until_s = 0.0

    def shut_for_s(self, now_s: float) -> float:
        """Seconds until the next attempt is due; 0 when it is."""
        return max(0.0, self._shut_until_s - now_s)

    def failed(self, now_s: float) -> float:
        """Count a failure; returns the delay it costs."""
        self._failures += 1
        delay_s = self._backoff.delay_s(self._failures, self._chance())
        self._shut_until_s = now_s + delay_s
        return delay_s

    def worked(self) -> None:
        self._failures, self._shut_until_s = 0, 0.0
