"""Ids that messages brought and nobody has claimed yet: lanes in memory, no lease, no attempt.

The consumer thread offers, the claim threads take, the commit threads settle. An id that this
process already holds is attached to, never run twice; a message is acknowledged (``settled``)
when every id it brought is settled, whatever came of each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from storage.clock import Clock
from storage.queue.lanes import Lane
from workers.inference.waiting import Line, Waiting

Room = Callable[[Line], int]
"""How many more ids of a line may be claimed now."""


class Delivery(Protocol):
    """One message, as the pool holds it."""

    def settled(self) -> None:
        """Every id of it is settled: it may be acknowledged. Called once, from any thread."""
        ...

    def returned(self) -> None:
        """Called instead when some ids were given back: somebody else shall have the message."""
        ...


@dataclass(slots=True, eq=False)
class _Ticket:
    delivery: Delivery
    open_ids: int
    given_back: bool = False


@dataclass(slots=True, eq=False)
class _Held:
    since_s: float
    tickets: list[_Ticket] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Taken:
    """Ids handed to a claim thread: one lane's, of several versions."""

    parts: tuple[tuple[Line, tuple[str, ...]], ...]

    @property
    def ids(self) -> list[str]:
        return [job_id for _, ids in self.parts for job_id in ids]


class Closing:
    """Ids that are leaving; ``settle`` once SQL says where to."""

    def __init__(self, intake: Intake, tickets: list[_Ticket]) -> None:
        self._intake, self._tickets = intake, tickets

    def settle(self) -> None:
        self._intake.conclude(self._tickets)
        self._tickets = []


class Intake:
    """The waiting ids and the messages that wait for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = {one: threading.Condition(self._lock) for one in Lane}
        self._waiting = Waiting()
        self._held: dict[str, _Held] = {}
        self._closed = False

    def offer(
        self,
        delivery: Delivery,
        version_id: str,
        ids: Iterable[str],
        *,
        lane: Lane = Lane.NORMAL,
    ) -> None:
        """A message arrived."""
        unique = dict.fromkeys(ids)
        now_s = self._clock.monotonic_s()
        line = Line(version_id, lane)
        with self._lock:
            if self._closed:
                return  # a stop is under way: the broker gives it to somebody else
            ticket = _Ticket(delivery, len(unique))
            for job_id in unique:
                held = self._held.get(job_id)
                if held is None:
                    held = self._held[job_id] = _Held(now_s)
                    self._waiting.push(line, now_s, job_id)
                held.tickets.append(ticket)
            self._changed[lane].notify_all()
        if not unique:
            delivery.settled()

    def take(self, lane: Lane, limit: int, room: Room, timeout_s: float) -> Taken | None:
        """Up to ``limit`` ids of a lane for one claim, as far as there is room; None when none
        came."""
        give_up_s = self._clock.monotonic_s() + timeout_s
        with self._lock:
            while True:
                taken = self._take(lane, limit, room)
                left_s = give_up_s - self._clock.monotonic_s()
                if taken is not None or self._closed or left_s <= 0:
                    return taken
                self._changed[lane].wait(left_s)

    def _take(self, lane: Lane, limit: int, room: Room) -> Taken | None:
        rooms: dict[Line, int] = {}

        def is_open(line: Line) -> bool:
            rooms[line] = room(line)
            return rooms[line] > 0

        parts = []
        for line in self._waiting.in_order(lane, is_open):
            ids = self._waiting.pop(line, min(limit, rooms[line]))
            limit -= len(ids)
            parts.append((line, tuple(ids)))
            if limit <= 0:
                break
        return Taken(tuple(parts)) if parts else None

    def put_back(self, taken: Taken) -> None:
        """They could not be claimed just now: they wait again, at the front."""
        with self._lock:
            if self._closed:
                self._forget(taken.ids)
                return
            for line, ids in taken.parts:
                known = [job_id for job_id in ids if job_id in self._held]
                if known:
                    self._waiting.push_front(line, self._held[known[0]].since_s, known)

    def waiting_versions(self) -> frozenset[str]:
        """Versions that some id waits for."""
        with self._lock:
            return frozenset(line.version_id for line in self._waiting.lines())

    def detach(self, ids: Iterable[str]) -> Closing:
        """These ids are about to leave this process: a commit or a release follows at once.

        What arrives for them from now on is not attached any more but waits for a claim of its
        own: after a release it may be the message that brings the job back.
        """
        with self._lock:
            held = [self._held.pop(job_id, None) for job_id in ids]
        return Closing(self, [ticket for one in held if one for ticket in one.tickets])

    def settle(self, ids: Iterable[str]) -> None:
        """Nothing more is to be done here for these ids."""
        self.detach(ids).settle()

    def conclude(self, tickets: Iterable[_Ticket]) -> None:
        """One id less is open for each of these."""
        done: list[_Ticket] = []
        with self._lock:
            for ticket in tickets:
                ticket.open_ids -= 1
                if ticket.open_ids == 0:
                    done.append(ticket)
        for ticket in done:
            if ticket.given_back:
                ticket.delivery.returned()
            else:
                ticket.delivery.settled()

    def let_go(self, version_id: str) -> int:
        """Settle what waits for a version that cannot be served here; SQL still holds the jobs."""
        with self._lock:
            lines = [Line(version_id, lane) for lane in Lane]
            ids = [job_id for line in lines for job_id in self._waiting.pop(line, len(self._held))]
        self.settle(ids)
        return len(ids)

    def let_go_older_than(self, patience_s: float) -> int:
        """Settle what has waited too long for a claim. The sweep publishes it again, perhaps to a
        worker that has time; and no message is held so long that the broker takes offence."""
        with self._lock:
            gone = self._waiting.pop_older(self._clock.monotonic_s() - patience_s)
        if gone:
            self.settle(gone)
        return len(gone)

    def give_back(self) -> int:
        """What waits for a claim is for somebody else to take; how many ids. A message of which
        something runs here is returned when that is settled."""
        with self._lock:
            ids = self._waiting.clear()
            held = [self._held.pop(job_id, None) for job_id in ids]
            tickets = [ticket for one in held if one for ticket in one.tickets]
            for ticket in tickets:
                ticket.given_back = True
        self.conclude(tickets)
        return len(ids)

    def flush(self, *, connection_lost: bool) -> None:
        """Drop what has not started. When the connection is lost, every message is void as well:
        it comes again, and what runs goes on without it."""
        with self._lock:
            self._forget(self._waiting.clear())
            if connection_lost:
                for held in self._held.values():
                    held.tickets.clear()

    def close(self) -> None:
        """Take nothing more; wakes whoever waits."""
        with self._lock:
            self._closed = True
            self._forget(self._waiting.clear())
            self.poke()

    def poke(self) -> None:
        """Something that ``room`` looks at has changed."""
        with self._lock:
            for changed in self._changed.values():
                changed.notify_all()

    def held(self) -> int:
        """How many ids this process knows of, waiting or running."""
        with self._lock:
            return len(self._held)

    def _forget(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            self._held.pop(job_id, None)
