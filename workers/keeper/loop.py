"""The loop that runs duties, each at its own pace, in one thread.

Trouble of the storage is logged and tried again at the duty's next turn; a fault in one duty
never keeps another from running.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from storage.clock import Clock, SystemClock
from storage.database import Database
from storage.objects import Objects
from workers.inference.gate import TROUBLE
from workers.keeper.duty import Duty, as_fields
from workers.keeper.expiry import Expiry
from workers.keeper.leftovers import Leftovers
from workers.keeper.reaper import Reaper
from workers.keeper.stale_packs import StalePacks
from workers.keeper.sweep import Sweep, SweepConfig
from workers.keeper.webhook_delivery import WebhookDelivery

log = logging.getLogger(__name__)


def standard_duties(
    sweep: SweepConfig | None = None, webhooks: WebhookDelivery | None = None
) -> tuple[Duty, ...]:
    """What every installation needs, with the documented defaults where nothing else is said."""
    delivery = webhooks or WebhookDelivery()
    return (Sweep(sweep), Reaper(), Expiry(), StalePacks(), Leftovers(), delivery)


class Keeper:
    """Runs duties until it is told to stop."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        duties: Sequence[Duty] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._database, self._objects = database, objects
        self._duties = tuple(duties) if duties is not None else standard_duties()
        self._clock = clock or SystemClock()
        self._due_s = {duty.name: 0.0 for duty in self._duties}

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``."""
        try:
            while not stop.is_set():
                stop.wait(max(0.0, self.run_due()))
        finally:
            self.close()

    def close(self) -> None:
        """Let duties that have something under way bring it to an end."""
        for duty in self._duties:
            close = getattr(duty, "close", None)
            if close is not None:
                try:
                    close(self._database)
                except TROUBLE as trouble:
                    log.warning("%s: %s at its end", duty.name, type(trouble).__name__)

    def run_due(self) -> float:
        """Run what is due; seconds until the next one is."""
        for duty in self._duties:
            if self._due_s[duty.name] <= self._clock.monotonic_s():
                more = self._run(duty)
                pause_s = 0.0 if more else duty.config.every_s
                self._due_s[duty.name] = self._clock.monotonic_s() + pause_s
        return min(self._due_s.values(), default=1.0) - self._clock.monotonic_s()

    def _run(self, duty: Duty) -> bool:
        try:
            counts = duty.run_once(self._database, self._objects)
        except TROUBLE as trouble:
            log.warning("%s: %s, tried again later", duty.name, type(trouble).__name__)
            return False
        except Exception:
            log.exception("%s failed", duty.name)
            return False
        done = as_fields(counts)
        if any(done.values()):
            log.info("%s: %s", duty.name, done)
        return counts.more
