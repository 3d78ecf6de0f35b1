"""Threads beside the device's, which give way to it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

NICENESS = 10  # a tenth of the others' share where cores are short, and what is left over where not


def start_thread(
    name: str, work: Callable[[], None], *, gives_way: bool = True
) -> threading.Thread:
    """A thread that reads, decodes, encodes or looks after such; and whatever threads it starts.

    A pass on the CPU waits for the slowest of its threads. One of them that shares its core with a
    reader takes twice as long while the other core rests; when readers step back they get the
    pauses of the passes, which suffice them. Measured on two cores: 7 % more rows/s.
    """

    def run() -> None:
        if gives_way:
            with contextlib.suppress(OSError):  # it is a courtesy
                me = threading.get_native_id()
                nice = max(NICENESS, os.getpriority(os.PRIO_PROCESS, me))  # root may go up as well
                os.setpriority(os.PRIO_PROCESS, me, nice)
        work()

    thread = threading.Thread(target=run, name=f"forebay-bulk-{name}", daemon=True)
    thread.start()
    return thread
