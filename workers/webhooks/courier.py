"""Carries deliveries: many at once in one thread, a bounded number for each endpoint.

Endpoints take turns, so one that hangs holds its own few places and nobody else's. What is not
begun soon after its claim is put back unattempted: its lease must outlast its attempt.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from storage.records.errors import InvalidInput
from storage.records.jobs import Millis
from storage.records.webhook_guard import Guard, Target
from storage.records.webhooks import Delivery
from workers.webhooks.client import Client
from workers.webhooks.connection import Limits
from workers.webhooks.message import body_of, headers_of, request_of
from workers.webhooks.resolver import Resolver
from workers.webhooks.verdict import Answer, Undelivered, Verdict, judge

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """How much is carried at once."""

    each: int = 8  # attempts at one endpoint at a time
    in_all: int = 128  # attempts at a time
    begin_within_s: float = 3.0  # after its claim; then it is put back


@dataclass(frozen=True, slots=True)
class Parcel:
    """A claimed delivery and what its attempt needs."""

    delivery: Delivery
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    claimed_at: Millis  # by the database's clock
    claimed_s: float  # the same moment by ``time.monotonic``

    def at(self, moment_s: float) -> Millis:
        """A later moment by the database's clock, whatever this machine's clock says."""
        return self.claimed_at + int(1000 * (moment_s - self.claimed_s))


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, or, without a verdict, a parcel put back unattempted."""

    parcel: Parcel
    verdict: Verdict | None
    duration_ms: int
    ended_s: float  # by ``time.monotonic``


@dataclass(slots=True)
class _Lane:
    """What waits for one endpoint."""

    waiting: deque[Parcel] = field(default_factory=deque)
    active: int = 0
    queued: bool = False  # stands in the line of lanes with something to begin


class Courier:
    """Started by its first parcels; ``close`` ends its thread. Its callers' side is one thread."""

    def __init__(
        self,
        guard: Guard,
        *,
        public_url: str = "",
        route: Route | None = None,
        limits: Limits | None = None,
        make_client: Callable[[Guard, Limits], Client] | None = None,
    ) -> None:
        self._guard, self._public_url = guard, public_url
        self._route, self._limits = route or Route(), limits or Limits()
        self._make_client = make_client or _client
        self._target = functools.lru_cache(4096)(functools.partial(guard.target, field="the URL"))
        self._lanes: dict[str, _Lane] = {}
        self._line: deque[str] = deque()
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: deque[Ended] = deque()
        self._news = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None

    def send(self, parcels: Sequence[Parcel]) -> None:
        """Take these along."""
        if self._loop is None:
            self._start()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._accept, parcels)

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._loop is not None

    def wait(self, timeout_s: float) -> bool:
        """Until an attempt has ended that was not taken yet, but no longer."""
        return self._news.wait(timeout_s)

    def take(self) -> list[Ended]:
        """What has ended since it was asked last, in the order in which it did."""
        self._news.clear()
        taken = []
        while self._ended:
            taken.append(self._ended.popleft())
        return taken

    def close(self) -> None:
        """End the thread; attempts under way are broken off and never counted."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._thread = None

    def _start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="forebay-webhooks", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._loop is None:
            raise RuntimeError("the courier did not start; the log says why")

    def _run(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._live(ready))
        except Exception:
            log.exception("the courier ended")
        finally:
            self._loop = None
            ready.set()

    async def _live(self, ready: threading.Event) -> None:
        self._client = self._make_client(self._guard, self._limits)
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sweep()
        ready.set()
        await self._stop.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client, self._client = self._client, None
        await client.close()

    def _sweep(self) -> None:
        if self._client is not None:
            self._client.sweep()
            asyncio.get_running_loop().call_later(SWEEP_EVERY_S, self._sweep)

    def _accept(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            endpoint = parcel.delivery.endpoint_id
            lane = self._lanes.setdefault(endpoint, _Lane())
            lane.waiting.append(parcel)
            self._stand_in_line(endpoint, lane)
        self._begin()

    def _stand_in_line(self, endpoint: str, lane: _Lane) -> None:
        if lane.waiting and not lane.queued and lane.active < self._route.each:
            lane.queued = True
            self._line.append(endpoint)

    def _begin(self) -> None:
        """Begin what there is room for, one of each endpoint in turn."""
        now_s = time.monotonic()
        while self._line and self._active < self._route.in_all:
            endpoint = self._line.popleft()
            lane = self._lanes[endpoint]
            lane.queued = False
            parcel = lane.waiting.popleft()
            if now_s - parcel.claimed_s > self._route.begin_within_s:
                self._tell(Ended(parcel, None, 0, now_s))
            else:
                lane.active += 1
                self._active += 1
                task = asyncio.ensure_future(self._carry(parcel, lane))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._stand_in_line(endpoint, lane)
            self._forget_if_idle(endpoint, lane)

    def _forget_if_idle(self, endpoint: str, lane: _Lane) -> None:
        if not lane.waiting and not lane.active and not lane.queued:
            del self._lanes[endpoint]

    async def _carry(self, parcel: Parcel, lane: _Lane) -> None:
        began_s = time.monotonic()
        try:
            outcome = await self._attempt(parcel, began_s)
            ended_s = time.monotonic()
            now, delivery = parcel.at(ended_s), parcel.delivery
            verdict = judge(
                outcome,
                attempts=delivery.attempts + 1,
                age_ms=now - delivery.created_at,
                now=now,
                jitter=random.random(),
            )
            self._tell(Ended(parcel, verdict, int(1000 * (ended_s - began_s)), ended_s))
        finally:
            lane.active -= 1
            self._active -= 1
            endpoint = parcel.delivery.endpoint_id
            self._stand_in_line(endpoint, lane)
            self._forget_if_idle(endpoint, lane)
        self._begin()

    async def _attempt(self, parcel: Parcel, began_s: float) -> Answer | Undelivered:
        assert self._client is not None
        try:
            target: Target = self._target(parcel.url)
            event = parcel.delivery.event
            body = body_of(event, self._public_url)
            headers = headers_of(event, body, parcel.secrets, parcel.at(began_s) // 1000)
            return await self._client.post(target, request_of(target, headers, body))
        except InvalidInput as error:  # what was open when it was registered
            return Undelivered(f"not sent: {error.message}")
        except Undelivered as error:
            return error
        except Exception:  # a fault of ours must not be a delivery that nobody ends
            log.exception("a webhook could not be sent")
            return Undelivered("not sent: a fault of the service; its log has it")

    def _tell(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._news.set()


def _client(guard: Guard, limits: Limits) -> Client:
    return Client(Resolver(guard), limits)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one: half the CPU of a delivery."""
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
