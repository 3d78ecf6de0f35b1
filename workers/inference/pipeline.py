"""One device process's pipeline: threads for each stage, bounded hand-overs between them.

::

    intake ─▶ claim ──▶ decode ──▶ ready window ─▶ device ──▶ store ──────▶ commit ─▶ settled
              SQL       inputs     picked from     passes     encode, put   one transaction
                        to rows    when it is free

While a pass runs, jobs are claimed and decoded, and the batches before it are stored and
committed. Nothing waits for a batch to fill: a pass is the best of what is there when the device
is free, and the slowest stage decides how much that is. Each lane has threads of its own on both
sides of the window (``chain``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.queue.lanes import DEVICE_LANES, Lane
from storage.records.sessions import NewSession
from workers.inference.batch import Batch, Fault, Work, deliver
from workers.inference.batching import Pick
from workers.inference.chain import TICK_S, Chain, Counters
from workers.inference.finish import Announce
from workers.inference.intake import Intake
from workers.inference.parts import Parts
from workers.inference.ports import Runtime
from workers.inference.ready import Choice
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

_STAGES = ("claim", "decode", "device", "store", "commit")
_LAST_WORD_S = 2.0  # for a batch in the middle of its commit when patience ends
_LATE_GRACE_S = 5.0  # a pass so long after the run deadline of all its jobs is given up


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
        self._settings, self._clock = settings, clock
        self._stop = threading.Event()
        self._end = threading.Event()  # after the drain: for what must outlive it
        self._threads: dict[str, threading.Thread] = {}
        self._devices_left = _Countdown(settings.device_threads)
        self._decoders_left = _Countdown(len(DEVICE_LANES))
        self.parts = Parts(
            database,
            objects,
            runtime,
            settings,
            clock,
            make_session,
            announce,
            stopping=self._stop.is_set,
        )
        self._chains = {
            lane: Chain(lane, self.parts, self._stop, self.counters) for lane in DEVICE_LANES
        }
        self.intake: Intake = self.parts.intake
        self.versions = self.parts.versions
        self.sessions = self.parts.sessions

    def start(self) -> None:
        """Open the session (raises when the database does not answer) and start."""
        parts = self.parts
        parts.sessions.open()
        loops: dict[str, Callable[[], None]] = {
            "loader": lambda: parts.versions.run(self._stop),
            "prober": lambda: parts.prober.run(self._stop),
            "packs": lambda: parts.stock.run(self._end),
            "gate": lambda: parts.gate.run(self._end),
            "session": lambda: parts.sessions.run(self._end),
        }
        for lane, chain in self._chains.items():
            for stage, loop in chain.loops(self._all_decoded).items():
                loops[stage if lane is Lane.NORMAL else f"{stage}-{lane}"] = loop
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
    def shut_out_s(self) -> float:
        """For how long storage has not answered; 0 while it does."""
        return self.parts.gate.closed_for_s

    @property
    def stopping(self) -> bool:
        """Whether the drain has begun."""
        return self._stop.is_set()

    @property
    def hangs(self) -> bool:
        """After the drain: whether a pass still runs."""
        return self.parts.passes.busy()

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
        deadline = threading.Event()
        patience = threading.Timer(self._settings.drain_s, deadline.set)
        patience.daemon = True
        patience.start()
        hurry = self.parts.finisher.hurry
        try:
            while any(stage.is_alive() for stage in stages) and not deadline.is_set():
                pump()
                _join(stages, 0.01)
                if not self.claiming:  # storage is down: one try, the reaper does the rest
                    hurry.set()
                if self.parts.passes.late_s() > _LATE_GRACE_S:
                    break  # the device hangs: waiting for it is in vain
            hurry.set()
            _join(stages, _LAST_WORD_S)
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

    def _device_loop(self, slot: int) -> None:
        while not self.parts.ready.closed:
            self._follow(slot, self.parts.ready.choose(slot, self._room, TICK_S))
        if self._devices_left.one_less():
            for chain in self._chains.values():
                chain.computed.close()

    def _room(self, lane: Lane) -> int:
        return self._chains[lane].computed.room

    def _follow(self, slot: int, choice: Choice, *, lends: bool = True) -> None:
        """Answer who is late, run what was picked, and hand both on. A pick of several passes
        lends the device to one online pick between any two of them, which lends it to nobody."""
        for lane, works in _by_lane(choice.expired).items():
            self._chains[lane].computed.put(self._expired(works))
        if choice.pick is not None:
            began_s = self._clock.monotonic_s()
            batch = self._compute(slot, choice, choice.pick, lends)
            if batch.works[0].block is None:
                self._chains[choice.lane].computed.put(batch)
            else:
                deliver(batch, self._clock.monotonic_s() - began_s)

    def _compute(self, slot: int, choice: Choice, pick: Pick, lends: bool) -> Batch:
        def between() -> None:
            if lends:
                other = self.parts.ready.choose_between(slot, pick, self._room)
                self._follow(slot, other, lends=False)

        try:
            return self.parts.devices[slot].compute(choice, between)
        except Exception as fault:
            log.exception("the device stage failed; the batch's jobs are tried again")
            for work in choice.works:
                work.entered_device = True
                message = f"the device stage failed: {type(fault).__name__}"
                work.fault = work.fault or Fault("internal_error", message)
            return Batch(choice.works, choice.lease)

    def _expired(self, works: list[Work]) -> Batch:
        for work in works:
            work.expired = True
            self.parts.meters.expired(work.job.version_id, work.job.tenant, 1)
        return Batch(works)

    def _all_decoded(self) -> list[Work]:
        """The last decode thread closes the window, and has what was left in it."""
        left = self.parts.ready.close() if self._decoders_left.one_less() else []
        for work in left:
            if work.block is not None:
                work.block.deliver(None)
        return [work for work in left if work.block is None]


class _Countdown:
    """Who is the last of several threads?"""

    def __init__(self, count: int) -> None:
        self._count, self._lock = count, threading.Lock()

    def one_less(self) -> bool:
        """Whether it is the caller."""
        with self._lock:
            self._count -= 1
            return self._count == 0


def _join(threads: Iterable[threading.Thread], timeout_s: float) -> None:
    """Wait for the first one that lives, or for all of them when time is left."""
    end_s = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))


def _by_lane(works: Iterable[Work]) -> dict[Lane, list[Work]]:
    found: dict[Lane, list[Work]] = {}
    for work in works:
        found.setdefault(work.line.lane, []).append(work)
    return found
