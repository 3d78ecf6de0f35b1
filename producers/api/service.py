"""What every handler reaches for: lanes, watcher, submission, and who is asking.

One per process and event loop; ``service_of(request)`` finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar, cast

from fastapi import Request
from starlette.requests import ClientDisconnect

from producers.api.auth import KeyCache, key_hash_of, keyless_tenant
from producers.api.lanes import Lane
from producers.api.metrics import Metrics
from producers.api.parts import ApiParts
from producers.api.scraping import Scraper
from producers.api.watcher import Seen, Watcher
from producers.estimates import Estimates
from producers.submission import Submission
from storage.database import Transaction
from storage.records.errors import Unauthenticated
from storage.records.jobs import TERMINAL
from storage.records.models import VersionState

T = TypeVar("T")

NOTE_EVERY_S = 10.0


class Service:
    """The living part of an application."""

    def __init__(self, parts: ApiParts) -> None:
        settings = parts.settings
        self.parts = parts
        self.settings = settings
        self.keyless = parts.keyless
        self.submits = Lane("submit", settings.submit_threads)
        self.reads = Lane("read", settings.read_threads)
        self.uploads = Lane("upload", settings.upload_threads, max_waiting=100)
        self.health = Lane("health", 2, max_waiting=20)
        self._looks = Lane("watch", 1)
        self.watcher: Watcher = Watcher(
            {"job": self._look_at_jobs, "group": self._look_at_groups, "version": self._versions},
            self._looks,
            max_waits=settings.max_watches,
        )
        self.metrics = Metrics()
        self.estimates = Estimates(parts.database, parts.clock)
        self.scraper = Scraper(
            parts.database, self.estimates, parts.clock, self.health, settings.pool
        )
        self.submission = Submission(
            parts.database, parts.objects, settings, parts.clock, parts.poke, chance=parts.chance
        )
        self.verdicts: dict[str, tuple[float, dict[str, object]]] = {}  # readiness, for a moment
        self.schema_checked = False
        self._noted: dict[str, float] = {}
        self._keys = KeyCache(parts.clock.monotonic_s)

    async def tenant(self, request: Request) -> str:
        """Whose request this is, or 401."""
        key_hash = key_hash_of(request)
        if key_hash is None:
            return keyless_tenant(request, listens_on_loopback=self.keyless)
        cached, tenant = self._keys.get(key_hash)
        if not cached:
            tenant = await self.read(lambda tx: tx.tenants.by_key_hash(key_hash))
            self._keys.put(key_hash, tenant)
        if tenant is None:
            raise Unauthenticated("nobody knows this key, or it was revoked")
        return tenant

    async def read(self, look: Callable[[Transaction], T]) -> T:
        """One short read transaction on the read lane."""

        def call() -> T:
            with self.parts.database.read() as tx:
                return look(tx)

        return await self.reads.run(call)

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """One short write transaction on the submit lane."""

        def call() -> T:
            with self.parts.database.begin() as tx:
                return change(tx)

        return await self.submits.run(call)

    async def wait(
        self,
        request: Request,
        kind: str,
        id_: str,
        satisfied: Callable[[Seen | None], bool],
        timeout_s: float,
    ) -> None:
        """Wait on the watcher; a caller who hangs up is forgotten at once."""
        await request.body()  # so that the next message can only be the disconnect
        waiting = asyncio.ensure_future(self.watcher.until(kind, id_, satisfied, timeout_s))
        leaving = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientDisconnect
            waiting.result()
        finally:
            for task in (waiting, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def is_news(self, trouble: str) -> bool:
        """Whether this trouble was not logged lately: an outage is a line now and then."""
        now_s = self.parts.clock.monotonic_s()
        if now_s < self._noted.get(trouble, 0.0):
            return False
        self._noted[trouble] = now_s + NOTE_EVERY_S
        return True

    def close(self) -> None:
        """Let the lanes' calls end. Blocks; the watcher was closed before."""
        for lane in (self.submits, self.reads, self.uploads, self.health, self._looks):
            lane.close()
        self.estimates.close()

    def _look_at_jobs(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            return {g.id: (g.seq, g.state in TERMINAL) for g in tx.jobs.glimpse(list(ids))}

    def _look_at_groups(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            return {g.group_id: (0, g.done) for g in tx.groups.counts_many(list(ids))}

    def _versions(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            found = [tx.models.by_id(version_id) for version_id in ids]
        return {v.id: (0, v.state is not VersionState.PENDING) for v in found if v is not None}


def is_over(seen: Seen | None) -> bool:
    """It ended, or is not there any more."""
    return seen is None or seen[1]


def service_of(request: Request) -> Service:
    """The application's service."""
    return cast(Service, request.app.state.service)
