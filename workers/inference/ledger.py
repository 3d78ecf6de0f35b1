"""Who is on the device now, in memory that outlives the process.

A device thread writes the ids of jobs, and which rows of bulk shards, before each pass and clears
them after it; the loader writes which version it loads. When the process dies in between, its
supervisor reads the file and blames those jobs and rows, or that version, and nobody else.

Layout: magic (8 bytes), the process's session (16), the version that loads (16), slots (4), then
for each slot the session of its jobs (16), their count (4) and 16 bytes for each id; then the same
of its rows: session (16), count (4) and 36 bytes for each span (job, number of the shard, start,
stop). Counts are written last on publishing, so a torn write blames nobody.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_MAGIC = b"FBLEDG03"
_SESSION_AT = len(_MAGIC)
_LOADING_AT = _SESSION_AT + 16
_SLOTS_AT = _LOADING_AT + 16
_HEAD = _SLOTS_AT + 4
MAX_IDS, MAX_SPANS = 4096, 64
_COUNT = struct.Struct("<I")
_SPAN = struct.Struct("<16sIqq")
_IDS_AT = 16 + _COUNT.size  # within a slot
_ROWS_AT = _IDS_AT + 16 * MAX_IDS
_SPANS_AT = _ROWS_AT + 16 + _COUNT.size
_SLOT = _SPANS_AT + _SPAN.size * MAX_SPANS
_NOBODY = bytes(16)


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Rows of a bulk shard: those at ``start`` and before ``stop``."""

    job_id: str
    number: int  # the shard's
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class OnPass:
    """What was in one pass, and the session it was claimed under."""

    session_id: str
    job_ids: tuple[str, ...] = ()
    spans: tuple[RowSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class OnDevice:
    """What a ledger says of the process that wrote it."""

    session_id: str | None = None  # the one it claimed under last
    loading: str | None = None  # the version that was being loaded
    passes: tuple[OnPass, ...] = ()  # what was on the device when it stopped

    @property
    def job_ids(self) -> tuple[str, ...]:
        """Every job that was on the device."""
        return tuple(job_id for one in self.passes for job_id in one.job_ids)

    @property
    def spans(self) -> tuple[RowSpan, ...]:
        """All rows of bulk shards that were on the device."""
        return tuple(span for one in self.passes for span in one.spans)

    @property
    def at_work(self) -> bool:
        """Whether it died of what it did: computing or loading."""
        return bool(self.passes or self.loading)

    @property
    def by_session(self) -> dict[str, list[str]]:
        """Jobs by the session that claimed them: passes that ran at once are one suspicion."""
        found: dict[str, list[str]] = {}
        for one in self.passes:
            if one.job_ids:
                found.setdefault(one.session_id, []).extend(one.job_ids)
        return found

    @property
    def spans_by_session(self) -> dict[str, list[RowSpan]]:
        """The same of rows."""
        found: dict[str, list[RowSpan]] = {}
        for one in self.passes:
            if one.spans:
                found.setdefault(one.session_id, []).extend(one.spans)
        return found


class Ledger:
    """The device process's side. Without a path it writes to memory nobody reads."""

    def __init__(self, path: Path | None, slots: int = 1) -> None:
        size = _HEAD + slots * _SLOT
        if path is None:
            self._map = mmap.mmap(-1, size)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w+b") as file:
                file.truncate(size)
                # With every byte on the disk: writing into a hole of a full one is a SIGBUS, and
                # the dead process's jobs would be blamed for it.
                os.posix_fallocate(file.fileno(), 0, size)
                self._map = mmap.mmap(file.fileno(), size)
        self._slots = slots
        self._map[_SLOTS_AT:_HEAD] = _COUNT.pack(slots)
        self._map[:_SESSION_AT] = _MAGIC

    def session(self, session_id: str) -> None:
        """The process claims under this session from now on."""
        self._map[_SESSION_AT:_LOADING_AT] = _pack(session_id)

    def loading(self, version_id: str | None) -> None:
        """This version is being loaded; None when the loader is done with it."""
        self._map[_LOADING_AT:_SLOTS_AT] = _pack(version_id) if version_id else _NOBODY

    def publish(self, slot: int, session_id: str, job_ids: Sequence[str]) -> None:
        """These jobs, claimed under this session, enter the device."""
        some = job_ids[:MAX_IDS]
        blob = b"".join(map(_pack, some))
        at = _HEAD + slot * _SLOT
        self._map[at : at + 16] = _pack(session_id)
        self._map[at + _IDS_AT : at + _IDS_AT + len(blob)] = blob
        self._map[at + 16 : at + _IDS_AT] = _COUNT.pack(len(some))

    def publish_rows(self, slot: int, session_id: str, spans: Sequence[RowSpan]) -> None:
        """These rows of shards, claimed under this session, enter the device, beside jobs."""
        some = spans[:MAX_SPANS]
        blob = b"".join(
            _SPAN.pack(_pack(one.job_id), one.number, one.start, one.stop) for one in some
        )
        at = _HEAD + slot * _SLOT
        self._map[at + _ROWS_AT : at + _ROWS_AT + 16] = _pack(session_id)
        self._map[at + _SPANS_AT : at + _SPANS_AT + len(blob)] = blob
        self._map[at + _ROWS_AT + 16 : at + _SPANS_AT] = _COUNT.pack(len(some))

    def clear(self, slot: int) -> None:
        """The slot's pass is over."""
        at = _HEAD + slot * _SLOT
        self._map[at + 16 : at + _IDS_AT] = _COUNT.pack(0)
        self._map[at + _ROWS_AT + 16 : at + _SPANS_AT] = _COUNT.pack(0)

    def close(self) -> None:
        """A graceful end: the file says nothing any more."""
        for slot in range(self._slots):
            self.clear(slot)
        self._map[_SESSION_AT:_SLOTS_AT] = 2 * _NOBODY
        self._map.close()


def read(path: Path) -> OnDevice | None:
    """What the process that wrote ``path`` said last; None when it says nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD or not data.startswith(_MAGIC):
        return None
    (slots,) = _COUNT.unpack_from(data, _SLOTS_AT)
    if len(data) != _HEAD + slots * _SLOT:
        return None
    return OnDevice(
        _unpack(data[_SESSION_AT:_LOADING_AT]),
        _unpack(data[_LOADING_AT:_SLOTS_AT]),
        tuple(_passes(data, slots)),
    )


def _passes(data: bytes, slots: int) -> Iterator[OnPass]:
    for at in range(_HEAD, _HEAD + slots * _SLOT, _SLOT):
        (count,) = _COUNT.unpack_from(data, at + 16)
        session_id = _unpack(data[at : at + 16])
        if session_id and 0 < count <= MAX_IDS:
            first = at + _IDS_AT
            ids = (data[one : one + 16] for one in range(first, first + 16 * count, 16))
            yield OnPass(session_id, job_ids=tuple(str(UUID(bytes=one)) for one in ids))
        (count,) = _COUNT.unpack_from(data, at + _ROWS_AT + 16)
        session_id = _unpack(data[at + _ROWS_AT : at + _ROWS_AT + 16])
        if session_id and 0 < count <= MAX_SPANS:
            first = at + _SPANS_AT
            spans = _SPAN.iter_unpack(data[first : first + _SPAN.size * count])
            yield OnPass(
                session_id, spans=tuple(RowSpan(str(UUID(bytes=one[0])), *one[1:]) for one in spans)
            )


def _pack(identifier: str) -> bytes:
    return bytes.fromhex(identifier.replace("-", ""))


def _unpack(data: bytes) -> str | None:
    return str(UUID(bytes=data)) if any(data) else None
