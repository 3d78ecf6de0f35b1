"""One lane's way through the pipeline: everything but the device is there once for each.

The jobs of each lane have threads of their own to be claimed, decoded, stored and committed: who
waits for an answer never waits behind a bulk claim or a bulk put, and a light tenant's job or one
of high priority never behind those of a flood. They meet in the ready window alone, where the
device is given to one or the other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.queue.lanes import Lane
from workers.inference.batch import Batch, Work
from workers.inference.claim import Claimed
from workers.inference.finish import Stored
from workers.inference.handoff import Handoff
from workers.inference.parts import Parts

log = logging.getLogger(__name__)

TICK_S = 0.25  # how often an idle stage looks at its stop signal


@dataclass(slots=True)
class Counters:
    """What ran so far; for logs, the demo and tests."""

    batches: int = 0
    jobs: int = 0


class Chain:
    """Bounded hand-overs, and the loops of the threads between them."""

    def __init__(self, lane: Lane, parts: Parts, stop: threading.Event, counters: Counters) -> None:
        self._lane, self._parts, self._stop, self._counters = lane, parts, stop, counters
        self.claimed: Handoff[Claimed] = Handoff(1)
        self.computed: Handoff[Batch] = Handoff(1, parts.ready.poke)
        self.stored: Handoff[Stored] = Handoff(1)

    def loops(self, decoded: Callable[[], Sequence[Work]]) -> dict[str, Callable[[], None]]:
        """By stage. ``decoded`` is called when no more will be decoded: it says what is left."""
        return {
            "claim": self._claim,
            "decode": lambda: self._decode(decoded),
            "store": self._store,
            "commit": self._commit,
        }

    def _claim(self) -> None:
        claimer = self._parts.claimer
        while not self._stop.is_set():
            if not self.claimed.wait_for_room(TICK_S):
                continue
            try:
                claimed = claimer.next(self._lane, TICK_S)
            except Exception:
                log.exception("the claim stage failed; going on")
                self._stop.wait(1.0)
                continue
            if claimed is not None:
                self.claimed.put(claimed)
        self.claimed.close()

    def _decode(self, decoded: Callable[[], Sequence[Work]]) -> None:
        decoder, claimer = self._parts.decoder, self._parts.claimer
        while not self.claimed.finished():
            claimed = self.claimed.get(TICK_S)
            if claimed is not None:
                claimer.give_back(decoder.run(claimed, self.computed.put))
        claimer.give_back(decoded())

    def _store(self) -> None:
        while not self.computed.finished():
            if not self.stored.wait_for_room(TICK_S):
                continue
            batch = self.computed.get(TICK_S)
            if batch is not None:
                self.stored.put(self._parts.finisher.store(batch))
        self.stored.close()

    def _commit(self) -> None:
        while not self.stored.finished():
            stored = self.stored.get(TICK_S)
            if stored is None:
                continue
            try:
                self._parts.finisher.commit(stored)
            except Exception:
                log.exception("a commit failed; the reaper will have its jobs")
                for session_id in stored.shares:
                    self._parts.sessions.retire(session_id)
            self._counters.batches += 1
            self._counters.jobs += len(stored.works)
