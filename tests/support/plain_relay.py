"""The simplest thing that brings wake-ups to a worker: no fairness, no window."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from storage.database import Database
from storage.queue.envelope import WakeUp
from storage.queue.lanes import class_of, queue_name
from storage.queue.publisher import Message, Publisher
from tests.support.household import new_id


class PlainRelay:
    """Publishes whatever is in the backlog, in no particular order: a producer's stand-in."""

    def __init__(
        self, database: Database, publisher: Publisher, *, chunk: int = 64, every_s: float = 0.02
    ) -> None:
        self._database, self._publisher = database, publisher
        self._chunk, self._every_s = chunk, every_s
        self.published = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                busy = self.turn()
            except Exception as error:  # a part is down on purpose
                print(f"relay: {type(error).__name__}")
                busy = False
            if not busy:
                stop.wait(self._every_s)

    def turn(self) -> bool:
        """Whether anything was there to publish."""
        busy = False
        with self._database.read() as tx:
            heads = [
                head
                for pool in tx.backlog.pools()
                for tenant in tx.backlog.tenants(pool)
                for head in tx.backlog.heads(pool, tenant, 1024)
            ]
        groups: dict[tuple[str, str], list[str]] = {}
        for head in heads:
            queue = queue_name(head.pool, class_of(head.priority))
            groups.setdefault((head.version_id, queue), []).append(head.id)
        for (version_id, queue), ids in groups.items():
            for start in range(0, len(ids), self._chunk):
                busy = self._publish(version_id, queue, ids[start : start + self._chunk]) or busy
        return busy

    def _publish(self, version_id: str, queue: str, ids: Sequence[str]) -> bool:
        with self._database.begin() as tx:
            marked = tx.backlog.mark_published(ids)
        chosen = tuple(job_id for job_id in ids if job_id in marked)
        if not chosen:
            return False
        message = Message(new_id(), queue, WakeUp(version_id, chosen))
        report = self._publisher.publish([message])
        if message.id not in report.confirmed:
            with self._database.begin() as tx:
                tx.backlog.unmark(chosen)
            return False
        self.published += 1
        return True
