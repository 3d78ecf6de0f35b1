"""Takes shards as long as there are any, whoever's the jobs are.

Two at a time, so that the device has rows while the one before is stored: the next one is claimed
and opened when the one before is read, but only one of them is fed, so what a death costs stays
about one shard. Nothing is planned for a worker: one that joins takes the next shard like all
others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from storage.records.bulk import BulkSpec, ClaimedShard, Control, Plan, ShardNote, spec_of
from storage.records.errors import ForebayError
from storage.records.jobs import JobError
from storage.records.signatures import Signature
from workers.bulk.feeding import Sender, signature_of
from workers.bulk.kit import Failed, Kit, Stopped
from workers.bulk.scoring import ShardRun
from workers.inference.gate import TROUBLE
from workers.inference.refs import RefUnavailable

log = logging.getLogger(__name__)

SLOTS = 2
_POLL_S = 1.0  # how often an idle worker looks for open shards
_WATCH_S = 0.2  # how soon a pause or a cancel is known
_NOTE_S = 1.0
_FAULT_PAUSE_S = _TROUBLE_PAUSE_S = 2.0
_MOST_FAULTS = 5  # of ours in a row, until the run is told


@dataclass(frozen=True, slots=True)
class _Known:
    """What does not change of a run."""

    spec: BulkSpec
    plan: Plan
    signature: Signature


class Runner:
    """Threads of one process: a few that score, and one that watches over them."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._reading = threading.Lock()  # held by the slot whose shard is claimed and read
        self._feeding = threading.Lock()  # held by the slot whose shard enters the window
        self._news = threading.Event()
        self._lock = threading.Lock()
        self._active: dict[int, ShardRun] = {}  # by slot
        self._controls: dict[str, Control] = {}
        self._known: dict[str, _Known] = {}
        self._faults = 0

    def poke(self) -> None:
        """There are new shards."""
        self._news.set()

    def run(self, slot: int) -> None:
        """Score until the process stops."""
        while not self._kit.stopping():
            try:
                if not self._turn(slot):
                    self._news.wait(_POLL_S)
                    self._news.clear()
            except TROUBLE as trouble:
                self._kit.parts.gate.trip(trouble)
            except Exception:
                log.exception("the bulk runner failed; it goes on")
                self._kit.hurry.wait(_FAULT_PAUSE_S)

    def watch(self) -> None:
        """Ask what is to become of the active shards, and say how far they are."""
        noted_s, pace = 0.0, threading.Event()  # never set: shards that end are watched as well
        while not self._kit.stopping() or self._active:
            pace.wait(_WATCH_S)
            with self._lock:
                runs = list(self._active.values())
            if not runs:
                continue
            try:
                self._ask(runs)
                now_s = self._kit.clock.monotonic_s()
                if now_s - noted_s >= _NOTE_S:
                    noted_s = now_s
                    self._note(runs)
            except TROUBLE as trouble:
                self._kit.parts.gate.trip(trouble)
            except Exception:
                log.exception("watching over bulk shards failed; going on")

    # --- one shard

    def _turn(self, slot: int) -> bool:
        """Take a shard and score it; False when there is none now."""
        if not self._reading.acquire(timeout=_WATCH_S):
            return True
        release = _Once(self._reading)
        try:
            shard, session_id = self._claim()
            if shard is None or session_id is None:
                return False
            self._score(slot, Sender(shard, session_id), release)
            return True
        finally:
            release()

    def _claim(self) -> tuple[ClaimedShard | None, str | None]:
        kit = self._kit
        if not kit.parts.gate.wait_open(_WATCH_S):
            return None, None
        session_id = kit.parts.sessions.wait_current(_WATCH_S)
        if session_id is None:
            return None, None
        with kit.database.read() as tx:
            if not tx.bulk.work_waits(kit.pool):
                return None, None
        shard: ClaimedShard | None = None
        try:
            with kit.database.begin(lasting=False) as tx:
                shard = tx.bulk.claim(session_id, kit.pool)
        except Exception:
            if shard is not None:  # it may be this session's or not, and nobody will work on it
                kit.parts.sessions.retire(session_id)
            raise
        return shard, session_id

    def _score(self, slot: int, sender: Sender, release: _Once) -> None:
        shard = sender.shard
        run: ShardRun | None = None
        done, pause_s = False, 0.0
        try:
            known = self._of(shard)
            self._controls.setdefault(shard.job_id, Control.GO)
            run = ShardRun(
                self._kit,
                sender,
                known.spec,
                known.plan,
                known.signature,
                lambda: self._control(sender),
                self._feeding,
                release,
            )
            with self._lock:
                self._active[slot] = run
            run.run()
            self._faults, done = 0, True
        except Stopped:
            pass
        except Failed as failed:
            self._fail(shard, failed.error)
        except (*TROUBLE, RefUnavailable) as trouble:
            # It may be somebody else's storage: ours is asked by whoever gives the shard back.
            log.warning("a shard waits for storage: %s", type(trouble).__name__)
            pause_s = _TROUBLE_PAUSE_S
        except Exception as fault:
            pause_s = _FAULT_PAUSE_S
            self._fault(shard, fault)
        finally:  # also when the trouble could not be told
            if not done:
                self._give_back(run.shard if run else shard, sender.session_id)
            with self._lock:
                self._active.pop(slot, None)
        if pause_s:
            self._kit.hurry.wait(pause_s)

    def _of(self, shard: ClaimedShard) -> _Known:
        known = self._known.get(shard.job_id)
        if known is None:
            with self._kit.database.read() as tx:
                run = tx.bulk.run(shard.job_id)
                payload = tx.jobs.payload(shard.tenant, shard.job_id)
            if run is None or run.plan is None or not isinstance(payload, bytes):
                raise Stopped  # its job is over, and what was known of it is gone
            signature = signature_of(self._kit, shard.version_id)
            known = _Known(spec_of(payload), run.plan, signature)
            if len(self._known) > 64:
                self._known.clear()
            self._known[shard.job_id] = known
        return known

    def _control(self, sender: Sender) -> Control:
        if not self._kit.parts.sessions.is_live(sender.session_id) and not self._kit.stopping():
            return Control.STOP
        return self._controls.get(sender.shard.job_id, Control.GO)

    def _give_back(self, shard: ClaimedShard, session_id: str) -> None:
        """What is not committed by now is somebody else's to do. If this does not get through,
        the session is retired, so that the reaper does it."""
        try:
            with self._kit.database.begin() as tx:
                tx.bulk.release(session_id, [shard.key])
        except Exception as trouble:
            if not isinstance(trouble, TROUBLE):
                log.exception("a shard could not be given back")
            self._kit.parts.gate.trip(trouble)
            self._kit.parts.sessions.retire(session_id)

    def _fail(self, shard: ClaimedShard, error: ForebayError) -> None:
        log.warning("a bulk job cannot go on: %s", error.stable_code)
        with self._kit.database.begin() as tx:
            tx.bulk.fail(shard.job_id, JobError(error.stable_code, error.message))

    def _fault(self, shard: ClaimedShard, fault: Exception) -> None:
        """Something of ours broke: it is tried again, but not for ever."""
        log.error("a shard failed: %s", type(fault).__name__, exc_info=fault)
        self._faults += 1
        if self._faults >= _MOST_FAULTS:
            self._faults = 0
            told = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
            with self._kit.database.begin() as tx:
                tx.bulk.fail(shard.job_id, JobError("internal_error", told))

    # --- watching

    def _ask(self, runs: list[ShardRun]) -> None:
        jobs = {run.shard.job_id for run in runs}
        with self._kit.database.read() as tx:
            told: Mapping[str, Control] = tx.bulk.watch(sorted(jobs))
        self._controls = {job: told.get(job, Control.STOP) for job in jobs}

    def _note(self, runs: list[ShardRun]) -> None:
        by_session: dict[str, list[ShardNote]] = {}
        for run in runs:
            shard, tally = run.shard, run.tally
            note = ShardNote(
                shard.job_id,
                shard.number,
                shard.epoch,
                rows=tally.rows,
                failed=tally.failed,
                device_ms=round(tally.device_ms),
            )
            by_session.setdefault(run.session_id, []).append(note)
        for session_id, notes in by_session.items():
            with self._kit.database.begin(lasting=False) as tx:
                tx.bulk.note(session_id, notes)


class _Once:
    """Releases a lock the first time it is called, from any thread."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock, self._guard, self._held = lock, threading.Lock(), True

    def __call__(self) -> None:
        with self._guard:
            if self._held:
                self._held = False
                self._lock.release()
