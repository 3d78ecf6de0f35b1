"""Who is on the device now, in memory that outlives the process.

The device thread writes the ids before each forward pass and clears them after it. When the
process dies in between, its supervisor reads the file and blames those jobs and no others.

Layout: magic (8 bytes), the process's session (16), the batch's session (16), count (4), then 16
bytes for each id. The count is written last on publishing, so a torn write blames nobody.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_MAGIC = b"FBLEDG01"
_SESSION_AT = len(_MAGIC)
_BATCH_AT = _SESSION_AT + 16
_COUNT_AT = _BATCH_AT + 16
_IDS_AT = _COUNT_AT + 4
MAX_IDS = 4096
_SIZE = _IDS_AT + 16 * MAX_IDS
_COUNT = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class OnDevice:
    """What a ledger says of the process that wrote it."""

    session_id: str | None  # the one it claimed under last
    batch_session_id: str | None  # the one that ``job_ids`` were claimed under
    job_ids: tuple[str, ...]  # on the device when it stopped


class Ledger:
    """The device process's side. Without a path it writes to memory nobody reads."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._map = mmap.mmap(-1, _SIZE)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w+b") as file:
                file.truncate(_SIZE)
                self._map = mmap.mmap(file.fileno(), _SIZE)
        self._map[:_SESSION_AT] = _MAGIC

    def session(self, session_id: str) -> None:
        """The process claims under this session from now on."""
        self._map[_SESSION_AT:_BATCH_AT] = _pack(session_id)

    def publish(self, session_id: str, job_ids: Sequence[str]) -> None:
        """These jobs, claimed under this session, enter the device."""
        some = job_ids[:MAX_IDS]
        blob = b"".join(map(_pack, some))
        self._map[_BATCH_AT:_COUNT_AT] = _pack(session_id)
        self._map[_IDS_AT : _IDS_AT + len(blob)] = blob
        self._map[_COUNT_AT:_IDS_AT] = _COUNT.pack(len(some))

    def clear(self) -> None:
        """The device is empty."""
        self._map[_COUNT_AT:_IDS_AT] = _COUNT.pack(0)

    def close(self) -> None:
        """A graceful end: the file says nothing any more."""
        self.clear()
        self._map[_SESSION_AT:_COUNT_AT] = bytes(32)
        self._map.close()


def read(path: Path) -> OnDevice | None:
    """What the process that wrote ``path`` said last; None when it says nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) != _SIZE or not data.startswith(_MAGIC):
        return None
    (count,) = _COUNT.unpack_from(data, _COUNT_AT)
    ids = (data[_IDS_AT + 16 * index : _IDS_AT + 16 * (index + 1)] for index in range(count))
    return OnDevice(
        _unpack(data[_SESSION_AT:_BATCH_AT]),
        _unpack(data[_BATCH_AT:_COUNT_AT]),
        tuple(str(UUID(bytes=one)) for one in ids),
    )


def _pack(identifier: str) -> bytes:
    return bytes.fromhex(identifier.replace("-", ""))


def _unpack(data: bytes) -> str | None:
    return str(UUID(bytes=data)) if any(data) else None
