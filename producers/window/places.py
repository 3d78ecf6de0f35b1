"""Places of the ready window that submits of this process may take themselves (express entry).

The relay's looks say how many are free; a submit books some before its transaction and sends its
ids after the commit. Granted is only what a fresh look saw: no backlog of a class that would go
before, and room, less what was booked and sent since. So other processes' backlogs are noticed
within ``FRESH_S``, and all that can slip in before one is what the last look saw as free.

Where others have filled the window or wait for it, a tenant of whom the look saw nothing may still
put ``RESERVE_JOBS`` into it, in the high lane: what the look would have granted it (``choice``).

Places booked and not yet sent are not in any look's count, those sent lately may or may not be:
both are subtracted, which can only refuse too much.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from producers.window.fairness import RESERVE_JOBS
from storage.clock import Clock
from storage.queue.lanes import Lane

FRESH_S = 0.5  # how old a look may be
FORGOTTEN_S = 30.0  # places booked this long ago will not be sent any more
MAX_POOLS = 64


class Entry(NamedTuple):
    """A job that has entered by itself."""

    pool: str
    tenant: str
    version_id: str
    job_id: str
    lane: Lane  # in which it travels

    @property
    def is_bulk(self) -> bool:
        """Of what class it is: online jobs never enter in the bulk lane, nor the other way."""
        return self.lane is Lane.BULK


@dataclass(slots=True)
class _Pool:
    looked_s: float = -1e9  # when the last look began
    online_room: int = 0
    bulk_room: int = 0
    booked: int = 0  # granted and neither sent nor given back
    sent: int = 0  # since the last look began
    sent_before: int = 0  # before it began, while a look is under way
    moved_s: float = -1e9  # when something was last booked, sent or given back
    crowd: Collection[str] = ()  # tenants whose online jobs the last look saw
    light_room: int = 0  # places beyond the room for all the others together
    light: Counter[str] = field(default_factory=Counter)  # of which they have, since that look


class Places:
    """Shared by the submit threads and the relay's; nobody holds its lock for long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._entries: list[Entry] = []

    def reserve(self, pool: str, tenant: str, jobs: int, lane: Lane) -> Lane | None:
        """Book places for jobs of a lane, all or none; in which lane they may enter then."""
        bulk = lane is Lane.BULK
        now_s = self._clock.monotonic_s()
        with self._lock:
            one = self._pools.get(pool)
            if one is None:
                if len(self._pools) < MAX_POOLS:
                    self._pools[pool] = _Pool()  # looked at from now on
                return None
            if one.booked and now_s - one.moved_s > FORGOTTEN_S:
                one.booked = 0
            room = (one.bulk_room if bulk else one.online_room) - one.booked
            room -= one.sent + one.sent_before
            if now_s - one.looked_s > FRESH_S:
                return None
            if room < jobs:
                if bulk or not _enters_light(one, tenant, jobs):
                    return None
                one.light[tenant] += jobs
                lane = Lane.HIGH
            one.booked += jobs
            one.moved_s = now_s
            return lane

    def release(self, pool: str, jobs: int) -> None:
        """Give booked places back."""
        with self._lock:
            if one := self._pools.get(pool):
                one.booked = max(0, one.booked - jobs)
                one.moved_s = self._clock.monotonic_s()

    def send(self, entries: Sequence[Entry]) -> None:
        """Rows that are committed as published: ``take`` hands them to the relay's thread."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            self._entries += entries
            for entry in entries:
                if one := self._pools.get(entry.pool):
                    one.booked = max(0, one.booked - 1)
                    one.sent += 1
                    one.moved_s = now_s

    def take(self) -> list[Entry]:
        """What was sent since the last call."""
        if not self._entries:  # looked at without the lock: whoever appends wakes the relay
            return []
        with self._lock:
            entries, self._entries = self._entries, []
            return entries

    def pools(self) -> set[str]:
        """Pools that somebody wants to enter."""
        with self._lock:
            return set(self._pools)

    def look_begins(self, pool: str) -> None:
        """From here on a sent row may be missing in what the look counts."""
        with self._lock:
            if one := self._pools.get(pool):
                one.sent_before += one.sent
                one.sent = 0

    def looked(
        self,
        pool: str,
        began_s: float,
        *,
        online_room: int,
        bulk_room: int,
        crowd: Collection[str] = (),
        light_room: int = 0,
    ) -> None:
        """What a look found: places for each class, 0 where a backlog goes first; whose online
        jobs it saw, and how many places beyond those are for all the others together."""
        with self._lock:
            if one := self._pools.get(pool):
                one.looked_s, one.sent_before = began_s, 0
                one.online_room, one.bulk_room = online_room, bulk_room
                one.crowd, one.light_room = crowd, light_room
                one.light.clear()

    def shut(self) -> None:
        """Nothing can be sent now: grant nothing before the next good look."""
        with self._lock:
            for one in self._pools.values():
                one.looked_s = -1e9


def _enters_light(pool: _Pool, tenant: str, jobs: int) -> bool:
    """Whether these are few, of a tenant of whom the last look saw nothing."""
    return (
        tenant not in pool.crowd
        and pool.light[tenant] + jobs <= RESERVE_JOBS
        and pool.light.total() + jobs <= pool.light_room
    )
