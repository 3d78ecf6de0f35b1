"""A folder for parts that are being written: a process's own, gone with it or after it.

What a killed process leaves is removed by the next one that starts beside it: a folder's lock is
held as long as its process lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

_LOCK = ".lock"


class Spool:
    """Below ``root``, which the processes of a host share."""

    def __init__(self, root: Path) -> None:
        self.folder = root / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._root = root
        self._lock: int | None = None

    def open(self) -> None:
        """Make it, and remove those of the dead."""
        self._root.mkdir(parents=True, exist_ok=True)
        for other in self._root.iterdir():
            _remove_if_dead(other)
        self.folder.mkdir()
        # Locked before it has its name: another one that starts now would take us for dead.
        unlocked = self.folder / f"{_LOCK}.new"
        self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self.folder / _LOCK)

    def close(self) -> None:
        """Nothing in it is needed any more."""
        if self._lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its process lives
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
