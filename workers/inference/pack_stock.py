"""Rows of result packs, opened before anybody waits for them.

A pack's row must exist (durably) before its object does, so that no object is ever unknown to
SQL. A thread opens a few for each tenant that has work, in one transaction; storing a batch takes
one. What is not used for a while, or when the process ends, is forgotten here: such a row stays
``writing`` and the collector of stale packs removes it. That is at most ``MOST`` rows for each
tenant that was served in the last ``KEPT_S`` seconds.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from storage.clock import Clock, random_bits
from storage.database import Database
from storage.objects.packs import pack_key, retention_day
from storage.records.ids import uuid7
from storage.records.packs import NewPack, PackKind
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)

MOST = 4
KEPT_S = 600.0  # far less than what the collector takes for a dead writer's
MAX_TENANTS = 512
_PAUSE_S = 0.5  # after trouble; whoever needs a pack meanwhile opens it itself
_LATER_S = 0.05  # a shelf that is not empty is filled when the batch it served is committed


@dataclass(slots=True)
class _Shelf:
    packs: deque[tuple[float, NewPack]] = field(default_factory=deque)
    taken: int = 0  # since it was filled last: how fast it empties
    opening: bool = False  # or about to be


class PackStock:
    """Shared by the claim thread, which foresees, and the store thread, which takes."""

    def __init__(self, database: Database, clock: Clock, retention_days: int) -> None:
        self._database, self._clock, self._days = database, clock, retention_days
        self._changed = threading.Condition()
        self._shelves: OrderedDict[str, _Shelf] = OrderedDict()
        self._wanted: dict[str, int] = {}
        self._urgent = False  # somebody may wait for what is wanted

    def foresee(self, tenants: Iterable[str]) -> None:
        """Results of these tenants come soon."""
        with self._changed:
            for tenant in tenants:
                self._look(tenant, self._shelf(tenant), least=1, urgent=True)

    def take(self, tenant: str, patience_s: float = 2.0) -> NewPack:
        """A pack whose row exists. Raises what the database raises."""
        with self._changed:
            shelf = self._shelf(tenant)
            if shelf.opening and not shelf.packs:
                self._urgent = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: shelf.packs or not shelf.opening, patience_s)
            if shelf.packs:
                pack = shelf.packs.popleft()[1]
                shelf.taken += 1
                self._look(tenant, shelf, least=2, urgent=False)
                return pack
        return self._open({tenant: 1})[0]

    def run(self, stop: threading.Event) -> None:
        """Open what is wanted, until ``stop``."""
        while not stop.is_set():
            with self._changed:
                if self._changed.wait_for(lambda: self._wanted or stop.is_set(), 1.0):
                    self._changed.wait_for(lambda: self._urgent or stop.is_set(), _LATER_S)
                wanted, self._wanted, self._urgent = self._wanted, {}, False
            if not wanted:
                continue
            opened: list[NewPack] = []
            try:
                opened = self._open(wanted)
            except TROUBLE as trouble:
                log.debug("no packs can be opened: %s", type(trouble).__name__)
                stop.wait(_PAUSE_S)
            except Exception:
                log.exception("packs cannot be opened ahead")
                stop.wait(_PAUSE_S)
            self._shelve(wanted, opened)

    def wake(self) -> None:
        """Make ``run`` look at its stop event now."""
        with self._changed:
            self._changed.notify_all()

    def _shelf(self, tenant: str) -> _Shelf:
        shelf = self._shelves.get(tenant)
        if shelf is None:
            shelf = self._shelves[tenant] = _Shelf()
            if len(self._shelves) > MAX_TENANTS:
                self._shelves.popitem(last=False)
        self._shelves.move_to_end(tenant)
        before_s = self._clock.monotonic_s() - KEPT_S
        while shelf.packs and shelf.packs[0][0] < before_s:
            shelf.packs.popleft()
        return shelf

    def _look(self, tenant: str, shelf: _Shelf, *, least: int, urgent: bool) -> None:
        if len(shelf.packs) >= least:
            return
        self._urgent = self._urgent or urgent
        if shelf.opening:
            self._changed.notify_all()
            return
        self._wanted[tenant] = min(MOST, max(least, shelf.taken + 1)) - len(shelf.packs)
        shelf.opening, shelf.taken = True, 0
        self._changed.notify_all()

    def _shelve(self, wanted: Iterable[str], packs: list[NewPack]) -> None:
        with self._changed:
            now_s = self._clock.monotonic_s()
            for pack in packs:
                self._shelf(pack.tenant).packs.append((now_s, pack))
            for tenant in wanted:
                self._shelf(tenant).opening = False
            self._changed.notify_all()

    def _open(self, wanted: dict[str, int]) -> list[NewPack]:
        with self._database.begin() as tx:
            day = retention_day(tx.now(), self._days)
            packs = [self._new(tenant, day) for tenant, n in wanted.items() for _ in range(n)]
            for pack in packs:
                tx.packs.open(pack)
        return packs

    def _new(self, tenant: str, day: str) -> NewPack:
        pack_id = uuid7(self._clock.now_ms(), random_bits())
        key = pack_key(PackKind.RESULT, tenant, day, pack_id)
        return NewPack(pack_id, tenant, PackKind.RESULT, key)
