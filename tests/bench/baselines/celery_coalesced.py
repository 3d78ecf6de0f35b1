"""The same durable work with batches formed by hand: what one would write in Celery 5.7, beside
which celery-batches does not install.

Callers still send one task per item. The task's ``Strategy``, the place where Celery hands a
message over, collects up to 128 items, or what came within a short linger; a batch is one UPDATE
to running, one traced forward on the padded batch, one object with all answers, one UPDATE to
done, and only then the acknowledgement. Tried and slower: a thread that works on one batch while
the loop receives the next, one TensorFlow thread, other prefetch counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from celery import Celery
from celery.signals import worker_init

from tests.bench.baselines.celery_app import (
    TASK,
    answer,
    database,
    from_environment,
    objects,
    pixels_of,
    traced,
)

BATCH = 128
LINGER_S = 0.02
_model: dict[str, Any] = {}


class Collector:
    """Messages in, batches through, acknowledgements out; all in Celery's own loop."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._waiting: list[Any] = []
        self._timer: Any = None
        self._number = 0

    def add(self, message: Any) -> None:
        """Called by the loop for each message."""
        self._waiting.append(message)
        if len(self._waiting) >= BATCH:
            self._run()
        elif self._timer is None:
            self._timer = self._hub.call_later(LINGER_S, self._run)

    def _run(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        if batch:
            _durably(batch, f"{os.getpid()}-{self._number}")
            self._number += 1
            # Batches are done in the order in which their messages came: this covers all of it.
            batch[-1].ack(multiple=True)


def _durably(batch: list[Any], name: str) -> None:
    items = [message.payload[0] for message in batch]
    ids = [job_id for job_id, _ in items]
    connection = database()
    connection.execute(
        "UPDATE baseline_jobs SET state = 'running', started_at = clock_timestamp()"
        " WHERE id = ANY(%s::uuid[]) AND state = 'queued'",
        (ids,),
    )
    rows = np.zeros((BATCH, 28, 28, 1), dtype=np.float32)
    for place, (_, image) in enumerate(items):
        rows[place] = pixels_of(image)
    scores = _model["forward"](_model["constant"](rows)).numpy()[: len(ids)].tolist()
    body = json.dumps(dict(zip(ids, map(answer, scores), strict=True))).encode()
    key = f"{os.environ['BASELINE_PREFIX']}/{name}.json"
    objects().put_object(Bucket=os.environ["BASELINE_BUCKET"], Key=key, Body=body)
    connection.execute(
        "UPDATE baseline_jobs SET state = 'done', result_key = %s,"
        " finished_at = clock_timestamp() WHERE id = ANY(%s::uuid[]) AND state = 'running'",
        (key, ids),
    )


def collecting(task: Any, app: Celery, consumer: Any) -> Callable[..., None]:
    """The ``Strategy``: made once per worker, called for each message."""
    collector = Collector(consumer.hub)

    def on_message(message: Any, *_: Any) -> None:
        collector.add(message)

    return on_message


def load_model(**_: Any) -> None:
    """Before the first message."""
    _model["constant"], _model["forward"] = traced(BATCH)


def _wire_worker() -> Celery:
    worker_init.connect(load_model)
    made = from_environment()
    made.tasks[TASK].Strategy = collecting
    return made


if os.environ.get("BASELINE_APP") == __name__:
    app = _wire_worker()
