"""Whether storage answers. While it does not, nothing new is claimed: jobs wait in SQL.

Whoever meets trouble trips the gate; one thread asks the database and the object store until
both answer and opens it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from storage.clock import Clock
from storage.records.errors import Unavailable

log = logging.getLogger(__name__)

TROUBLE = (Unavailable, OSError)
"""What blames no item: a part we depend on does not answer."""


_LAST_PAUSE_S = 5.0
_CALM_S = 10.0


class Gate:
    """Open while storage answers."""

    def __init__(self, probes: tuple[Callable[[], None], ...], clock: Clock) -> None:
        self._probes, self._clock = probes, clock
        self._open = threading.Event()
        self._open.set()
        self._tripped = threading.Event()
        self._first_pause_s = 0.05
        self._opened_s = -_CALM_S
        self._closed_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def wait_open(self, timeout_s: float) -> bool:
        """Whether it is open, at once or within the time given."""
        return self._open.wait(timeout_s)

    @property
    def closed_for_s(self) -> float:
        """How long storage has not answered; 0 while it does."""
        return 0.0 if self._open.is_set() else self._clock.monotonic_s() - self._closed_s

    def trip(self, trouble: BaseException) -> None:
        """Something did not answer."""
        if self._open.is_set():
            log.warning("storage does not answer, claiming stops: %s", type(trouble).__name__)
            self._closed_s = self._clock.monotonic_s()
        self._open.clear()
        self._tripped.set()

    def run(self, stop: threading.Event) -> None:
        """Probe while it is closed; ends with ``stop``."""
        while not stop.is_set():
            if self._tripped.wait(0.2):
                self._reopen(stop)

    def _reopen(self, stop: threading.Event) -> None:
        # Trouble soon after an all-clear is trouble that the probes cannot see: wait longer.
        soon = self._clock.monotonic_s() - self._opened_s < _CALM_S
        self._first_pause_s = min(2 * self._first_pause_s, _LAST_PAUSE_S) if soon else 0.05
        pause_s = self._first_pause_s
        while not stop.wait(pause_s):
            if self._answers():
                self._tripped.clear()
                self._opened_s = self._clock.monotonic_s()
                self._open.set()
                log.warning("storage answers again, claiming goes on")
                return
            pause_s = min(2 * pause_s, 1.0)

    def _answers(self) -> bool:
        try:
            for probe in self._probes:
                probe()
        except Exception as trouble:
            log.debug("still no answer: %s", type(trouble).__name__)
            return False
        return True
