"""This process's lease: opened at start, renewed in a thread of its own, replaced when lost.

A session that could not be renewed in time is never taken up again. What was claimed under it
is discarded by the compare-and-swap of its commit, whenever that comes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from storage.clock import Clock, random_bits
from storage.database import Database
from storage.records.ids import uuid7
from storage.records.sessions import NewSession
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)


class Rate:
    """Jobs finished per second, lately. Counted by one thread, read by another."""

    def __init__(self, clock: Clock, weight: float = 0.5) -> None:
        self._clock, self._weight = clock, weight
        self._lock = threading.Lock()
        self._count = 0
        self._since_s = clock.monotonic_s()
        self._per_s = 0.0

    def add(self, jobs: int) -> None:
        with self._lock:
            self._count += jobs

    def sample(self) -> float:
        """The mean since the last sample, smoothed downwards so that a pause is not a verdict."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            elapsed_s = now_s - self._since_s
            if elapsed_s <= 0:
                return self._per_s
            fresh = self._count / elapsed_s
            smooth = self._per_s + self._weight * (fresh - self._per_s)
            self._per_s = max(fresh, smooth)
            self._count, self._since_s = 0, now_s
            return self._per_s


class SessionKeeper:
    """Holds the current session's id."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        make: Callable[[str], NewSession],
        *,
        lease_ttl_s: float,
        renew_every_s: float,
        on_open: Callable[[str], None],
        stats: Callable[[], Mapping[str, object]],
        on_renewed: Callable[[], None],
    ) -> None:
        self._on_open, self._stats, self._on_renewed = on_open, stats, on_renewed
        self._database, self._clock, self._make = database, clock, make
        self._ttl_s, self._every_s = lease_ttl_s, renew_every_s
        self.rate = Rate(clock)
        self._lock = threading.Condition()
        self._id: str | None = None
        self._good_until_s = 0.0
        self._wake = threading.Event()

    def current(self) -> str | None:
        """The session to claim under; None while there is no live one."""
        with self._lock:
            live = self._clock.monotonic_s() < self._good_until_s
            return self._id if live else None

    def wait_current(self, timeout_s: float) -> str | None:
        """The same, waiting a while for one."""
        with self._lock:
            return self._lock.wait_for(self.current, timeout_s)

    def is_live(self, session_id: str) -> bool:
        """Whether this session may still commit, as far as this process can know."""
        return self.current() == session_id

    def retire(self, session_id: str) -> None:
        """Claim nothing more under it, and let it run out: the fate of some claim is unknown,
        and only the reaper of a dead session can set that right."""
        with self._lock:
            if self._id == session_id:
                self._id = None
        self._wake.set()

    def open(self) -> str:
        """Start a new session; raises when the database does not answer."""
        session_id = uuid7(self._clock.now_ms(), random_bits())
        began_s = self._clock.monotonic_s()
        with self._database.begin() as tx:
            tx.sessions.open(self._make(session_id), int(self._ttl_s * 1000))
        self._on_open(session_id)
        with self._lock:
            self._id = session_id
            self._good_until_s = began_s + self._ttl_s
            self._lock.notify_all()
        return session_id

    def tick(self) -> None:
        """Renew once, or open a new one when the old is gone."""
        session_id = self._id
        if session_id is None:
            self.open()
            return
        began_s = self._clock.monotonic_s()
        with self._database.begin() as tx:
            renewed = tx.sessions.renew(
                session_id, int(self._ttl_s * 1000), self.rate.sample(), self._stats()
            )
        if not renewed:
            log.warning("the session was lost; a new one is opened")
            self.open()
            return
        with self._lock:
            if self._id == session_id:  # it may have been retired meanwhile
                self._good_until_s = began_s + self._ttl_s
        self._on_renewed()

    def run(self, stop: threading.Event) -> None:
        """Renew until ``stop``; trouble is tried again soon, well before the lease ends."""
        wait_s = self._every_s
        while not stop.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            if stop.is_set():
                return
            try:
                self.tick()
                wait_s = self._every_s
            except TROUBLE as trouble:
                log.warning("the session could not be renewed: %s", type(trouble).__name__)
                wait_s = min(1.0, self._every_s)

    def wake(self) -> None:
        """Make ``run`` look at its stop event now."""
        self._wake.set()

    def close(self) -> None:
        """End the session, so that nobody waits for its lease."""
        with self._lock:
            session_id, self._id = self._id, None
        if session_id is None:
            return
        try:
            with self._database.begin() as tx:
                tx.sessions.close(session_id, self._stats())
        except TROUBLE as trouble:
            log.warning("the session could not be closed: %s", type(trouble).__name__)
