"""Threads for short blocking calls, bounded and kept apart by purpose.

Submits, reads and uploads each have their own few threads, so a flood of one never stops another
(and a waiting caller holds none at all: see ``watcher``). What queues up behind them is bounded
too: beyond it the caller gets 429 at once rather than silence.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from storage.records.errors import Overloaded

T = TypeVar("T")


class Lane:
    """A named, bounded pool of threads."""

    def __init__(self, name: str, threads: int, *, max_waiting: int = 2_000) -> None:
        self._name = name
        self._threads = threads
        self._max_waiting = max_waiting
        self._pool: ThreadPoolExecutor | None = None
        self._open = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result, computed on one of the lane's threads."""
        with self._lock:
            if self._open >= self._max_waiting + self._threads:
                raise Overloaded(
                    f"too many requests are waiting for the {self._name} lane", retry_after_s=1
                )
            self._open += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, f"forebay-{self._name}")
            try:
                future = self._pool.submit(self._counted, call)
            except BaseException:
                self._open -= 1
                raise
        # A caller who leaves does not stop the call: what it wrote is written.
        answer = asyncio.wrap_future(future)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(answer)

    def _counted(self, call: Callable[[], T]) -> T:
        try:
            return call()
        finally:
            with self._lock:
                self._open -= 1

    def close(self) -> None:
        """Let running calls end; drop none."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
