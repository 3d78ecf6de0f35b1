"""One device process's pipeline: threads for each stage, bounded hand-overs between them.

::

    intake ─▶ claim ──▶ decode ──▶ ready window ─▶ device ───▶ store ────────▶ commit ─▶ settled
              SQL       inputs     picked from     passes      encode, put     one transaction
                        to rows    when it is free

While a pass runs, jobs are claimed and decoded, and the batches before it are stored and
committed. Nothing waits for a batch to fill: a pass is the best of what is there when the device
is free, and the slowest stage decides how much that is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.sessions import NewSession
from workers.inference.batch import Batch, Fault, Work
from workers.inference.claim import Claimed
from workers.inference.finish import Announce, Stored
from workers.inference.handoff import Handoff
from workers.inference.intake import Intake
from workers.inference.parts import Parts
from workers.inference.ports import Runtime
from workers.inference.ready import Choice
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

_STAGES = ("claim", "decode", "device", "store", "commit")
_TICK_S = 0.25  # how often an idle stage looks at its stop signal
_LAST_WORD_S = 2.0  # for a batch in the middle of its commit when patience ends
_LATE_GRACE_S = 5.0  # a pass so long after the run deadline of all its jobs is given up
_AHEAD = 2  # batches between two stages: one may be overtaken by one that is in a hurry


@dataclass(slots=True)
class Counters:
    """What ran so far; for logs, the demo and tests."""

    batches: int = 0
    jobs: int = 0


class Pipeline:
    """Built stopped; ``start`` opens a session and starts the threads; ``drain`` ends them."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        runtime: Runtime,
        settings: WorkerSettings,
        clock: Clock,
        make_session: Callable[[str], NewSession],
        announce: Announce | None = None,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self._claimed: Handoff[Claimed] = Handoff(_AHEAD)
        self._computed: Handoff[Batch] = Handoff(_AHEAD)
        self._stored: Handoff[Stored] = Handoff(_AHEAD)
        self._stop = threading.Event()
        self._end = threading.Event()  # after the drain: for what must outlive it
        self._threads: dict[str, threading.Thread] = {}
        self._devices_left = settings.device_threads
        self._devices_lock = threading.Lock()
        self.parts = Parts(
            database,
            objects,
            runtime,
            settings,
            clock,
            make_session,
            announce,
            refuse=self._computed.put,
            stopping=self._stop.is_set,
        )
        self.intake: Intake = self.parts.intake
        self.versions = self.parts.versions
        self.sessions = self.parts.sessions

    def start(self) -> None:
        """Open the session (raises when the database does not answer) and start."""
        parts = self.parts
        parts.sessions.open()
        loops: dict[str, Callable[[], None]] = {
            "claim": self._claim_loop,
            "decode": self._decode_loop,
            "store": self._store_loop,
            "commit": self._commit_loop,
            "loader": lambda: parts.versions.run(self._stop),
            "prober": lambda: parts.prober.run(self._stop),
            "packs": lambda: parts.stock.run(self._end),
            "gate": lambda: parts.gate.run(self._end),
            "session": lambda: parts.sessions.run(self._end),
        }
        for slot in range(self._settings.device_threads):
            loops[f"device-{slot}"] = lambda slot=slot: self._device_loop(slot)  # type: ignore[misc]
        for name, work in loops.items():
            thread = threading.Thread(target=work, name=f"forebay-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

    @property
    def claiming(self) -> bool:
        """Whether storage answers, so that new jobs are taken."""
        return self.parts.gate.is_open

    @property
    def stopping(self) -> bool:
        """Whether the drain has begun."""
        return self._stop.is_set()

    def failure(self) -> str | None:
        """What has died or hangs, for the watchdog; None while all is well."""
        longest_s, late_s = self.parts.passes.longest_s(), self.parts.passes.late_s()
        if longest_s > self._settings.hang_after_s:
            return f"a forward pass has taken {longest_s:.0f} s"
        if late_s > _LATE_GRACE_S:
            return f"a forward pass is {late_s:.0f} s past the run deadline of all its jobs"
        if self._stop.is_set():
            return None
        dead = [name for name, thread in self._threads.items() if not thread.is_alive()]
        return f"the {dead[0]} thread has died" if dead else None

    def drain(self, pump: Callable[[], None]) -> bool:
        """Stop taking, finish what runs, give back the rest. False when it took too long.

        ``pump`` is called over and over meanwhile: the caller's loop must not starve.
        """
        self.intake.close()
        self._stop.set()
        stages = [
            thread for name, thread in self._threads.items() if name.partition("-")[0] in _STAGES
        ]
        last = self._threads.get("commit")
        deadline = threading.Event()
        patience = threading.Timer(self._settings.drain_s, deadline.set)
        patience.daemon = True
        patience.start()
        hurry = self.parts.finisher.hurry
        try:
            while any(stage.is_alive() for stage in stages) and not deadline.is_set():
                pump()
                if last is not None:
                    last.join(0.01)
                if not self.claiming:  # storage is down: one try, the reaper does the rest
                    hurry.set()
                if self.parts.passes.late_s() > _LATE_GRACE_S:
                    break  # the device hangs: waiting for it is in vain
            hurry.set()
            if last is not None:
                last.join(_LAST_WORD_S)
        finally:
            patience.cancel()
        return not any(stage.is_alive() for stage in stages)

    def close(self) -> None:
        """After the drain (made up for when it never came): end the session, free the models."""
        if not self._stop.is_set():
            self.drain(lambda: None)
        self._end.set()
        self.parts.wake()
        for name in ("gate", "session", "packs", "loader", "prober"):
            thread = self._threads.get(name)
            if thread is not None:
                thread.join(5)
        self.parts.close()

    def _claim_loop(self) -> None:
        claimer = self.parts.claimer
        while not self._stop.is_set():
            if not self._claimed.wait_for_room(_TICK_S):
                continue
            try:
                claimed = claimer.next(_TICK_S)
            except Exception:
                log.exception("the claim stage failed; going on")
                self._stop.wait(1.0)
                continue
            if claimed is not None:
                self._claimed.put(claimed)
        self._claimed.close()

    def _decode_loop(self) -> None:
        decoder, claimer = self.parts.decoder, self.parts.claimer
        while not self._claimed.finished():
            claimed = self._claimed.get(_TICK_S)
            if claimed is not None:
                claimer.give_back(decoder.run(claimed))
        claimer.give_back(self.parts.ready.close())

    def _device_loop(self, slot: int) -> None:
        ready = self.parts.ready
        while not ready.closed:
            if self._computed.wait_for_room(_TICK_S):
                choice = ready.choose(slot, _TICK_S)
                if choice.expired:
                    self._computed.put(self._expired(choice.expired))
                if choice.pick is not None:
                    self._computed.put(self._compute(slot, choice))
        with self._devices_lock:
            self._devices_left -= 1
            if not self._devices_left:
                self._computed.close()

    def _compute(self, slot: int, choice: Choice) -> Batch:
        try:
            return self.parts.devices[slot].compute(choice)
        except Exception as fault:
            log.exception("the device stage failed; the batch's jobs are tried again")
            for work in choice.works:
                work.entered_device = True
                message = f"the device stage failed: {type(fault).__name__}"
                work.fault = work.fault or Fault("internal_error", message)
            assert choice.pick is not None
            return Batch(choice.works, choice.pick.bulk, choice.lease)

    def _expired(self, works: Sequence[Work]) -> Batch:
        for work in works:
            work.expired = True
            self.parts.meters.expired(work.job.version_id, work.job.tenant, 1)
        return Batch(list(works), bulk=False)

    def _store_loop(self) -> None:
        while not self._computed.finished():
            if not self._stored.wait_for_room(_TICK_S):
                continue
            batch = self._computed.get(_TICK_S)
            if batch is not None:
                self._stored.put(self.parts.finisher.store(batch))
        self._stored.close()

    def _commit_loop(self) -> None:
        while not self._stored.finished():
            stored = self._stored.get(_TICK_S)
            if stored is None:
                continue
            try:
                self.parts.finisher.commit(stored)
            except Exception:
                log.exception("a commit failed; the reaper will have its jobs")
                for session_id in stored.shares:
                    self.sessions.retire(session_id)
            self.counters.batches += 1
            self.counters.jobs += len(stored.works)
