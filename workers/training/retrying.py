"""Trouble with storage ends no training: it is tried again, as long as the run is ours."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from storage.clock import Clock
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 5.0
_SAY_EVERY_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
LEAVING_S = 8.0  # how long storage is asked once this process has been told to end


class GaveUp(Exception):
    """Storage did not answer for as long as there was time, or the run is not ours any more."""


class Retrying:
    """One process's. ``stop`` is set when it is to end."""

    def __init__(self, stop: threading.Event, clock: Clock) -> None:
        self.stop, self._clock = stop, clock
        self._told_s: float | None = None

    def is_over(self) -> bool:
        """Whether nothing is to be tried again."""
        if not self.stop.is_set():
            return False
        now_s = self._clock.monotonic_s()
        if self._told_s is None:
            self._told_s = now_s
        return now_s - self._told_s > LEAVING_S

    def call(
        self,
        attempt: Callable[[], T],
        *,
        ours: Callable[[], bool] = lambda: True,
        on_trouble: Callable[[Exception], None] = lambda _: None,
    ) -> T:
        """What it returns once storage answers; ``GaveUp``. A full disk of our own is raised: it
        does not get empty by waiting."""
        pause_s, said_s = FIRST_PAUSE_S, -_SAY_EVERY_S
        while True:
            try:
                return attempt()
            except TROUBLE as trouble:
                if isinstance(trouble, OSError) and trouble.errno in _FULL:
                    raise
                if self._clock.monotonic_s() - said_s >= _SAY_EVERY_S:
                    said_s = self._clock.monotonic_s()
                    log.warning("storage does not answer: %s", type(trouble).__name__)
                on_trouble(trouble)
            if self.is_over() or not ours():
                raise GaveUp
            if self.stop.is_set():  # a stop shortens the pause that it falls into, and no other
                threading.Event().wait(min(pause_s, 1.0))
            else:
                self.stop.wait(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
