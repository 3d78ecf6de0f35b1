"""Express entry: jobs that enter the ready window with the very transaction that writes them.

Where there is no backlog and the window has room, the relay has nothing to weigh: it would find
the rows, mark them and send them, in the same order. So the submit books places, writes its rows
as published, and after the commit hands the ids to the relay, which sends them without SQL. Rolled
back, the places are given back. What is lost in between is a queued job with a mark that is too
old, which the keeper's sweep finds.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from storage.queue.lanes import Lane, class_of
from storage.records.jobs import NewJob

_LOG = logging.getLogger("forebay.express")


class Express(Protocol):
    """What a relay in this process offers."""

    def reserve(self, pool: str, jobs: int, *, bulk: bool = False) -> bool:
        """Places in the pool's window, all of them or none."""
        ...

    def release(self, pool: str, jobs: int) -> None:
        """Places that were not used after all."""
        ...

    def send(self, entries: Sequence[tuple[str, str, str, int]]) -> None:
        """(pool, version id, job id, priority) of rows that are committed as published."""
        ...


class Booking:
    """The places of one transaction."""

    def __init__(self, express: Express | None) -> None:
        self._express = express
        self._jobs: list[NewJob] = []

    @property
    def ids(self) -> frozenset[str]:
        """The jobs that are to be written as published."""
        return frozenset(job.id for job in self._jobs)

    def take(self, jobs: Iterable[NewJob]) -> None:
        """Places for these jobs, lane by lane, as far as there are any.

        High jobs need room like all others: with a backlog before them, a look has to choose.
        """
        if self._express is None:
            return
        lanes: dict[tuple[str, Lane], list[NewJob]] = {}
        for job in jobs:
            lanes.setdefault((job.pool, class_of(job.priority)), []).append(job)
        for (pool, lane), members in lanes.items():
            if self._express.reserve(pool, len(members), bulk=lane is Lane.BULK):
                self._jobs += members

    def take_all(self, jobs: Sequence[NewJob]) -> None:
        """Places for all of these jobs, or for none."""
        self.take(jobs)
        if len(self._jobs) < len(jobs):
            self.give_back()

    def send(self) -> None:
        """They are committed."""
        if self._express is None or not self._jobs:
            return
        try:
            self._express.send(
                [(job.pool, job.version_id, job.id, job.priority) for job in self._jobs]
            )
        except Exception:  # they are durable, and that is what the caller is told
            _LOG.exception("the relay did not take %d committed jobs", len(self._jobs))

    def give_back(self) -> None:
        """They are not."""
        if self._express is not None:
            for pool, jobs in Counter(job.pool for job in self._jobs).items():
                self._express.release(pool, jobs)
        self._jobs = []


@contextmanager
def booking(express: Express | None) -> Iterator[Booking]:
    """Around a transaction: sent when it committed, given back when it did not."""
    booked = Booking(express)
    try:
        yield booked
    except BaseException:
        booked.give_back()
        raise
    booked.send()
