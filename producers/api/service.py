"""What every handler reaches for: lanes, watcher, submission, and who is asking.

One per process and event loop; ``service_of(request)`` finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from fastapi import Request
from starlette.requests import ClientDisconnect

from producers.api.auth import KeyCache, key_hash_of, keyless_tenant
from producers.api.bulk_documents import progress_document
from producers.api.lanes import Lane
from producers.api.metrics import Metrics
from producers.api.news import Listener
from producers.api.outputs import Outputs
from producers.api.parts import ApiParts
from producers.api.schemas import job_document
from producers.api.scraping import Scraper
from producers.api.together import Together
from producers.api.training_documents import training_document
from producers.api.watch import Seen
from producers.api.watcher import Watcher
from producers.estimates import Estimates
from producers.submission import Accepted, Submission
from producers.webhooks import Registrar
from storage.database import Transaction
from storage.records.bulk import BulkRun
from storage.records.errors import Unauthenticated
from storage.records.jobs import BULK_KINDS, TERMINAL, GroupCounts, Job, JobKind, Millis
from storage.records.models import VersionState
from storage.records.webhook_guard import Guard

T = TypeVar("T")

NOTE_EVERY_S = 10.0
UNSETTLED = frozenset({VersionState.TRAINING, VersionState.PENDING})  # versions worth waiting for


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
        self.pictures = Lane("picture", 1, max_waiting=20)
        self.health = Lane("health", 2, max_waiting=20)
        self._looks = Lane("watch", 1)
        self._lanes = (
            *(self.submits, self.reads, self.uploads, self.pictures, self.health),
            self._looks,
        )
        self.watcher: Watcher = Watcher(
            {"job": self._look_at_jobs, "group": self._look_at_groups, "version": self._versions},
            self._looks,
            max_waits=settings.max_watches,
        )
        self.outputs = Outputs(parts.objects, settings.output_prefixes)
        self.metrics = Metrics()
        self.estimates = Estimates(parts.database, parts.clock)
        self.scraper = Scraper(
            parts.database, self.estimates, parts.clock, self.health, settings.pool
        )
        self.submission = Submission(
            parts.database,
            parts.objects,
            settings,
            parts.clock,
            parts.poke,
            express=parts.express,
            estimate=self.estimates.start_at,
            chance=parts.chance,
        )
        self.registrar = Registrar(
            Guard(settings.webhook_allow), settings.max_webhooks, chance=parts.chance
        )
        self._singles = Together(self.submits, self.submission.together)
        self._found = Together(self.reads, self._find_jobs, at_once=settings.read_threads)
        self._listener = Listener(parts.news, self.watcher) if parts.news is not None else None
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

    async def submit(self, tenant: str, body: bytes, key: str | None) -> Accepted:
        """One job. What arrives together is written together, but for what is large."""
        if len(body) > self.settings.inline_input_bytes:
            return await self.submits.run(lambda: self.submission.one(tenant, body, key))
        # So little is parsed sooner than it is handed to a thread.
        return await self._singles.ask(self.submission.read(tenant, body, key))

    async def find_job(self, tenant: str, job_id: str) -> Job | None:
        """The tenant's job. Who asks at the same time is answered by one query."""
        return await self._found.ask((tenant, job_id))

    async def job_document(
        self, job: Job, *, estimated_start_at: Millis | None = None
    ) -> dict[str, object]:
        """The job as callers see it, with how far it is if it is a bulk job, an evaluation or a
        training."""
        progress = training = None
        if job.kind in BULK_KINDS:
            run, now = await self.read(lambda tx: (_run_of(tx, job), tx.now()))
            progress = progress_document(job, run, now)
        elif job.kind is JobKind.TRAINING:
            training = await self.read(lambda tx: _training_of(tx, job))
        return job_document(
            job, estimated_start_at=estimated_start_at, progress=progress, training=training
        )

    async def wait(
        self,
        request: Request,
        kind: str,
        id_: str,
        find: Callable[[], Awaitable[T]],
        is_over: Callable[[T], bool],
        timeout_s: float,
    ) -> T:
        """What ``find`` gives once that is over, at the latest after this time.

        A caller who hangs up is forgotten at once.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        with self.watcher.watch(kind, id_) as watch:
            found = await find()
            if is_over(found):
                return found
            await request.body()  # so that the next message can only be the disconnect
            leaving = asyncio.ensure_future(request.receive())
            leaving.add_done_callback(lambda _: watch.wake())
            try:
                while not is_over(found) and not self.watcher.closed:
                    left_s = end_s - loop.time()
                    if left_s <= 0 or not await watch.change(ended, left_s):
                        break
                    if leaving.done():
                        raise ClientDisconnect
                    found = await find()
            finally:
                leaving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await leaving
        return found

    def is_news(self, trouble: str) -> bool:
        """Whether this trouble was not logged lately: an outage is a line now and then."""
        now_s = self.parts.clock.monotonic_s()
        if now_s < self._noted.get(trouble, 0.0):
            return False
        self._noted[trouble] = now_s + NOTE_EVERY_S
        return True

    def start(self) -> None:
        """Begin to listen for news; everything else begins with its first use."""
        if self._listener is not None:
            self._listener.start()

    def close(self) -> None:
        """Let the lanes' calls end. Blocks; the watcher was closed before."""
        if self._listener is not None:
            self._listener.close()
        for lane in self._lanes:
            lane.close()
        self.estimates.close()
        self.outputs.close()

    def _find_jobs(self, wanted: Sequence[tuple[str, str]]) -> list[Job | Exception | None]:
        ids: dict[str, list[str]] = {}
        for tenant, job_id in wanted:
            ids.setdefault(tenant, []).append(job_id)
        with self.parts.database.read() as tx:
            found = {
                (tenant, job.id): job
                for tenant, theirs in ids.items()
                for job in tx.jobs.get_many(tenant, theirs)
            }
        return [found.get(one) for one in wanted]

    def _look_at_jobs(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            return {g.id: (g.seq, g.state in TERMINAL) for g in tx.jobs.glimpse(list(ids))}

    def _look_at_groups(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            return {g.group_id: (_missing(g), g.done) for g in tx.groups.counts_many(list(ids))}

    def _versions(self, ids: Collection[str]) -> Mapping[str, Seen]:
        with self.parts.database.read() as tx:
            found = [tx.models.by_id(version_id) for version_id in ids]
        return {v.id: (0, v.state not in UNSETTLED) for v in found if v is not None}


def _run_of(tx: Transaction, job: Job) -> BulkRun | None:
    """The run of a bulk job or an evaluation. What its owner noted last is near enough while it
    runs; when it ended, whatever its end was, it is counted."""
    run = tx.bulk.run(job.id, tenant=job.tenant)
    if run is None or job.state not in TERMINAL:
        return run
    counted = replace(tx.bulk.count(job.id), rows_per_s=run.progress.rows_per_s)
    return replace(run, progress=counted)


def _training_of(tx: Transaction, job: Job) -> dict[str, object]:
    return training_document(job, tx.training.run(job.id, tenant=job.tenant), tx.now())


def ended(seen: Seen | None) -> bool:
    """It is over, or is not there any more."""
    return seen is None or seen[1]


def _missing(group: GroupCounts) -> int:
    """How many of its jobs are not over."""
    return group.total - sum(group.by_state.get(state, 0) for state in TERMINAL)


def service_of(request: Request) -> Service:
    """The application's service."""
    return cast(Service, request.app.state.service)
