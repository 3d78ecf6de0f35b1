"""How a trainer process ends. Anything else, or a signal, means that it died."""

from __future__ import annotations

from enum import IntEnum


class TrainerExit(IntEnum):
    """What whoever started it is to make of it."""

    FINISHED = 0  # the run's result is set and its version filled in
    FAILED = 3  # the run's error is set: the job is to fail
    STOPPED = 4  # on request, after a checkpoint; or cancelled or lost, after nothing
    PAUSED = 5  # after a checkpoint


class Leave(Exception):
    """Training ends here, for now or for good, and this is the process's exit code."""

    def __init__(self, code: TrainerExit) -> None:
        super().__init__(code.name.lower())
        self.code = code
