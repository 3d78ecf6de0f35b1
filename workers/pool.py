"""The Celery pool that joins Celery's consumer to the batcher.

Celery hands over one message at a time and wants one callback for each; the batcher wants ids
from many messages at once. So ``on_apply`` only offers the ids to the intake, and a message's
callbacks run when all its ids are settled, whatever the batches were.

Callbacks belong on Celery's loop. They travel there through an ordered deque and one byte in a
pipe that the hub watches: the hub's own ``call_soon`` would let the ack, queued from inside the
loop, sit until the next poll ends. Transports without a hub (``memory://``) get their callbacks
at once, under a lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from celery.concurrency.base import BasePool
from celery.exceptions import Reject

from storage.queue.envelope import EnvelopeError, decode
from storage.queue.lanes import Lane, lane_of
from storage.queue.topology import INFER_TASK
from workers.inference.pipeline import Pipeline
from workers.stopping import Stopper
from workers.tasks import OUTCOME

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Joint:
    """What a worker's parts share, hung on its Celery app."""

    pipeline: Pipeline
    stopper: Stopper
    trainings: Callable[[Sequence[str]], None] | None = None  # told of trainings that came


class Handle:
    """One message in the pool. Celery keeps a weak reference and may ``terminate`` it."""

    __slots__ = ("__weakref__", "accept", "args", "callback", "error", "pool", "target", "void")

    def __init__(
        self,
        pool: BatchPool,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        accept: Callable[..., Any] | None,
        callback: Callable[..., Any] | None,
    ) -> None:
        self.pool, self.target, self.args = pool, target, args
        self.accept, self.callback = accept, callback
        self.error: Exception | None = None
        self.void = False  # its connection is gone: it can be neither acked nor rejected

    def settled(self) -> None:
        """The intake's word that nothing is left to do for it."""
        self.pool.conclude_soon(self)

    def returned(self) -> None:
        """The intake's word that another worker shall have it."""
        self.error = Reject("storage does not answer this worker", requeue=True)
        self.pool.conclude_soon(self)

    def terminate(self, signal: int | None = None) -> None:
        """A batch cannot be stopped for one message's sake; cancelling is done in SQL."""


class BatchPool(BasePool):  # type: ignore[misc]
    """See the module."""

    signal_safe = False
    task_join_will_block = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._joint: Joint = self.app.forebay_joint
        self._direct = bool(self.options.get("threads"))  # no hub: Celery says so
        self._hub: Any = None
        self._lock = threading.RLock()
        self._handles: set[Handle] = set()
        self._ready: deque[Handle] = deque()

    def register_with_event_loop(self, loop: Any) -> None:
        """Called again after every reconnect: the hub was emptied by then."""
        self._hub = loop
        loop.add_reader(self._joint.stopper.fileno(), self._on_readable)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Handle:
        handle = Handle(self, target, args, accept_callback, callback)
        with self._lock:
            self._handles.add(handle)
        task, request = args[0], args[2]
        try:
            if task != INFER_TASK:
                raise EnvelopeError(f"{task} does not run here")
            wake_up = decode(request["args"][0])
        except (EnvelopeError, LookupError, TypeError) as error:
            log.error("a message cannot be read and is set aside: %s", error)
            handle.error = Reject(str(error), requeue=False)
            self.conclude_soon(handle)
            return handle
        queue = str((request.get("delivery_info") or {}).get("routing_key") or "")
        lane = lane_of(queue)
        if lane is Lane.TRAIN:
            if self._joint.trainings is not None:
                self._joint.trainings(wake_up.job_ids)
            self.conclude_soon(handle)
            return handle
        self._joint.pipeline.intake.offer(handle, wake_up.version_id, wake_up.job_ids, lane=lane)
        return handle

    def conclude_soon(self, handle: Handle) -> None:
        """From any thread: run the task and its callbacks on Celery's side."""
        if self._direct:
            with self._lock:
                self._conclude(handle)
            return
        self._ready.append(handle)
        self._joint.stopper.wake()

    def flush(self) -> None:
        """Drop what has not started. Celery calls it on connection loss and at shutdown; only
        after the former are the messages void (the broker delivers them again)."""
        lost = self._state == self.RUN
        if lost:
            with self._lock:
                for handle in self._handles:
                    handle.void = True
                self._handles.clear()
        self._joint.pipeline.intake.flush(connection_lost=lost)

    def on_stop(self) -> None:
        """Drain, with Celery's loop kept turning: heartbeats go out, acks go in."""
        if not self._joint.pipeline.drain(self._pump):
            log.error("the running batch did not end in time; its jobs will be run again")
        self._run_ready()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Celery's revoke with terminate; see ``Handle.terminate``."""

    @property
    def num_processes(self) -> int:
        """What Celery multiplies to get the prefetch count."""
        return int(self.limit)

    def _get_info(self) -> dict[str, Any]:
        counters = self._joint.pipeline.counters
        return {
            **super()._get_info(),
            "messages": len(self._handles),
            "ids": self._joint.pipeline.intake.held(),
            "batches": counters.batches,
            "jobs": counters.jobs,
        }

    def _on_readable(self, *_: Any) -> None:
        self._joint.stopper.quiet()
        self._run_ready()
        if self._state == self.RUN:
            self._joint.stopper.check()

    def _run_ready(self) -> None:
        while self._ready:
            self._conclude(self._ready.popleft())

    def _conclude(self, handle: Handle) -> None:
        with self._lock:
            self._handles.discard(handle)
        if handle.void:
            return
        try:
            name, task_id, request, *_ = handle.args
            if handle.accept is not None:
                handle.accept(os.getpid(), time.monotonic())
            OUTCOME.error = handle.error
            # The body was decoded when the request was made; no need to do it again.
            body: tuple[Any, Any, dict[str, Any]] = (request["args"], request["kwargs"], {})
            result = handle.target(name, task_id, request, body, None, None, app=self.app)
            if handle.callback is not None:
                handle.callback(result)
        except Exception:
            log.exception("a message could not be concluded; the sweep covers its jobs")

    def _pump(self) -> None:
        if self._direct or self._hub is None:
            return
        self._hub.timer.call_after(0.05, _nothing)
        next(self._turns())

    def _turns(self) -> Iterator[None]:
        turns: Iterator[None] = self._hub.create_loop()
        return turns


def _nothing() -> None:
    """Bounds how long one turn of the hub may wait."""
