"""How whoever looks after a claimed job waits for storage, and knows when it is not theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from workers.inference.gate import TROUBLE
from workers.inference.parts import Parts

T = TypeVar("T")

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 5.0


class Stopped(Exception):
    """This process stops, or the session is over: whatever is under way is somebody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Shared by all threads of one side of a process."""

    parts: Parts
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
