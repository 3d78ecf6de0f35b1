"""The one watcher of a process: it looks for everybody who waits, in one query at a time.

A waiting request or event stream is a small entry in a heap and a future; it holds no thread and
no connection. The watcher looks at a fresh wait every 4 ms and ever more rarely as it ages
(a tenth of its age, at most half a second). Due times are rounded up to a common grid, so five
hundred old waits are a few bulk queries a second, not five hundred.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from producers.api.lanes import Lane
from storage.records.errors import ForebayError

_LOG = logging.getLogger("forebay.api.watcher")

LEAST_S, SHARE, MOST_S = 0.004, 0.1, 0.5
AFTER_TROUBLE_S = 0.5
MAX_IDS_PER_LOOK = 1_000

Seen: TypeAlias = tuple[int, bool]  # a number that changes with the thing; whether it is over
Look: TypeAlias = Callable[[Collection[str]], Mapping[str, Seen]]


@dataclass(slots=True, eq=False)
class _Wait:
    kind: str
    id: str
    satisfied: Callable[[Seen | None], bool]
    woken: asyncio.Future[None]
    since_s: float


class Watcher:
    """Lives on one event loop. ``looks`` maps a kind of thing to its bulk look (blocking)."""

    def __init__(self, looks: Mapping[str, Look], lane: Lane, *, max_waits: int) -> None:
        self._looks = looks
        self._lane = lane
        self._max_waits = max_waits
        self._heap: list[tuple[float, int, _Wait]] = []
        self._order = itertools.count()
        self._waits: set[_Wait] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waits)

    @property
    def closed(self) -> bool:
        """Whether the service stops."""
        return self._closed

    async def until(
        self, kind: str, id_: str, satisfied: Callable[[Seen | None], bool], timeout_s: float
    ) -> bool:
        """Return when a look satisfies, after ``timeout_s``, or when the service stops.

        The caller looks for itself afterwards: this only says when that is worth it. False: too
        many wait already, and there was no waiting.
        """
        if self._closed or timeout_s <= 0:
            return True
        if len(self._waits) >= self._max_waits:
            return False
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="forebay-watcher")
        wait = _Wait(kind, id_, satisfied, loop.create_future(), loop.time())
        self._waits.add(wait)
        heapq.heappush(self._heap, (wait.since_s, next(self._order), wait))
        self._news.set()
        try:
            async with asyncio.timeout(timeout_s):
                await wait.woken
        except TimeoutError:
            pass
        finally:
            self._waits.discard(wait)  # its heap entry is dropped when it comes up
        return True

    def close(self) -> None:
        """Wake everybody, for good."""
        self._closed = True
        for wait in list(self._waits):
            if not wait.woken.done():
                wait.woken.set_result(None)
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            pause_s = self._heap[0][0] - loop.time() if self._heap else None
            if pause_s is None or pause_s > 0:
                try:
                    async with asyncio.timeout(pause_s):
                        await self._news.wait()
                except TimeoutError:
                    pass
                continue
            due = self._take_due(loop.time())
            try:
                await self._look(due)
            except ForebayError as error:
                _LOG.warning("the watcher cannot look: %s", error.message)
                self._put_back(due, after_s=AFTER_TROUBLE_S)
            except Exception:
                _LOG.exception("the watcher's look failed; it goes on")
                self._put_back(due, after_s=AFTER_TROUBLE_S)

    def _take_due(self, now_s: float) -> list[_Wait]:
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            wait = heapq.heappop(self._heap)[2]
            if wait in self._waits:
                due.append(wait)
        return due

    async def _look(self, due: list[_Wait]) -> None:
        by_kind: dict[str, dict[str, list[_Wait]]] = {}
        for wait in due:
            by_kind.setdefault(wait.kind, {}).setdefault(wait.id, []).append(wait)
        for kind, waits in by_kind.items():
            ids = list(waits)
            for start in range(0, len(ids), MAX_IDS_PER_LOOK):
                part = ids[start : start + MAX_IDS_PER_LOOK]
                seen = await self._lane.run(partial(self._looks[kind], part))
                for id_ in part:
                    self._settle(waits[id_], seen.get(id_))

    def _settle(self, waits: list[_Wait], seen: Seen | None) -> None:
        still = []
        for wait in waits:
            if wait.woken.done():
                continue
            if wait.satisfied(seen):
                wait.woken.set_result(None)
            else:
                still.append(wait)
        self._put_back(still)

    def _put_back(self, waits: list[_Wait], *, after_s: float = 0.0) -> None:
        now_s = asyncio.get_running_loop().time()
        for wait in waits:
            if wait in self._waits:
                due_s = next_look_s(now_s, now_s - wait.since_s, at_least_s=after_s)
                heapq.heappush(self._heap, (due_s, next(self._order), wait))


def next_look_s(now_s: float, age_s: float, *, at_least_s: float = 0.0) -> float:
    """When to look again at a wait of this age: on the grid of its own pace."""
    pace_s = max(LEAST_S, at_least_s, min(MOST_S, age_s * SHARE))
    grid_s = LEAST_S
    while grid_s * 4 <= pace_s:
        grid_s *= 2
    return -(-(now_s + pace_s) // grid_s) * grid_s
