"""Sends wake-ups for rows that are marked, and takes the mark off again where the broker did not
take the message. Owned by the relay's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from producers.window.packing import Item, messages
from storage.database import Database
from storage.queue.publisher import Publisher
from storage.records.errors import ForebayError

_LOG = logging.getLogger("forebay.relay")


class Sender:
    """What leaves this process for the broker, and what ails that."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        declare: Callable[[Sequence[str]], None] | None,
        chance: Callable[[int], int],
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._declare = declare
        self._chance = chance
        self._declared: set[str] = set()
        self.trouble: str | None = None  # in words without secrets
        self.least_pause_s = 0.0  # what the publisher asked for when it last failed

    def ensure(self, pool: str) -> None:
        """The pool's queues exist; ``BrokerUnavailable`` when that cannot be said."""
        if self._declare is not None and pool not in self._declared:
            self._declare([pool])
        self._declared.add(pool)

    def send(self, pool: str, items: Iterable[Item], size: int) -> frozenset[str]:
        """The ids whose messages were not confirmed, their marks taken off."""
        sent = {m.id: m for m in messages(pool, items, size, lambda: f"{self._chance(128):032x}")}
        if not sent:
            return frozenset()
        report = self._publisher.publish(list(sent.values()))
        if report.unroutable:
            self._declared.discard(pool)  # somebody deleted the queue: declare it again
        failed = report.unroutable | report.refused | report.unknown
        ids = frozenset(i for message in failed for i in sent[message].wake_up.job_ids)
        if ids:
            self.least_pause_s = report.retry_after_s
            counts = f"{len(report.refused)} refused, {len(report.unroutable)} unroutable"
            self.note(report.trouble or f"{len(report.unknown)} unconfirmed, {counts}")
            self._unmark(sorted(ids))
        return ids

    def send_whatever_happens(self, pool: str, items: Sequence[Item], size: int) -> frozenset[str]:
        """The same, raising nothing. A row that keeps its mark by that is found by the sweep."""
        try:
            self.ensure(pool)
        except ForebayError as error:
            self.note(error.message)
        except Exception:
            _LOG.exception("the relay cannot declare its queues")
        try:
            if pool in self._declared:
                return self.send(pool, items, size)
            self._unmark(sorted(job_id for _, _, job_id in items))
        except ForebayError as error:
            self.note(error.message)
        except Exception:
            _LOG.exception("the relay could not send what was entered; the sweep will find it")
        return frozenset(job_id for _, _, job_id in items)

    def note(self, trouble: str | None) -> None:
        """Say it once when trouble begins, changes or ends."""
        if trouble != self.trouble:
            if trouble:
                _LOG.warning("the relay pauses: %s", trouble)
            else:
                _LOG.info("the relay publishes again")
        self.trouble = trouble

    def _unmark(self, ids: Sequence[str]) -> None:
        with self._database.begin() as tx:
            tx.backlog.unmark(ids)
