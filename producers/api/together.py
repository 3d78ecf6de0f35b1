"""Questions that arrive while others are being answered are answered together.

One question that comes alone is begun at once: nothing waits for company. What comes while a call
runs waits for its end and shares the next one; so the busier it gets, the fewer calls there are a
question. A call that takes unusually long (it may wait for somebody's lock) holds up nobody else:
after ``PATIENCE_S`` another one is begun beside it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from producers.api.lanes import Lane
from storage.records.errors import Overloaded

Q = TypeVar("Q")
A = TypeVar("A")

PATIENCE_S = 0.05
MOST_TOGETHER = 256


class Together(Generic[Q, A]):
    """Lives on one event loop. ``answer`` blocks, on the lane's threads, and answers each question
    in its place; an exception is an answer like any other."""

    def __init__(
        self,
        lane: Lane,
        answer: Callable[[Sequence[Q]], Sequence[A | Exception]],
        *,
        at_once: int = 1,
        most: int = MOST_TOGETHER,
        max_waiting: int = 2_000,
    ) -> None:
        self._lane = lane
        self._answer = answer
        self._at_once = at_once
        self._most = most
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._running: dict[int, float] = {}  # call → when it is not worth waiting for any more
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._planned: asyncio.Handle | None = None

    async def ask(self, question: Q) -> A:
        """The answer, or its exception. A caller who leaves does not stop the call."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("too many requests are waiting", retry_after_s=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, future))
        if self._planned is None:
            # Not here and now: what else came with the same turn of the loop goes along.
            self._planned = loop.call_soon(self._begin)
        return await future

    def _begin(self) -> None:
        self._planned = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            now_s = loop.time()
            if sum(until_s > now_s for until_s in self._running.values()) >= self._at_once:
                soonest_s = min(until_s for until_s in self._running.values() if until_s > now_s)
                self._planned = loop.call_at(soonest_s, self._begin)
                return
            count = min(self._most, len(self._waiting))
            part = [self._waiting.popleft() for _ in range(count)]
            number = next(self._numbers)
            self._running[number] = now_s + PATIENCE_S
            task = loop.create_task(self._run(number, part))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, number: int, part: list[tuple[Q, asyncio.Future[A]]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._lane.run(partial(self._answer, [asked for asked, _ in part]))
        except Exception as error:
            answers = [error] * len(part)
        finally:
            del self._running[number]
        for (_, future), answer in zip(part, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._waiting:
            if self._planned is not None:
                self._planned.cancel()
            self._begin()
