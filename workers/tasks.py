"""The task, thin: it takes the outcome that the pool has already reached.

By the time its body runs, every job of the message is settled in SQL. What the body raises
decides only what becomes of the message.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery

from storage.queue.topology import INFER_TASK


class Outcome(threading.local):
    """What the pool says about the message whose task runs next on this thread."""

    error: Exception | None = None

    def take(self) -> None:
        """Return, or raise what the pool left; either way only once."""
        error, self.error = self.error, None
        if error is not None:
            raise error


OUTCOME = Outcome()


def register(app: Celery) -> None:
    """Make the tasks known to this app."""

    @app.task(name=INFER_TASK, acks_late=True, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def infer(*_: Any) -> None:
        OUTCOME.take()
