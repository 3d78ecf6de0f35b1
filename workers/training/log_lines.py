"""What the process's own log warns of while it trains belongs into the run's log as well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAMES = ("workers.training", "workers.runtime")


class _Lines(logging.Handler):
    """Messages only: a traceback is for the operator."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def told_to(say: Callable[[str], None]) -> Iterator[None]:
    """Warnings and errors go to ``say`` as lines."""
    handler = _Lines(say)
    loggers = [logging.getLogger(name) for name in _NAMES]
    for one in loggers:
        one.addHandler(handler)
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)
