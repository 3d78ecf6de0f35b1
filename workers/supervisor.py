"""One child process per device: started, watched, blamed for, restarted with a back-off.

The parent never imports TensorFlow and holds no device. A child that dies leaves its ledger; the
jobs and the rows of bulk shards that it names were on the device at that moment, and they alone
are blamed: what was there alone did it, several are suspects. A version that was being loaded each
time, and nothing beside it, is broken after a few deaths. Then the session is ended, so that
everything else it held is queued again without waiting for the lease.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.database import Database
from storage.database.transaction import Transaction
from storage.records.jobs import JobError
from workers.devices import DeviceChoice
from workers.inference.gate import TROUBLE
from workers.inference.ledger import OnDevice, read
from workers.settings import PREFIX

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 30.0
_AT_WORK_PAUSE_S = 0.2  # after a death at its work: whoever did it is found by more deaths
_SETTLE_EVERY_S = 2.0
_CALM_S = 60.0  # a child that lived so long starts again without delay
LOADING_DEATHS = 3  # so often may a version's loading take the process with it
_REMEMBERED_S = 3_600.0
_MOST_SUSPECTED = 64  # they travel in one environment variable


@dataclass(frozen=True, slots=True)
class SupervisorParts:
    """What a supervisor is put together from."""

    database: Database
    child_argv: Sequence[str]  # starts one device process; its settings come by environment
    environ: Mapping[str, str]
    devices: Sequence[DeviceChoice]
    run_dir: Path  # where the ledgers lie
    stop_grace_s: float = 45.0  # how long children may take to end before they are killed


@dataclass(slots=True)
class _Child:
    device: DeviceChoice
    ledger: Path
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    generation: int = field(default=0)
    unsettled: bool = False  # its death is not yet written to SQL
    settle_at_s: float = 0.0


class Supervisor:
    """See the module. ``run`` needs the thread that lives longest: children die with it."""

    def __init__(self, parts: SupervisorParts) -> None:
        self._parts = parts
        self._stopping = False
        self._deaths = LoadingDeaths()
        self._children = [
            _Child(
                device, parts.run_dir / f"{device.slug}-{socket.gethostname()}-{os.getpid()}.ledger"
            )
            for device in parts.devices
        ]

    def request_stop(self) -> None:
        """Ask for a graceful end, from any thread or from a signal handler."""
        self._stopping = True

    def run(self) -> int:
        """Until a stop is asked for; 0 when every child ended gracefully."""
        while not self._stopping:
            for child in self._children:
                self._look_after(child)
            time.sleep(0.1)
        return self._end()

    def _look_after(self, child: _Child) -> None:
        now_s = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            log.warning("the worker on %s ended with %d", child.device.name, code)
            child.process = None
            child.unsettled = True
            child.start_at_s = now_s + _next_pause_s(child, now_s)
        if child.unsettled and now_s >= child.settle_at_s:
            child.unsettled = not settle_death(self._parts.database, child.ledger, self._deaths)
            child.settle_at_s = time.monotonic() + _SETTLE_EVERY_S
        if not child.unsettled and now_s >= child.start_at_s:
            self._start(child)

    def _start(self, child: _Child) -> None:
        child.generation += 1
        environ = {
            **self._parts.environ,
            **self._deaths.environment(time.monotonic()),
            "CUDA_VISIBLE_DEVICES": child.device.cuda_visible_devices,
            PREFIX + "DEVICE": child.device.name,
            PREFIX + "LEDGER": str(child.ledger),
            PREFIX + "PARENT_PID": str(os.getpid()),
        }
        child.started_s = time.monotonic()
        child.process = subprocess.Popen(
            list(self._parts.child_argv), env=environ, stdin=subprocess.DEVNULL
        )

    def _end(self) -> int:
        living = [child for child in self._children if child.process is not None]
        for child in living:
            assert child.process is not None
            child.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + self._parts.stop_grace_s
        worst = 0
        for child in living:
            assert child.process is not None
            try:
                code = child.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("the worker on %s did not end in time and is killed", child.device.name)
                child.process.kill()
                code = child.process.wait()
            if code != 0:
                settle_death(self._parts.database, child.ledger, self._deaths)
                worst = worst or (code if code > 0 else 128 - code)
            child.ledger.unlink(missing_ok=True)
        return worst


def _next_pause_s(child: _Child, now_s: float) -> float:
    """How long to wait before the next start: longer each time, unless there is an end to it.

    What died computing or loading blames somebody each time, who is set aside after a few deaths;
    everybody else's jobs wait for that.
    """
    dead = read(child.ledger)
    if now_s - child.started_s > _CALM_S:
        child.pause_s = _FIRST_PAUSE_S
    elif dead is None or not dead.at_work:
        child.pause_s = min(2 * child.pause_s, _LAST_PAUSE_S)
    else:
        return min(2 * child.pause_s, _AT_WORK_PAUSE_S)
    return child.pause_s


class LoadingDeaths:
    """Versions during whose loading the process died, and when. One for all devices of a host.

    A version that was being loaded beside a pass is only suspected: the next process loads it
    while the device is idle (``load_alone``), so that another death says whose fault it is.
    """

    def __init__(self) -> None:
        self._at_s: dict[str, list[float]] = {}
        self._suspected_s: dict[str, float] = {}

    def add(self, version_id: str, now_s: float) -> bool:
        """One more death by this load alone; whether it is enough to call the version broken."""
        recent = [at_s for at_s in self._at_s.get(version_id, ()) if now_s - at_s < _REMEMBERED_S]
        self._at_s[version_id] = [*recent, now_s]
        return len(recent) + 1 >= LOADING_DEATHS

    def suspect(self, version_id: str, now_s: float) -> None:
        """A death by this load or by a pass beside it."""
        self._suspected_s.pop(version_id, None)
        self._suspected_s[version_id] = now_s

    def environment(self, now_s: float) -> dict[str, str]:
        """What the next process is told: which versions to load while nothing else runs."""
        recent = [one for one, at_s in self._suspected_s.items() if now_s - at_s < _REMEMBERED_S]
        return {PREFIX + "LOAD_ALONE": ",".join(recent[-_MOST_SUSPECTED:])}


def settle_death(database: Database, ledger: Path, deaths: LoadingDeaths) -> bool:
    """Blame what was on the device and end the session; False when SQL does not answer now.

    ``deaths`` remembers what was being loaded. Of jobs, rows of bulk shards and a load at once all
    are suspects, and none of them spends anything.
    """
    dead = read(ledger)
    if dead is None:
        return True
    try:
        with database.begin() as tx:
            _blame(tx, dead)
            if dead.session_id:
                tx.sessions.close(dead.session_id)
    except TROUBLE as trouble:
        log.warning("a death cannot be recorded now: %s", type(trouble).__name__)
        return False
    with contextlib.suppress(OSError):
        ledger.unlink()
    if dead.loading:
        log.warning("the process died while it loaded version %s", dead.loading)
        if dead.passes:
            deaths.suspect(dead.loading, time.monotonic())
        elif deaths.add(dead.loading, time.monotonic()):
            _break(database, dead.loading)
    return True


def _blame(tx: Transaction, dead: OnDevice) -> None:
    jobs, rows, loading = dead.by_session, dead.spans_by_session, dead.loading is not None
    if dead.at_work and dead.session_id:
        # Whoever did it is found by more deaths than a job may lose its worker.
        tx.jobs.release(dead.session_id, tx.bulk.looked_after(dead.session_id))
    for session_id, job_ids in jobs.items():
        log.warning("%d jobs were on the device when it died", len(job_ids))
        others = len(jobs) > 1 or bool(rows)
        tx.jobs.blame(session_id, job_ids, in_company=others or loading)
    for session_id, spans in rows.items():
        log.warning("rows of bulk shards were on the device when it died: %s", spans)
        others = len(rows) > 1 or bool(jobs)
        tx.bulk.blame(
            session_id,
            [(one.job_id, one.number, one.start, one.stop) for one in spans],
            in_company=others or loading,
        )


def _break(database: Database, version_id: str) -> None:
    """No worker shall load it again. What trouble keeps from being written, the next death will
    write."""
    error = JobError("kills_its_worker", "the worker's process died each time it loaded the model")
    try:
        with database.begin() as tx:
            tx.models.mark_broken(version_id, f"{error.code}: {error.message}", even_ready=True)
        failed = 1
        while failed:
            with database.begin() as tx:
                tx.trials.give_up(version_id, f"it cannot be served: {error.code}")
                failed = tx.jobs.fail_version(version_id, error)
    except TROUBLE as trouble:
        log.warning("a version cannot be marked as broken now: %s", type(trouble).__name__)


def run_supervisor(parts: SupervisorParts) -> int:
    """Supervise from the main thread until SIGTERM or SIGINT."""
    parts.run_dir.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(parts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.request_stop())
    return supervisor.run()
