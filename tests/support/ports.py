"""Free loopback ports that stay ours for the whole run.

They lie below the kernel's ephemeral range on purpose: a service that is stopped and started
again must find its port free, and a client that keeps connecting to a dead service on an
ephemeral port can end up connected to itself. A lock file per port keeps several runs apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_FIRST, _LAST = 15_000, 31_999
_held: dict[int, int] = {}


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on and that no other run will be given."""
    folder = Path(tempfile.gettempdir()) / "forebay-test-ports"
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user's run made it, for all of us
        folder.chmod(0o777)
    for _ in range(1000):
        port = random.SystemRandom().randint(_FIRST, _LAST)
        if port in _held:
            continue
        try:
            lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except PermissionError:  # another user's run made it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(lock)
            continue
        _held[port] = lock  # the lock goes with the process
        return port
    raise RuntimeError("no free port found between 15000 and 31999")


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
