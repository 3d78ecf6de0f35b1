"""The loop that runs duties: each at its own pace, in a thread of its own.

So a duty that takes long (objects are deleted one by one, a receiver is slow) never delays another.
Trouble of the storage is logged and tried again at the duty's next turn; a fault in one duty never
keeps another from running. What was done is noted in SQL, for ``/metrics``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from storage.clock import Clock, SystemClock
from storage.database import Database
from storage.objects import Objects
from workers.inference.gate import TROUBLE
from workers.keeper.abandoned_trainings import AbandonedTrainings
from workers.keeper.artifact_collection import ArtifactCollection, ArtifactCollectionConfig
from workers.keeper.duty import Duty, as_fields, is_clear, pause_s
from workers.keeper.expiry import Expiry, ExpiryConfig
from workers.keeper.group_completion import GroupCompletion
from workers.keeper.notes import Notes
from workers.keeper.pack_collection import PackCollection, PackCollectionConfig
from workers.keeper.reaper import Reaper, ReaperConfig
from workers.keeper.retention import Retention, RetentionConfig
from workers.keeper.sweep import Sweep, SweepConfig
from workers.keeper.trials import Trials
from workers.keeper.webhook_delivery import WebhookDelivery

log = logging.getLogger(__name__)


def standard_duties(
    sweep: SweepConfig | None = None,
    *,
    reaper: ReaperConfig | None = None,
    expiry: ExpiryConfig | None = None,
    packs: PackCollectionConfig | None = None,
    retention: RetentionConfig | None = None,
    artifacts: ArtifactCollectionConfig | None = None,
    webhooks: WebhookDelivery | None = None,
) -> tuple[Duty, ...]:
    """What every installation needs, with the documented defaults where nothing else is said."""
    return (
        Sweep(sweep),
        Reaper(reaper),
        Expiry(expiry),
        GroupCompletion(),
        PackCollection(packs),
        Retention(retention),
        AbandonedTrainings(),
        Trials(),
        ArtifactCollection(artifacts),
        webhooks or WebhookDelivery(),
    )


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
        self._notes = Notes(database, self._clock)
        self._due_s = {duty.name: 0.0 for duty in self._duties}

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``, every duty in a thread of its own; at the end all of them have ended."""
        threads = [
            threading.Thread(
                target=self._keep_running, args=(duty, stop), name=f"keeper-{duty.name}"
            )
            for duty in self._duties
        ]
        try:
            for thread in threads:
                thread.start()
            stop.wait()
        finally:
            stop.set()  # whatever ended the wait
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def run_due(self) -> float:
        """Run what is due, one duty after the other; seconds until the next one is."""
        for duty in self._duties:
            if self._due_s[duty.name] <= self._clock.monotonic_s():
                rest_s = self._run(duty)
                self._due_s[duty.name] = self._clock.monotonic_s() + rest_s
        return min(self._due_s.values(), default=1.0) - self._clock.monotonic_s()

    def close(self) -> None:
        """Let duties end what they have under way; ``run`` does so by itself."""
        for duty in self._duties:
            self._close(duty)

    def _keep_running(self, duty: Duty, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                stop.wait(self._run(duty))
        finally:
            self._close(duty)

    def _run(self, duty: Duty) -> float:
        """One run; how long to rest after it."""
        more = clear = False
        try:
            counts = duty.run_once(self._database, self._objects)
        except TROUBLE as trouble:
            log.warning("%s: %s, tried again later", duty.name, type(trouble).__name__)
        except Exception:
            log.exception("%s failed", duty.name)
        else:
            more, clear = counts.more, is_clear(counts)
            done = as_fields(counts)
            if any(done.values()):  # what runs many times a second has its metrics
                level = logging.INFO if duty.config.every_s >= 1 else logging.DEBUG
                log.log(level, "%s: %s", duty.name, done)
        self._notes.take(duty, clear=clear)
        return pause_s(duty.config, more=more)

    def _close(self, duty: Duty) -> None:
        close = getattr(duty, "close", None)
        if close is None:
            return
        try:
            close(self._database)
        except TROUBLE as trouble:
            log.warning("%s: %s at its end", duty.name, type(trouble).__name__)
        except Exception:
            log.exception("%s failed at its end", duty.name)
