"""What the keeper writes down of its duties: that one ran, and whether it left something to do."""

from __future__ import annotations

import logging

from storage.clock import Clock
from storage.database import Database
from workers.inference.gate import TROUBLE
from workers.keeper.duty import Duty

log = logging.getLogger(__name__)

NOTE_EVERY_S = 5.0


class Notes:
    """One note of a duty every few seconds; at once when it falls behind or has caught up."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._last = dict[str, tuple[float, bool]]()  # each duty's own thread changes its own entry

    def take(self, duty: Duty, *, clear: bool) -> None:
        """The duty has run. ``clear``: it left nothing to do, and nothing was wrong."""
        now_s = self._clock.monotonic_s()
        noted_s, was_clear = self._last.get(duty.name, (float("-inf"), not clear))
        if clear == was_clear and now_s - noted_s < NOTE_EVERY_S:
            return
        # A duty that is well is silent for so long, and must not look late meanwhile.
        silent_ms = int(1000 * (duty.config.every_s + NOTE_EVERY_S))
        try:
            with self._database.begin(lasting=False) as tx:
                tx.duties.note(duty.name, silent_ms, clear=clear)
        except TROUBLE as trouble:
            log.debug("%s could not be noted: %s", duty.name, type(trouble).__name__)
            return
        except Exception:
            log.exception("%s could not be noted", duty.name)
            return
        self._last[duty.name] = (now_s, clear)
