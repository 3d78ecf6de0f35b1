"""Packs: many small entries in one object, so that a batch costs one put instead of hundreds.

The format, all numbers big-endian::

    pack     =  magic  entry*  trailer
    magic    =  "FBPACK" then the version in two digits: "01"
    entry    =  "E"  id length (2)  data length (8)  SHA-256 of the data (32)  id (UTF-8)  data
    trailer  =  "T"  entries (4)    pack size (8)    SHA-256 of the seal (32)  "FBPKEND."

The *seal* is the magic and everything of every entry but its data, in order. As the entries hold
the digests of their data, it covers every byte while the data is hashed only once. The pack size
counts all bytes, trailer included: a pack that was cut short or lengthened cannot pass for whole.

A reader with a ``PackSlice`` takes the entry's data by one range, without its frame, and checks it
against the slice's own digest. ``entries`` walks a whole pack without knowing any slice: that is
for auditors and for rewriting.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storage.objects.keys import object_key
from storage.objects.protocol import Objects
from storage.records.errors import InvalidInput, ObjectCorrupt
from storage.records.jobs import Millis, PackSlice
from storage.records.packs import PackKind, PackSummary

MAGIC, VERSION, END = b"FBPACK", b"01", b"FBPKEND."
MAX_GAP_BYTES = 64 << 10  # reading over a gap this small is cheaper than another request
MAX_RUN_BYTES = 8 << 20
_ENTRY = struct.Struct(">cHQ32s")
_TRAILER = struct.Struct(">cIQ32s8s")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class PackWriter:
    """Collects entries in memory. Not thread-safe: one writer, one batch."""

    def __init__(self, pack_id: str) -> None:
        self._pack_id = pack_id
        self._parts = [MAGIC + VERSION]
        self._seal = hashlib.sha256(MAGIC + VERSION)
        self._size_bytes = len(MAGIC + VERSION)
        self._ids: set[str] = set()

    def __len__(self) -> int:
        """How many entries there are so far."""
        return len(self._ids)

    @property
    def size_bytes(self) -> int:
        """How large the pack would be if it were finished now."""
        return self._size_bytes + _TRAILER.size

    def add(self, entry_id: str, data: bytes) -> PackSlice:
        """Append an entry; where its data will lie. An id can be used once in a pack."""
        name = entry_id.encode()
        if not 0 < len(name) <= 0xFFFF or entry_id in self._ids:
            raise ValueError(f"{entry_id[:80]!r} is empty, too long, or in the pack already")
        digest = hashlib.sha256(data)
        head = _ENTRY.pack(b"E", len(name), len(data), digest.digest()) + name
        self._ids.add(entry_id)
        self._seal.update(head)
        self._parts += (head, data)
        offset_bytes = self._size_bytes + len(head)
        self._size_bytes = offset_bytes + len(data)
        return PackSlice(self._pack_id, offset_bytes, len(data), digest.hexdigest())

    def finish(self) -> tuple[bytes, PackSummary]:
        """The pack's bytes, and what its commit says of it. The writer is spent afterwards."""
        if not self._ids:
            raise ValueError("a pack without entries")
        entries, size_bytes = len(self._ids), self.size_bytes
        trailer = _TRAILER.pack(b"T", entries, size_bytes, self._seal.digest(), END)
        data = b"".join((*self._parts, trailer))
        self._parts.clear()
        self._ids.clear()
        return data, PackSummary(self._pack_id, entries, size_bytes)


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One entry of a pack, its digest checked."""

    id: str
    offset_bytes: int  # of the data
    data: bytes
    digest: str


def entries(data: bytes) -> Iterator[PackEntry]:
    """Walk a whole pack. ``ObjectCorrupt`` at the first thing that is not as it was written.

    Only who reaches the end knows that the pack is whole: the seal stands there.
    """
    view, size_bytes = memoryview(data), len(data)
    at, count = len(MAGIC + VERSION), 0
    if data[: len(MAGIC)] != MAGIC:
        raise ObjectCorrupt("not a pack")
    if data[len(MAGIC) : at] != VERSION:
        raise ObjectCorrupt(f"a pack of version {data[len(MAGIC) : at]!r}: too new, or torn")
    seal = hashlib.sha256(data[:at])
    while data[at : at + 1] == b"E":
        if size_bytes - at < _ENTRY.size:
            raise ObjectCorrupt(f"the pack ends inside entry {count}")
        _, name_bytes, data_bytes, digest = _ENTRY.unpack_from(view, at)
        start = at + _ENTRY.size + name_bytes
        end = start + data_bytes
        if end > size_bytes:
            raise ObjectCorrupt(f"the pack ends inside entry {count}, or its length is wrong")
        body = view[start:end]
        found = hashlib.sha256(body)
        if found.digest() != digest:
            raise ObjectCorrupt(f"entry {count} of the pack was changed")
        seal.update(view[at:start])
        try:
            entry_id = str(view[at + _ENTRY.size : start], "utf-8")
        except UnicodeDecodeError:
            raise ObjectCorrupt(f"entry {count} of the pack has a damaged id") from None
        yield PackEntry(entry_id, start, bytes(body), found.hexdigest())
        at, count = end, count + 1
    _check_trailer(view[at:], count, size_bytes, seal.digest())


def _check_trailer(trailer: memoryview, count: int, size_bytes: int, seal: bytes) -> None:
    if len(trailer) != _TRAILER.size:
        raise ObjectCorrupt(f"the pack ends after entry {count}, without its trailer")
    if _TRAILER.unpack(trailer) != (b"T", count, size_bytes, seal, END):
        raise ObjectCorrupt("the pack's trailer does not fit its entries")


def read_slice(objects: Objects, key: str, where: PackSlice) -> bytes:
    """One entry's data, by one range. ``ObjectCorrupt`` when it is not what was written; twice, as
    once may be an accident on the way."""
    span = (key, where.offset_bytes, where.length_bytes)
    with contextlib.suppress(ObjectCorrupt):
        return _checked(objects.get_range(*span), key, where)
    return _checked(objects.get_range(*span), key, where)


def read_slices(objects: Objects, key: str, wanted: Sequence[PackSlice]) -> list[bytes]:
    """The data of several entries of one pack, in the order asked, by as few ranges as is wise."""
    found: dict[int, bytes] = {}
    for run in _runs(wanted):
        start = wanted[run[0]].offset_bytes
        end = max(wanted[index].offset_bytes + wanted[index].length_bytes for index in run)
        data = objects.get_range(key, start, end - start)
        for index in run:
            begin = wanted[index].offset_bytes - start
            part = data[begin : begin + wanted[index].length_bytes]
            is_whole = hashlib.sha256(part).hexdigest() == wanted[index].digest
            found[index] = part if is_whole else read_slice(objects, key, wanted[index])
    return [found[index] for index in range(len(wanted))]


def _runs(wanted: Sequence[PackSlice]) -> Iterator[list[int]]:
    """Indexes of slices that lie close enough together to be read at once."""
    run: list[int] = []
    start = end = 0
    for index in sorted(range(len(wanted)), key=lambda i: wanted[i].offset_bytes):
        offset_bytes = wanted[index].offset_bytes
        stop = offset_bytes + wanted[index].length_bytes
        if run and (offset_bytes - end > MAX_GAP_BYTES or stop - start > MAX_RUN_BYTES):
            yield run
            run = []
        if not run:
            start = end = offset_bytes
        run.append(index)
        end = max(end, stop)
    if run:
        yield run


def _checked(data: bytes, key: str, where: PackSlice) -> bytes:
    if hashlib.sha256(data).hexdigest() != where.digest:
        raise ObjectCorrupt(
            f"{key} from {where.offset_bytes}: these {where.length_bytes} bytes are not the ones"
            " that were written"
        )
    return data


def retention_day(now_ms: Millis, keep_days: int) -> str:
    """The last day (UTC) on which what is written now is kept."""
    moment = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC) + dt.timedelta(days=keep_days)
    return moment.date().isoformat()


def pack_key(kind: PackKind, tenant: str, day: str, pack_id: str) -> str:
    """Where a pack lies. Tenant, then retention day: both can be erased by prefix."""
    if not _DAY.fullmatch(day):
        raise InvalidInput(f"{day[:20]!r} is not a day such as 2026-01-31", code="invalid_key")
    return object_key("packs", kind.value, tenant, day, f"{pack_id}.pack")
