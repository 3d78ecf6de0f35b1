"""The folder of an embedded Forebay, and the lock that keeps a second one out of it.

The lock is the kernel's (flock), held by the API process and its worker alike: whatever happens
to one of them, the folder is free only when both are gone, and never stays locked after them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from producers.cli.exits import Exit, Failure

LOCK_NAME = "lock"
DYING_S = 5.0  # how long a killed one's other half may take to follow it


@dataclass(frozen=True, slots=True)
class HomeLock:
    """A held lock. It goes with its last holder; ``fd`` is what a child inherits."""

    home: Path
    fd: int

    def release(self) -> None:
        """Let the next one in."""
        os.close(self.fd)


def lock_home(
    home: Path,
    pid: int,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> HomeLock:
    """Take the folder for this process, or say who has it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        fd = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Failure(
            f"cannot use {home} as FOREBAY_HOME: {error.strerror or error}",
            exit_code=Exit.USAGE,
            code="home_unusable",
            hint="set FOREBAY_HOME to a folder that you may write to",
        ) from error
    deadline = monotonic() + DYING_S
    while not _try(fd):
        holder = _holder(fd)
        if (holder is not None and _runs(holder)) or monotonic() > deadline:
            os.close(fd)
            raise _taken(home, holder)
        sleep(0.05)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{pid}\n".encode(), 0)
    return HomeLock(home, fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(home: Path, holder: int | None) -> Failure:
    who = f"the process {holder}" if holder is not None else "another process"
    return Failure(
        f"{home} is in use by {who}: another forebay up runs on it",
        exit_code=Exit.USAGE,
        code="home_locked",
        hint="stop that one, or give this one a folder of its own in FOREBAY_HOME",
    )
