"""The one watcher of a process: it looks for everybody who waits, in one query at a time.

A waiting request or event stream is a small entry in a heap and a future; it holds no thread and
no connection. Somebody who hears the workers' commits (``news``) tells their job ids: whoever
waits for one of them is woken at once, without a look. News may be lost or never come, so the
watcher looks as well: at a fresh wait every few milliseconds and ever more rarely as it ages. Due
times are rounded up to a common grid and a look takes along what is due soon, so five hundred old
waits are a few bulk queries a second, not five hundred.

What is over only when many jobs are (a group) is looked at when it may be: a look says how many
are missing, and so much news must have come before another look can find the end.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from producers.api.lanes import Lane
from producers.api.watch import ALONE, HEARING, Pace, Seen, Watch
from storage.records.errors import ForebayError

_LOG = logging.getLogger("forebay.api.watcher")

AFTER_TROUBLE_S = 0.5
MAX_IDS_PER_LOOK = 1_000
GATHERED_SHARE = 0.2  # of the time may go into looks at what news make worth looking at

Look: TypeAlias = Callable[[Collection[str]], Mapping[str, Seen]]


class Watcher:
    """Lives on one event loop. ``looks`` maps a kind of thing to its bulk look (blocking).

    ``told`` is the kind whose ids the news are; ``gathered`` one that is over when a number of
    those are, and whose look gives that number.
    """

    def __init__(
        self,
        looks: Mapping[str, Look],
        lane: Lane,
        *,
        max_waits: int,
        told: str = "job",
        gathered: str = "group",
    ) -> None:
        self._looks = looks
        self._lane = lane
        self._max_waits = max_waits
        self._told, self._gathered = told, gathered
        self._heap: list[tuple[float, int, Watch]] = []
        self._turns = itertools.count()
        self._waits: set[Watch] = set()
        self._listeners: dict[str, set[Watch]] = {}  # by the id that the news name
        self._gathering: set[Watch] = set()
        self._rest_until_s = 0.0  # before that, no look for the news' sake
        self._hearing = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def watching(self) -> int:
        """How many are watched for, waiting or not. From any thread."""
        return len(self._waits)

    @property
    def waiting(self) -> int:
        """How many callers wait now; those who look for themselves at the moment do not. From any
        thread."""
        return sum(wait.is_waiting for wait in list(self._waits))

    @property
    def closed(self) -> bool:
        """Whether the service stops."""
        return self._closed

    @contextmanager
    def watch(self, kind: str, id_: str) -> Iterator[Watch]:
        """Attention to a thing, from here to the end of the block."""
        self._loop = asyncio.get_running_loop()
        refused = not self._closed and self.watching >= self._max_waits
        wait = Watch(self, kind, id_, is_refused=refused)
        if refused:
            yield wait
            return
        self._add(wait)
        try:
            yield wait
        finally:
            self._remove(wait)

    async def until(
        self, kind: str, id_: str, satisfied: Callable[[Seen | None], bool], timeout_s: float
    ) -> bool:
        """One wait by itself; see ``Watch.change``."""
        with self.watch(kind, id_) as watch:
            return await watch.change(satisfied, timeout_s)

    def plan_first(self, wait: Watch, loop: asyncio.AbstractEventLoop) -> None:
        """Its caller waits from now on."""
        if self._task is None:
            self._task = loop.create_task(self._run(), name="forebay-watcher")
        wait.since_s = loop.time()
        first_s = self._pace(wait).after(wait.since_s, 0.0)
        told_already = wait.kind == self._gathered and wait.news > 0
        self._plan(wait, max(wait.since_s, self._rest_until_s) if told_already else first_s)

    def tell(self, ids: Collection[str]) -> None:
        """These changed, and everybody may see it. From any thread; free while nobody waits."""
        if ids and self._waits and self._loop is not None:
            self._from_elsewhere(self._hear, ids)

    def hears(self, hearing: bool) -> None:
        """Whether news come from now on; what happened before, nobody told. From any thread."""
        self._hearing = hearing
        if self._loop is not None and self._waits:
            self._from_elsewhere(self._look_at_all)

    def close(self) -> None:
        """Wake everybody, for good."""
        self._closed = True
        for wait in list(self._waits):
            wait.wake()
        if self._task is not None:
            self._task.cancel()

    def _add(self, wait: Watch) -> None:
        self._waits.add(wait)
        self._listeners.setdefault(wait.id, set()).add(wait)
        if wait.kind == self._gathered:
            self._gathering.add(wait)

    def _remove(self, wait: Watch) -> None:
        self._waits.discard(wait)  # its heap entry is dropped when it comes up
        self._gathering.discard(wait)
        listeners = self._listeners.get(wait.id)
        if listeners is not None:
            listeners.discard(wait)
            if not listeners:
                del self._listeners[wait.id]

    def _from_elsewhere(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _LOG.debug("news after the end")

    def _hear(self, ids: Collection[str]) -> None:
        for id_ in ids:
            for wait in self._listeners.get(id_, ()):
                wait.wake()
        if self._gathering:
            now_s = asyncio.get_running_loop().time()
            for wait in self._gathering:
                wait.news += len(ids)
                if wait.news >= wait.missing and wait.is_waiting:
                    self._plan_sooner(wait, max(now_s, self._rest_until_s))

    def _look_at_all(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            if wait.is_waiting:
                self._plan_sooner(wait, now_s)

    def _plan(self, wait: Watch, due_s: float) -> None:
        """Look at it then, and not when it was planned before."""
        wait.turn, wait.due_s = next(self._turns), due_s
        heapq.heappush(self._heap, (due_s, wait.turn, wait))
        if self._heap[0][1] == wait.turn:
            self._changed.set()

    def _plan_sooner(self, wait: Watch, due_s: float) -> None:
        if due_s < wait.due_s:
            self._plan(wait, due_s)

    def _pace(self, wait: Watch) -> Pace:
        told = self._hearing and wait.kind in (self._told, self._gathered)
        return HEARING if told else ALONE

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            pause_s = self._heap[0][0] - loop.time() if self._heap else None
            if pause_s is None or pause_s > 0:
                try:
                    async with asyncio.timeout(pause_s):
                        await self._changed.wait()
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

    def _take_due(self, now_s: float) -> list[Watch]:
        due: list[Watch] = []
        while self._heap:
            due_s, turn, wait = self._heap[0]
            slack_s = self._slack_s(wait, now_s) if due else 0.0
            if due_s > now_s + slack_s:
                break
            heapq.heappop(self._heap)
            if wait in self._waits and turn == wait.turn and wait.is_waiting:
                wait.news, wait.due_s = 0, math.inf  # what is told from here on, this look may miss
                due.append(wait)
        return due

    def _slack_s(self, wait: Watch, now_s: float) -> float:
        """A group's look is dear, and due when it is worth it."""
        if wait.kind == self._gathered:
            return 0.0
        return self._pace(wait).slack_s(now_s - wait.since_s)

    async def _look(self, due: list[Watch]) -> None:
        by_kind: dict[str, dict[str, list[Watch]]] = {}
        for wait in due:
            by_kind.setdefault(wait.kind, {}).setdefault(wait.id, []).append(wait)
        for kind, waits in by_kind.items():
            began_s = asyncio.get_running_loop().time()
            ids = list(waits)
            for start in range(0, len(ids), MAX_IDS_PER_LOOK):
                part = ids[start : start + MAX_IDS_PER_LOOK]
                seen = await self._lane.run(partial(self._looks[kind], part))
                if kind == self._gathered:  # before any is planned anew
                    now_s = asyncio.get_running_loop().time()
                    self._rest_until_s = now_s + (now_s - began_s) * (1 / GATHERED_SHARE - 1)
                for id_ in part:
                    self._settle(waits[id_], seen.get(id_))

    def _settle(self, waits: list[Watch], seen: Seen | None) -> None:
        still = []
        for wait in waits:
            if wait.satisfied(seen):
                wait.wake()
            else:
                wait.missing = seen[0] if seen else 0
                still.append(wait)
        self._put_back(still)

    def _put_back(self, waits: list[Watch], *, after_s: float = 0.0) -> None:
        now_s = asyncio.get_running_loop().time()
        for wait in waits:
            if wait not in self._waits or not wait.is_waiting:
                continue
            due_s = self._pace(wait).after(now_s, now_s - wait.since_s, at_least_s=after_s)
            if wait.kind == self._gathered and wait.news >= max(1, wait.missing) and not after_s:
                due_s = min(due_s, max(now_s, self._rest_until_s))
            self._plan(wait, due_s)
