"""One device process, from its parts to its exit code. The shape of a process is all here.

The calling thread becomes Celery's: the main thread in a worker of its own (it gets the signals
then), any thread elsewhere. Everything else is a thread of the pipeline, or one that the
composition root passes in (the embedded mode's relay and keeper).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from storage.clock import Clock, SystemClock
from storage.database import Database
from storage.objects import Objects
from storage.queue import topology
from storage.queue.lanes import Lane, lane_of
from storage.records.errors import Unavailable
from storage.records.sessions import NewSession
from workers.app import build_app, is_in_process
from workers.bulk.side import BulkSide
from workers.inference.pipeline import Pipeline
from workers.inference.ports import Runtime
from workers.parent import die_with_parent
from workers.pool import Joint
from workers.settings import WorkerSettings
from workers.stopping import Stopper, until_it_works
from workers.training.side import TrainingSide

log = logging.getLogger(__name__)

FAILED = 70  # the exit code of a process that its own watchdog ended
_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a device process is put together from."""

    database: Database
    objects: Objects
    runtime: Callable[[], Runtime]  # called once, in the process: the import of TensorFlow
    broker_url: str
    settings: WorkerSettings
    threads: tuple[Callable[[threading.Event], None], ...] = ()  # each runs until the event is set
    clock: Clock = field(default_factory=SystemClock)
    announce: Callable[[Sequence[str]], None] | None = None  # told which jobs a commit settled
    trainer: Sequence[str] = ()  # starts a training's process; none runs here without it
    environ: Mapping[str, str] = field(default_factory=dict)  # of such processes

    @property
    def trains(self) -> bool:
        """Whether it takes trainings."""
        return bool(self.trainer) and self.settings.trainings > 0


def run_worker(
    parts: WorkerParts,
    *,
    stop: threading.Event | None = None,
    on_ready: Callable[[Pipeline], None] | None = None,
) -> int:
    """Work until SIGTERM, SIGINT or ``stop``; returns the exit code, 0 after a graceful stop."""
    settings = parts.settings
    if settings.parent_pid and not die_with_parent(settings.parent_pid):
        return 0
    for chatty in ("celery", "kombu", "amqp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    end, stopper = threading.Event(), Stopper()
    _listen_to_signals(stopper)  # before the runtime: its import takes seconds
    if stop is not None:
        _thread("forebay-stop", lambda _: _forward(stop, end, stopper), end)
    others = [_thread(f"forebay-part-{i}", run, end) for i, run in enumerate(parts.threads)]
    pipeline: Pipeline | None = None
    bulk: BulkSide | None = None
    trainings: TrainingSide | None = None
    try:
        pipeline = _pipeline(parts)
        bulk = BulkSide(pipeline, parts.database, parts.objects, settings, parts.clock)
        if parts.trains:
            trainings = _training_side(parts, pipeline)
        joint = Joint(pipeline, stopper, trainings.offer if trainings else None)
        if _answers(pipeline.start, stopper, "the database") and _answers(
            lambda: _declare(parts), stopper, "the broker"
        ):
            bulk.start()
            if trainings is not None:
                trainings.start()
            _consume(parts, joint, end, on_ready)
    finally:
        if bulk is not None:
            bulk.close()
        if trainings is not None:
            trainings.close()
        if pipeline is not None:
            pipeline.close()
            if pipeline.hangs and threading.current_thread() is threading.main_thread():
                # A thread that is stuck in the device's library may hold up even the interpreter's
                # end. This timer needs no interpreter.
                faulthandler.dump_traceback_later(_GRACE_S, exit=True)
        end.set()
        for thread in others:
            thread.join(_GRACE_S)
        stopper.close()
    return stopper.exit_code or 0


def _pipeline(parts: WorkerParts) -> Pipeline:
    settings = parts.settings
    runtime = parts.runtime()

    def make_session(session_id: str) -> NewSession:
        node = settings.node_name(os.getpid())
        return NewSession(session_id, node, socket.gethostname(), settings.device, settings.pool)

    return Pipeline(
        parts.database,
        parts.objects,
        runtime,
        settings,
        parts.clock,
        make_session,
        parts.announce,
    )


def _training_side(parts: WorkerParts, pipeline: Pipeline) -> TrainingSide:
    return TrainingSide(
        pipeline,
        parts.database,
        parts.objects,
        parts.settings,
        parts.clock,
        trainer=parts.trainer,
        environ=parts.environ,
    )


def _declare(parts: WorkerParts) -> None:
    # On a connection of its own: a mismatch closes the channel, and a consumer's would be deaf.
    if not is_in_process(parts.broker_url):
        topology.declare(parts.broker_url, [parts.settings.pool])


def _consume(
    parts: WorkerParts,
    joint: Joint,
    end: threading.Event,
    on_ready: Callable[[Pipeline], None] | None,
) -> None:
    settings = parts.settings
    queues = [
        queue
        for queue in topology.queues([settings.pool], quorum=not is_in_process(parts.broker_url))
        if parts.trains or lane_of(queue.name) is not Lane.TRAIN
    ]
    app = build_app(parts.broker_url, queues, joint, prefetch=settings.prefetch)

    def ready(_: Any) -> None:
        if on_ready is not None:
            on_ready(joint.pipeline)

    worker = app.WorkController(
        hostname=settings.node_name(os.getpid()),
        ready_callback=ready,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
    )
    _thread("forebay-watchdog", lambda _: _watch(worker, joint, settings, end), end)
    worker.start()
    if not joint.stopper.requested:  # it ended by itself, which it should not
        joint.stopper.request(worker.exitcode or FAILED)


def _watch(worker: Any, joint: Joint, settings: WorkerSettings, end: threading.Event) -> None:
    """End a process that looks healthy and is not; its supervisor starts a new one."""
    deaf_since_s: float | None = None
    while not end.wait(1.0):
        failure = joint.pipeline.failure()
        if failure is None and not joint.stopper.requested:
            consumer = getattr(worker, "consumer", None)
            deaf = consumer is not None and consumer.is_deaf()
            now_s = time.monotonic()
            deaf_since_s = (deaf_since_s or now_s) if deaf else None
            if deaf_since_s is not None and now_s - deaf_since_s > settings.deaf_after_s:
                failure = "it is connected to the broker but consumes nothing"
        if failure is None:
            continue
        log.critical("this worker is of no use any more: %s", failure)
        joint.stopper.request(FAILED)
        if not end.wait(settings.drain_s + _GRACE_S):
            os._exit(FAILED)


def _answers(call: Callable[[], object], stopper: Stopper, what: str) -> bool:
    def complain(trouble: Exception) -> None:
        log.warning("%s does not answer yet (%s)", what, type(trouble).__name__)

    return until_it_works(call, stopper, (Unavailable, OSError), complain)


def _listen_to_signals(stopper: Stopper) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    interrupts = 0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:  # somebody at a terminal who does not want to wait
            os._exit(130)
        stopper.request()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _forward(stop: threading.Event, end: threading.Event, stopper: Stopper) -> None:
    while not end.is_set():
        if stop.wait(0.1):
            stopper.request()
            return


def _thread(
    name: str, run: Callable[[threading.Event], None], end: threading.Event
) -> threading.Thread:
    thread = threading.Thread(target=run, args=(end,), name=name, daemon=True)
    thread.start()
    return thread
