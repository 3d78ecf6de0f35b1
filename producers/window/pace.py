"""When the relay looks next. Pure: the loop owns the clock.

At once when idle and poked; at most a third of the time while pokes come and jobs enter; and where
a window is full, as often as it drains by an eighth: in between, pokes only cost a glance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BUSY_TICK_S, FULL_TICK_S, IDLE_TICK_S = 0.05, 0.2, 1.0
FRESH_TICK_S = 0.15  # so that a look is fresh for those who enter by themselves
FULL_REST_S = 0.025
LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
DRAINED = 1 / 8  # of a full window should have left it at the next look
LEAST_AGAIN_S, LONGEST_AGAIN_S = 0.01, 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """What one look did: ``marked`` rows, of which ``returned`` went back to the backlog."""

    marked: int = 0
    returned: int = 0
    waiting: bool = False  # there was more than the window could take
    again_s: float = math.inf  # the next look should not be later

    def __add__(self, other: Look) -> Look:
        return Look(
            self.marked + other.marked,
            self.returned + other.returned,
            self.waiting or other.waiting,
            min(self.again_s, other.again_s),
        )

    @property
    def failed(self) -> bool:
        """Whether the broker took nothing."""
        return bool(self.returned) and self.returned == self.marked


class Pace:
    """The times of one relay's looks."""

    def __init__(self) -> None:
        self._tick_s, self._pause_s = BUSY_TICK_S, LEAST_PAUSE_S
        self._due_s = self._poked_due_s = -math.inf

    def wait_s(self, now_s: float, poked: bool) -> float:
        """How long until the next look is due; 0 when it is."""
        if poked:
            self._tick_s = BUSY_TICK_S
        return max(0.0, (self._poked_due_s if poked else self._due_s) - now_s)

    def looked(self, look: Look, began_s: float, ended_s: float, longest_s: float) -> None:
        """``longest_s`` is how old a look may become when nothing happens."""
        self._pause_s = LEAST_PAUSE_S
        longest_s = min(longest_s, FULL_TICK_S) if look.waiting else longest_s
        self._tick_s = BUSY_TICK_S if look.marked else min(longest_s, self._tick_s * 2)
        self._poked_due_s = ended_s + rest_s(look, ended_s - began_s)
        self._due_s = max(self._poked_due_s, ended_s + min(self._tick_s, look.again_s))

    def failed(self, ended_s: float, least_s: float) -> None:
        """Nothing could be read or sent; the publisher asks for ``least_s``."""
        self._due_s = self._poked_due_s = ended_s + max(self._pause_s, least_s)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)


def rest_s(look: Look, took_s: float) -> float:
    """How long to leave the database alone after a look, however many pokes come.

    A relay that answered every poke of a flood would spend as much as the submits themselves.
    So it looks at most a third of the time; where jobs wait it will look again soon anyway.
    """
    if look.waiting:
        return min(FULL_REST_S, look.again_s)
    return min(BUSY_TICK_S, 2 * took_s) if look.marked else 0.0


def next_again_s(again_s: float, drained: float) -> float:
    """``drained`` of a full window left in ``again_s``: when to look into it next."""
    factor = min(2.0, max(0.5, DRAINED / drained)) if drained > 0 else 2.0
    return min(LONGEST_AGAIN_S, max(LEAST_AGAIN_S, again_s * factor))
