"""From the backlog to the ready window: the one place that publishes wake-ups.

A look at one pool goes: how full is the window and who wants in (``sight``), whose turn is it
(``choice``); *mark* the chosen rows as published and commit; only then publish; take the mark off
again from whatever the broker did not confirm. Marked first, a message never exists before its row
says so; a crash in between leaves rows that the keeper's sweep finds. A message too many is
harmless: claiming is a compare-and-swap.

Where a look found no backlog and room, submits of this process write their rows as published
themselves (``places``); what they ``send`` is published at once, between two steps of a look too.

Any number of relays may run: the mark decides who publishes a row. Trouble of any kind is answered
by a pause here and never reaches a submit.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from producers.settings import RelaySettings
from producers.window import choice, fairness
from producers.window.choice import BULK_SHARE, Books, Choice, Pick
from producers.window.pace import (
    FRESH_TICK_S,
    IDLE_TICK_S,
    LEAST_AGAIN_S,
    LONGEST_AGAIN_S,
    Look,
    Pace,
    next_again_s,
)
from producers.window.packing import chunk_size
from producers.window.places import Entry, Places
from producers.window.sending import Sender
from producers.window.sight import Eyes, Sight
from storage.clock import Clock, random_bits
from storage.database import Database, Transaction
from storage.queue.lanes import Lane
from storage.queue.publisher import Publisher
from storage.records.errors import ForebayError
from storage.records.jobs import is_bulk

_LOG = logging.getLogger("forebay.relay")


@dataclasses.dataclass(slots=True)
class _Full:
    """A pool whose window a look has filled and left jobs outside."""

    wanting: Mapping[str, int]  # who wanted in, and with which priority at most
    again_s: float
    until_s: float  # before this, only somebody new is worth a count

    def knows(self, wanting: Mapping[str, int]) -> bool:
        """Whether nobody wants in who did not, and none with online jobs who had only bulk."""
        return all(
            tenant in self.wanting and (is_bulk(priority) or not is_bulk(self.wanting[tenant]))
            for tenant, priority in wanting.items()
        )


class Relay:
    """Owned by one thread that calls ``run``. ``poke``, ``reserve``, ``release`` and ``send`` may
    come from any thread."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        clock: Clock,
        *,
        settings: RelaySettings | None = None,
        declare: Callable[[Sequence[str]], None] | None = None,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        """``declare(pools)`` makes the pools' queues exist; it is asked again when one is gone."""
        self._database = database
        self._clock = clock
        self._settings = settings or RelaySettings()
        self._sender = Sender(database, publisher, declare, chance)
        self._wake = threading.Event()
        self._poked = False
        self._places = Places(clock)
        self._eyes = Eyes(clock, self._settings)
        self._books: dict[str, Books] = {}
        self._full: dict[str, _Full] = {}
        self._sent: dict[str, list[Entry]] = {}  # by submits of this process, not yet in a book

    @property
    def trouble(self) -> str | None:
        """Why nothing can be published at the moment, in words without secrets."""
        return self._sender.trouble

    def poke(self) -> None:
        """There is new work. Many pokes before the next look are one."""
        self._poked = True
        self._wake.set()

    def reserve(self, pool: str, tenant: str, jobs: int, lane: Lane) -> Lane | None:
        """Book places in the window for rows that are about to be written as published: all or
        none. Then either ``send`` them after the commit in the lane that this says, or
        ``release`` the places.
        """
        return self._places.reserve(pool, tenant, jobs, lane)

    def release(self, pool: str, jobs: int) -> None:
        """Give booked places back."""
        self._places.release(pool, jobs)

    def send(self, entries: Sequence[Entry]) -> None:
        """Publish rows committed as published."""
        self._places.send(entries)
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set (``poke`` after it for an immediate end)."""
        pace = Pace()
        while not stop.is_set():
            self._wake.clear()
            self._publish_sent()
            wait_s = pace.wait_s(self._clock.monotonic_s(), self._poked)
            if wait_s > 0:
                self._wake.wait(wait_s)
                continue
            self._poked = False
            began_s = self._clock.monotonic_s()
            look = self._careful_look()
            ended_s = self._clock.monotonic_s()
            if look is None or look.failed:
                self._places.shut()
                pace.failed(ended_s, self._sender.least_pause_s)
            else:
                longest_s = FRESH_TICK_S if self._places.pools() else IDLE_TICK_S
                pace.looked(look, began_s, ended_s, longest_s)
        self._publish_sent()

    def _careful_look(self) -> Look | None:
        try:
            return self.look(glance=True)
        except ForebayError as error:
            self._sender.note(error.message)
        except Exception:
            _LOG.exception("the relay's look failed; it goes on")
            self._sender.note("an unexpected error, see the log")
        return None

    def look(self, *, glance: bool = False) -> Look:
        """One look at every pool with a backlog, or that submits want to enter by themselves.

        A ``glance`` does not count a window again that cannot have drained much since it was
        filled, as long as nobody new wants in.
        """
        total, seen = Look(), []
        with self._database.read() as tx:
            waiting = tx.backlog.pools()
            pools = sorted({*waiting, *self._places.pools()})
            for pool in pools:
                seen.append((pool, self._see(tx, pool, pool in waiting, glance)))
                self._publish_sent()
        for pool in self._books.keys() - set(pools):
            del self._books[pool]
        for pool, view in seen:
            total += view if isinstance(view, Look) else self._look_at(pool, view)
            self._publish_sent()
        if total.marked > total.returned or not (total.marked or total.waiting):
            self._sender.note(None)
        return total

    def _see(
        self, tx: Transaction, pool: str, has_backlog: bool, glance: bool
    ) -> Look | tuple[float, Sight]:
        """What there is to choose from, and since when; or that there is nothing new to see."""
        began_s = self._clock.monotonic_s()
        wanting = tx.backlog.tenants(pool) if has_backlog else {}
        full = self._full.get(pool) if glance else None
        if full and began_s < full.until_s and full.knows(wanting):
            return Look(waiting=True, again_s=full.until_s - began_s)
        self._places.look_begins(pool)
        self._count_sent(pool)  # committed by now, so the window holds them or they left
        return began_s, self._eyes.see(tx, pool, wanting)

    def _look_at(self, pool: str, view: tuple[float, Sight]) -> Look:
        began_s, sight = view
        books, chosen = self._choose(pool, sight)
        won: list[Pick] = []
        returned: frozenset[str] = frozenset()
        if chosen.picks:
            self._sender.ensure(pool)
            with self._database.begin() as tx:
                ids = tx.backlog.mark_published([pick.head.id for pick in chosen.picks])
            won = [pick for pick in chosen.picks if pick.head.id in ids]
            size = chunk_size(sight.target, sight.workers, self._settings.max_jobs_per_message)
            items = ((pick.lane, pick.head.version_id, pick.head.id) for pick in won)
            returned = self._sender.send(pool, items, size)
        places = Counter(
            (pick.head.tenant, pick.head.version_id, is_bulk(pick.head.priority))
            for pick in won
            if pick.head.id not in returned
        )
        self._books[pool] = books = books.entered(places, sight.cost)
        if not returned:
            self._tell_places(pool, began_s, books, sight, chosen)
        waiting = bool(chosen.online_left or chosen.bulk_left or sight.cut or sight.bulk_cut)
        again_s = self._fill(pool, sight, waiting, len(won) / sight.target)
        return Look(len(won), len(returned), waiting, again_s)

    def _choose(self, pool: str, sight: Sight) -> tuple[Books, Choice]:
        """The books brought up to date, and whose turn it is."""
        books = self._books.get(pool, Books())
        window: Counter[tuple[str, str]] = Counter(sight.online_window)
        window.update(sight.bulk_window)
        scale = fairness.scale_of(window, sight.versions, sight.cost, sight.target)
        known = Counter(books.online.window)
        known.update(books.bulk.window)
        self._eyes.rates(pool).left((known - window).total(), self._clock.monotonic_s())
        books = Books(
            fairness.observe(
                books.online, sight.online_window, set(sight.online), sight.cost, scale.lag_s
            ),
            fairness.observe(
                books.bulk, sight.bulk_window, set(sight.bulk), sight.cost, scale.lag_s
            ),
            books.owed_s,
        )
        chosen = choice.choose(
            books,
            sight.online,
            sight.bulk,
            scale=scale,
            cost=sight.cost,
            overfill=sight.target,
            soon=sight.soon,
        )
        return dataclasses.replace(books, owed_s=chosen.owed_s), chosen

    def _tell_places(
        self, pool: str, began_s: float, books: Books, sight: Sight, chosen: Choice
    ) -> None:
        """What is free now for those who enter by themselves."""
        bulk_inside = sum(books.bulk.window.values())
        bulk_most = int(sight.target * BULK_SHARE)
        # Where the target has shrunk, bulk work over its share takes nothing from online work.
        room = sight.target - sum(books.online.window.values()) - min(bulk_inside, bulk_most)
        online_room = 0 if sight.cut or chosen.online_left else room
        bulk_room = min(online_room, bulk_most - bulk_inside)
        if sight.bulk_cut or chosen.bulk_left:
            bulk_room = 0
        crowd = {tenant for (tenant, _), jobs in books.online.window.items() if jobs}
        self._places.looked(
            pool,
            began_s,
            online_room=online_room,
            bulk_room=bulk_room,
            crowd=crowd.union(sight.online),
            light_room=sight.target,
        )

    def _fill(self, pool: str, sight: Sight, waiting: bool, drained: float) -> float:
        """When to look again, and what the looks before may spare themselves."""
        if not waiting:
            self._full.pop(pool, None)
            return LONGEST_AGAIN_S if drained else IDLE_TICK_S
        known = self._full.get(pool)
        again_s = next_again_s(known.again_s, drained) if known else LEAST_AGAIN_S
        if pool in self._places.pools():
            again_s = min(again_s, FRESH_TICK_S)
        until_s = self._clock.monotonic_s() + again_s
        self._full[pool] = _Full(sight.wanting, again_s, until_s)
        return again_s

    def _publish_sent(self) -> None:
        """What submits of this process have put into the window themselves."""
        entries = self._places.take()
        for pool in {entry.pool for entry in entries}:
            mine = [entry for entry in entries if entry.pool == pool]
            items = [(entry.lane, entry.version_id, entry.job_id) for entry in mine]
            most = self._settings.max_jobs_per_message
            if failed := self._sender.send_whatever_happens(pool, items, most):
                self._places.shut()
            self._sent.setdefault(pool, []).extend(e for e in mine if e.job_id not in failed)

    def _count_sent(self, pool: str) -> None:
        """They had their turn, like all others."""
        entries = self._sent.pop(pool, [])
        places = Counter((entry.tenant, entry.version_id, entry.is_bulk) for entry in entries)
        books = self._books.get(pool, Books())
        self._books[pool] = books.entered(places, self._eyes.rates(pool).cost)
