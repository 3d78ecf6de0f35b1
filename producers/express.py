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

from producers.window.places import Entry
from storage.queue.lanes import Lane, class_of
from storage.records.jobs import NewJob

_LOG = logging.getLogger("forebay.express")


class Express(Protocol):
    """What a relay in this process offers."""

    def reserve(self, pool: str, tenant: str, jobs: int, lane: Lane) -> Lane | None:
        """Places in the pool's window for jobs of that lane, all of them or none; the lane in
        which they may travel."""
        ...

    def release(self, pool: str, jobs: int) -> None:
        """Places that were not used after all."""
        ...

    def send(self, entries: Sequence[Entry]) -> None:
        """Rows that are committed as published."""
        ...


class Booking:
    """The places of one transaction."""

    def __init__(self, express: Express | None) -> None:
        self._express = express
        self._entries: list[Entry] = []

    @property
    def ids(self) -> frozenset[str]:
        """The jobs that are to be written as published."""
        return frozenset(entry.job_id for entry in self._entries)

    def take(self, jobs: Iterable[tuple[str, NewJob]]) -> None:
        """Places for these (tenant, job), as far as each tenant has any in each lane.

        High jobs need room like all others: with a backlog before them, a look has to choose.
        """
        if self._express is None:
            return
        lanes: dict[tuple[str, str, Lane], list[NewJob]] = {}
        for tenant, job in jobs:
            lanes.setdefault((job.pool, tenant, class_of(job.priority)), []).append(job)
        for (pool, tenant, own), members in lanes.items():
            lane = self._express.reserve(pool, tenant, len(members), own)
            if lane is not None:
                self._entries += (
                    Entry(pool, tenant, job.version_id, job.id, lane) for job in members
                )

    def take_all(self, tenant: str, jobs: Sequence[NewJob]) -> None:
        """Places for all of these jobs, or for none."""
        self.take((tenant, job) for job in jobs)
        if len(self._entries) < len(jobs):
            self.give_back()

    def send(self) -> None:
        """They are committed."""
        if self._express is None or not self._entries:
            return
        try:
            self._express.send(self._entries)
        except Exception:  # they are durable, and that is what the caller is told
            _LOG.exception("the relay did not take %d committed jobs", len(self._entries))

    def give_back(self) -> None:
        """They are not."""
        if self._express is not None:
            for pool, jobs in Counter(entry.pool for entry in self._entries).items():
                self._express.release(pool, jobs)
        self._entries = []


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
