"""Places of the ready window that submits of this process may take themselves (express entry).

The relay's looks say how many are free; a submit books some before its transaction and sends its
ids after the commit. Granted is only what a fresh look saw: no backlog of a class that would go
before, and room, less what was booked and sent since. So other processes' backlogs are noticed
within ``FRESH_S``, and all that can slip in before one is what the last look saw as free.

Places booked and not yet sent are not in any look's count, those sent lately may or may not be:
both are subtracted, which can only refuse too much.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.clock import Clock

FRESH_S = 0.25  # how old a look may be
FORGOTTEN_S = 30.0  # places booked this long ago will not be sent any more
MAX_POOLS = 64

Entry: TypeAlias = tuple[str, str, str, int]  # pool, version id, job id, priority


@dataclass(slots=True)
class _Pool:
    looked_s: float = -1e9  # when the last look began
    online_room: int = 0
    bulk_room: int = 0
    booked: int = 0  # granted and neither sent nor given back
    sent: int = 0  # since the last look began
    sent_before: int = 0  # before it began, while a look is under way
    moved_s: float = -1e9  # when something was last booked, sent or given back


class Places:
    """Shared by the submit threads and the relay's; nobody holds its lock for long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._entries: list[Entry] = []

    def reserve(self, pool: str, jobs: int, *, bulk: bool) -> bool:
        """Book places: all or none."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            one = self._pools.get(pool)
            if one is None:
                if len(self._pools) < MAX_POOLS:
                    self._pools[pool] = _Pool()  # looked at from now on
                return False
            if one.booked and now_s - one.moved_s > FORGOTTEN_S:
                one.booked = 0
            room = (one.bulk_room if bulk else one.online_room) - one.booked
            room -= one.sent + one.sent_before
            if now_s - one.looked_s > FRESH_S or room < jobs:
                return False
            one.booked += jobs
            one.moved_s = now_s
            return True

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
                if one := self._pools.get(entry[0]):
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

    def looked(self, pool: str, began_s: float, *, online_room: int, bulk_room: int) -> None:
        """What a look found: places for each class, 0 where a backlog goes first."""
        with self._lock:
            if one := self._pools.get(pool):
                one.looked_s, one.sent_before = began_s, 0
                one.online_room, one.bulk_room = online_room, bulk_room

    def shut(self) -> None:
        """Nothing can be sent now: grant nothing before the next good look."""
        with self._lock:
            for one in self._pools.values():
                one.looked_s = -1e9
