"""The wish to stop: asked for by a signal, a watchdog or a thread, seen by Celery's loop.

It takes no lock and allocates nothing to speak of, so a signal handler may use it whatever the
interrupted thread was doing. The pipe wakes a loop that sleeps in its poller.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from celery.exceptions import WorkerShutdown

_LOOK_EVERY_S = 0.05


class Stopper:
    """One per process."""

    def __init__(self) -> None:
        self.exit_code: int | None = None  # None until somebody asks
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    @property
    def requested(self) -> bool:
        return self.exit_code is not None

    def request(self, exit_code: int = 0) -> None:
        """End gracefully, with this code; the first one who asks decides it."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.wake()

    def check(self) -> None:
        """Raise Celery's own way out when a stop was asked for."""
        if self.exit_code is not None:
            raise WorkerShutdown(self.exit_code)

    def sleep(self, seconds: float) -> None:
        """Return early when a stop is asked for."""
        give_up_s = time.monotonic() + seconds
        while not self.requested and time.monotonic() < give_up_s:
            time.sleep(_LOOK_EVERY_S)

    def fileno(self) -> int:
        """What a poller watches."""
        return self._read_fd

    def wake(self) -> None:
        """Make the poller look; from any thread."""
        with contextlib.suppress(OSError):  # full: it is awake already
            os.write(self._write_fd, b"\0")

    def quiet(self) -> None:
        """The poller has looked."""
        with contextlib.suppress(OSError):
            os.read(self._read_fd, 65536)

    def close(self) -> None:
        read_fd, write_fd = self._read_fd, self._write_fd
        self._read_fd = self._write_fd = -1
        for fd in (write_fd, read_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def until_it_works(
    call: Callable[[], object],
    stopper: Stopper,
    trouble: tuple[type[Exception], ...],
    complain: Callable[[Exception], None],
) -> bool:
    """Call with a growing pause until it works; False when a stop came first."""
    pause_s = 0.2
    while not stopper.requested:
        try:
            call()
            return True
        except trouble as error:
            complain(error)
        stopper.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)
    return False
