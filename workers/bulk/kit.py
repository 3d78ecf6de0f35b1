"""What bulk scoring is put together from: the parts of its process's pipeline, and places."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.errors import ForebayError
from workers.bulk.places import Places
from workers.inference.gate import TROUBLE
from workers.inference.parts import Parts
from workers.inference.refs import RefReader

T = TypeVar("T")

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 5.0


class Stopped(Exception):
    """This process stops, or the session is over: whatever is under way is somebody else's."""


class Failed(Exception):
    """The run cannot go on, whoever tries: its job is to fail with this."""

    def __init__(self, error: ForebayError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Kit:
    """Shared by all threads of a process's bulk side."""

    database: Database
    objects: Objects
    places: Places
    refs: RefReader
    parts: Parts
    clock: Clock
    pool: str
    spool: Path  # a folder of this process for parts that are being written
    retention_days: int
    stopping: Callable[[], bool]
    hurry: threading.Event = field(default_factory=threading.Event)  # set when a stop begins

    def holds(self, session_id: str) -> bool:
        """Whether what is claimed under this session is this process's to go on with."""
        return not self.stopping() and self.parts.sessions.is_live(session_id)

    def patiently(
        self, call: Callable[[], T], still: Callable[[], bool] = lambda: True, *, ours: bool = True
    ) -> T:
        """What the call returns once storage answers; ``Stopped`` when that is nobody's business
        here any more. A stop leaves it one more try. Where it is not ``ours`` that does not
        answer, only this job waits."""
        pause_s = _FIRST_PAUSE_S
        while True:
            hurried = self.hurry.is_set()
            try:
                return call()
            except TROUBLE as trouble:
                if ours:
                    self.parts.gate.trip(trouble)
            if hurried or not still():
                raise Stopped
            self.hurry.wait(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
