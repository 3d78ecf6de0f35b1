"""Ids that messages brought and nobody has claimed yet: two lanes in memory, no lease, no attempt.

The consumer thread offers, the claim thread takes, the commit thread settles. An id that this
process already holds is attached to, never run twice; a message is acknowledged (``settled``)
when every id it brought is settled, whatever came of each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from storage.clock import Clock


class Delivery(Protocol):
    """One message, as the pool holds it."""

    def settled(self) -> None:
        """Every id of it is settled: it may be acknowledged. Called once, from any thread."""
        ...


@dataclass(slots=True, eq=False)
class _Ticket:
    delivery: Delivery
    open_ids: int


@dataclass(slots=True, eq=False)
class _Held:
    since_s: float
    taken: bool = False
    tickets: list[_Ticket] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Taken:
    """Ids handed to the claim thread: one version's."""

    version_id: str
    ids: tuple[str, ...]


class Closing:
    """Ids that are leaving; ``settle`` once SQL says where to."""

    def __init__(self, intake: Intake, tickets: list[_Ticket]) -> None:
        self._intake, self._tickets = intake, tickets

    def settle(self) -> None:
        self._intake.conclude(self._tickets)
        self._tickets = []


class Lane:
    """First come, first served per version, and the oldest head first between versions."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, str]]] = {}

    def push(self, order: int, version_id: str, job_id: str) -> None:
        self._waiting.setdefault(version_id, deque()).append((order, job_id))

    def push_front(self, version_id: str, ids: Sequence[str]) -> None:
        queue = self._waiting.setdefault(version_id, deque())
        queue.extendleft((0, job_id) for job_id in reversed(ids))

    def versions(self) -> Collection[str]:
        return self._waiting.keys()

    def oldest(self, ready: Callable[[str], bool]) -> str | None:
        """The version whose head waited longest, of those that are ready."""
        heads = ((queue[0][0], version) for version, queue in self._waiting.items())
        return next((version for _, version in sorted(heads) if ready(version)), None)

    def pop(self, version_id: str, limit: int) -> list[str]:
        queue = self._waiting.get(version_id)
        if queue is None:
            return []
        ids = [queue.popleft()[1] for _ in range(min(limit, len(queue)))]
        if not queue:
            del self._waiting[version_id]
        return ids

    def head(self, version_id: str) -> str:
        """The id that waits longest for this version."""
        return self._waiting[version_id][0][1]

    def clear(self) -> list[str]:
        ids = [job_id for queue in self._waiting.values() for _, job_id in queue]
        self._waiting.clear()
        return ids


class Intake:
    """The waiting ids and the messages that wait for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._high, self._normal = Lane(), Lane()
        self._held: dict[str, _Held] = {}
        self._arrivals = 0
        self._closed = False

    def offer(
        self, delivery: Delivery, version_id: str, ids: Iterable[str], *, high: bool = False
    ) -> None:
        """A message arrived."""
        unique = dict.fromkeys(ids)
        now_s = self._clock.monotonic_s()
        with self._changed:
            if self._closed:
                return  # a stop is under way: the broker gives it to somebody else
            ticket = _Ticket(delivery, len(unique))
            lane = self._high if high else self._normal
            for job_id in unique:
                held = self._held.get(job_id)
                if held is None:
                    held = self._held[job_id] = _Held(now_s)
                    self._arrivals += 1
                    lane.push(self._arrivals, version_id, job_id)
                held.tickets.append(ticket)
            self._changed.notify_all()
        if not unique:
            delivery.settled()

    def take(self, limit: int, ready: Callable[[str], bool], timeout_s: float) -> Taken | None:
        """Up to ``limit`` ids of one ready version, the high lane first; None when none came."""
        with self._changed:
            taken = self._take(limit, ready)
            if taken is None and not self._closed:
                self._changed.wait(timeout_s)
                taken = self._take(limit, ready)
            return taken

    def _take(self, limit: int, ready: Callable[[str], bool]) -> Taken | None:
        version_id = self._high.oldest(ready) or self._normal.oldest(ready)
        if version_id is None:
            return None
        ids = self._high.pop(version_id, limit)
        ids += self._normal.pop(version_id, limit - len(ids))
        for job_id in ids:
            self._held[job_id].taken = True
        return Taken(version_id, tuple(ids))

    def put_back(self, taken: Taken) -> None:
        """They could not be claimed just now: they wait again, at the front."""
        with self._changed:
            for job_id in taken.ids:
                self._held[job_id].taken = False
            if self._closed:
                self._forget(taken.ids)
            else:
                self._normal.push_front(taken.version_id, taken.ids)

    def waiting_versions(self) -> frozenset[str]:
        """Versions that some id waits for."""
        with self._changed:
            return frozenset(self._high.versions()) | frozenset(self._normal.versions())

    def detach(self, ids: Iterable[str]) -> Closing:
        """These ids are about to leave this process: a commit or a release follows at once.

        What arrives for them from now on is not attached any more but waits for a claim of its
        own: after a release it may be the message that brings the job back.
        """
        with self._changed:
            held = [self._held.pop(job_id, None) for job_id in ids]
        return Closing(self, [ticket for one in held if one for ticket in one.tickets])

    def settle(self, ids: Iterable[str]) -> None:
        """Nothing more is to be done here for these ids."""
        self.detach(ids).settle()

    def conclude(self, tickets: Iterable[_Ticket]) -> None:
        """One id less is open for each of these."""
        done: list[Delivery] = []
        with self._changed:
            for ticket in tickets:
                ticket.open_ids -= 1
                if ticket.open_ids == 0:
                    done.append(ticket.delivery)
        for delivery in done:
            delivery.settled()

    def let_go(self, version_id: str) -> int:
        """Settle what waits for a version that cannot be served here; SQL still holds the jobs."""
        with self._changed:
            ids = self._high.pop(version_id, len(self._held))
            ids += self._normal.pop(version_id, len(self._held))
        self.settle(ids)
        return len(ids)

    def let_go_older_than(self, patience_s: float) -> int:
        """Settle what has waited too long for a claim. The sweep publishes it again, perhaps to a
        worker that has time; and no message is held so long that the broker takes offence."""
        gone: list[str] = []
        with self._changed:
            before_s = self._clock.monotonic_s() - patience_s
            for lane in (self._high, self._normal):
                for version_id in list(lane.versions()):
                    while version_id in lane.versions():
                        if self._held[lane.head(version_id)].since_s > before_s:
                            break
                        gone += lane.pop(version_id, 1)
        self.settle(gone)
        return len(gone)

    def flush(self, *, connection_lost: bool) -> None:
        """Drop what has not started. When the connection is lost, every message is void as well:
        it comes again, and what runs goes on without it."""
        with self._changed:
            self._forget(self._high.clear() + self._normal.clear())
            if connection_lost:
                for held in self._held.values():
                    held.tickets.clear()

    def close(self) -> None:
        """Take nothing more; wakes whoever waits."""
        with self._changed:
            self._closed = True
            self._forget(self._high.clear() + self._normal.clear())
            self._changed.notify_all()

    def poke(self) -> None:
        """Something that ``ready`` looks at has changed."""
        with self._changed:
            self._changed.notify_all()

    def held(self) -> int:
        """How many ids this process knows of, waiting or running."""
        with self._changed:
            return len(self._held)

    def _forget(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            self._held.pop(job_id, None)
