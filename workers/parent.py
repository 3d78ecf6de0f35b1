"""A process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal


def die_with_parent(parent_pid: int, by: signal.Signals = signal.SIGTERM) -> bool:
    """Ask the kernel to end this process with its parent, more precisely with the thread that
    started it; False when that is gone already."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, by)
    return os.getppid() == parent_pid
