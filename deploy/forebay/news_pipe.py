"""News between the two processes of ``forebay up``: the worker writes ids, the API reads them.

Only a hint, as all news are: a full pipe drops what does not fit, and nobody waits for a reader.
A write of up to ``PIPE_BUF`` bytes goes into a pipe whole or not at all, also when its writer is
killed over it; so the ids, all of one length, are never torn.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Sequence

ID_BYTES = 36
IDS_PER_WRITE = select.PIPE_BUF // ID_BYTES
_READ_BYTES = ID_BYTES * 4096
_NOBODY = b" " * ID_BYTES  # only wakes the reader


def tell(fd: int, ids: Sequence[str]) -> None:
    """Write ids to the pipe as far as it has room; ``fd`` does not block."""
    data = "".join(ids).encode("ascii", "replace")
    with contextlib.suppress(OSError):
        for start in range(0, len(data), IDS_PER_WRITE * ID_BYTES):
            os.write(fd, data[start : start + IDS_PER_WRITE * ID_BYTES])


class NewsPipe:
    """The reader's side, which made the pipe and holds both ends: workers come and go."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.write_fd, False)
        self._rest = b""

    def wait(self, timeout_s: float) -> list[str]:
        """The next ids, or none in this time."""
        select.select([self._read_fd], [], [], timeout_s)
        try:
            data = self._rest + os.read(self._read_fd, _READ_BYTES)
        except BlockingIOError:
            return []
        whole = len(data) // ID_BYTES * ID_BYTES
        self._rest = data[whole:]
        told = (data[at : at + ID_BYTES] for at in range(0, whole, ID_BYTES))
        return [one.decode("ascii", "replace") for one in told if one != _NOBODY]

    def close(self) -> None:
        """End a wait that is under way. The pipe stays: its owner lets go of it."""
        with contextlib.suppress(OSError):
            os.write(self.write_fd, _NOBODY)

    def let_go(self) -> None:
        """Close both ends, once nobody reads and no worker writes any more."""
        os.close(self._read_fd)
        os.close(self.write_fd)
