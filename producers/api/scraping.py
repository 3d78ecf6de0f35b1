"""One scrape: who may see names, a look at the database, and the page.

A look is kept for a second and looks never overlap, so that scrapes, however many, cost the
database next to nothing. While it does not answer, the page has this process' own figures alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress

from fastapi import Request
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from producers.api.auth import keyless_tenant
from producers.api.lanes import Lane
from producers.api.system_metrics import (
    KeeperView,
    Named,
    PoolView,
    View,
    families,
    workers_of,
)
from producers.estimates import Estimates
from storage.clock import Clock
from storage.database import Database, Transaction
from storage.queue.lanes import training_pool, worker_pool
from storage.records.errors import DatabaseUnavailable, ForebayError

KEEP_S = 1.0
TIMEOUT_S = 3.0
MAX_POOLS = 64
MAX_DUTIES = 64
MAX_NAMES = 10_000
NAMES_PER_LOOK = 256


class Scraper:
    """Lives on one event loop; its looks run on ``lane``."""

    def __init__(
        self, database: Database, estimates: Estimates, clock: Clock, lane: Lane, pool: str
    ) -> None:
        self._database, self._estimates, self._clock = database, estimates, clock
        self._lane = lane
        self._pool = pool
        self._names: dict[str, Named] = {}
        self._one_at_a_time = asyncio.Lock()
        self._view: View | None = None
        self._pages: dict[bool, bytes] = {}
        self._good_until_s = float("-inf")

    async def page(self, *, named: bool) -> bytes:
        """The installation's figures, at most a second old; empty while nobody knows them."""
        async with self._one_at_a_time:
            if self._clock.monotonic_s() >= self._good_until_s:
                self._view, self._pages = None, {}
                with suppress(ForebayError, TimeoutError):
                    async with asyncio.timeout(TIMEOUT_S):
                        self._view = await self._lane.run(self._look)
                self._good_until_s = self._clock.monotonic_s() + KEEP_S
            view = self._view
            if view is None:
                return b""
            if named not in self._pages:
                with suppress(ForebayError):  # the lane is full
                    self._pages[named] = await self._lane.run(lambda: rendered(view, named=named))
            return self._pages.get(named, b"")

    def _look(self) -> View:
        with self._database.read() as tx:
            sessions = tx.sessions.live()
            pools = {*tx.backlog.pools(), self._pool, *(session.pool for session in sessions)}
            windows = _windows(tx, pools)
            now = tx.now()
            lag_s = {one.name: one.lag_ms(now) / 1000 for one in tx.duties.notes()[:MAX_DUTIES]}
            keeping = KeeperView(lag_s, tx.webhooks.delivery_load(), now)
            workers = workers_of(sessions)
            self._learn_names(
                tx, (id_ for one in workers for id_ in (*one.counts.versions, *one.counts.loaded))
            )
        alive = Counter(worker.session.pool for worker in workers)
        views = [
            self._pool_view(pool, window, alive[worker_pool(pool)])
            for pool, window in windows.items()
        ]
        return View(views, workers, self._names, keeping)

    def _pool_view(self, pool: str, window: int, workers: int) -> PoolView:
        sample = self._estimates.sample(pool)
        if sample is None:
            raise DatabaseUnavailable("the backlog could not be looked at")
        return PoolView(pool, sample, window, workers)

    def _learn_names(self, tx: Transaction, ids: Iterable[str]) -> None:
        unknown = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._names]
        if len(self._names) > MAX_NAMES:
            self._names = {}
        for id_ in unknown[:NAMES_PER_LOOK]:
            version = tx.models.by_id(id_)
            if version is not None:
                self._names[id_] = Named(version.tenant, f"{version.name}:{version.version}")


def _windows(tx: Transaction, pools: Set[str]) -> dict[str, int]:
    """How many jobs are in each pool's window; pools of trainings only where something waits."""
    known = sorted(pools | {training_pool(pool) for pool in pools})[: 2 * MAX_POOLS]
    windows = {pool: sum(tx.backlog.window(pool).values()) for pool in known}
    shown = [pool for pool, jobs in windows.items() if jobs or pool in pools]
    return {pool: windows[pool] for pool in shown[:MAX_POOLS]}


def may_see_names(request: Request, *, listens_on_loopback: bool, token: str) -> bool:
    """Whether the caller is the operator, who shows the token, or this very machine (by the rule
    for callers without a key: a key shown beside it takes nothing away)."""
    shown = request.headers.getlist("authorization")
    if token and len(shown) == 1:
        scheme, _, word = shown[0].partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(
            _digest(word.strip()), _digest(token)
        ):
            return True
    try:
        keyless_tenant(request, listens_on_loopback=listens_on_loopback)
    except ForebayError:
        return False
    return True


def _digest(text: str) -> bytes:
    """Of one length, so that a comparison tells nothing."""
    return hashlib.sha256(text.encode()).digest()


def rendered(view: View, *, named: bool) -> bytes:
    """In the exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families(view, named=named)))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
