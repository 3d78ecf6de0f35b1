"""The pack format, read as its document describes it.

All numbers big-endian: ``FBPACK01``, then entries ``E``, id length (2), data length (8), SHA-256 of
the data (32), id, data; then the trailer ``T``, entries (4), size of the pack (8), SHA-256 of
everything but the data (32), ``FBPKEND.``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

START, END = b"FBPACK01", b"FBPKEND."
_ENTRY_BYTES = 1 + 2 + 8 + 32
_TRAILER_BYTES = 1 + 4 + 8 + 32 + 8


class Damaged(Exception):
    """The bytes are not a whole pack."""


@dataclass(frozen=True)
class Entry:
    """Where an entry's data lies, and its digest in hexadecimal."""

    offset: int
    length: int
    digest: str
    data: bytes


def read(data: bytes) -> dict[str, Entry]:
    """The entries by id, every byte of the pack checked."""
    if not data.startswith(START):
        raise Damaged("it does not begin as a pack")
    seal = hashlib.sha256(START)
    found: dict[str, Entry] = {}
    at = len(START)
    while data[at : at + 1] == b"E":
        head = data[at : at + _ENTRY_BYTES]
        if len(head) < _ENTRY_BYTES:
            raise Damaged("it ends inside an entry")
        id_bytes = int.from_bytes(head[1:3], "big")
        length = int.from_bytes(head[3:11], "big")
        start = at + _ENTRY_BYTES + id_bytes
        body = data[start : start + length]
        if len(body) != length or hashlib.sha256(body).digest() != head[11:43]:
            raise Damaged("an entry's data is not what its digest says")
        name = data[at + _ENTRY_BYTES : start].decode()
        if name in found:
            raise Damaged(f"it holds {name} twice")
        found[name] = Entry(start, length, head[11:43].hex(), body)
        seal.update(data[at:start])
        at = start + length
    trailer = data[at:]
    wanted = (
        b"T" + len(found).to_bytes(4, "big") + len(data).to_bytes(8, "big") + seal.digest() + END
    )
    if len(trailer) != _TRAILER_BYTES or trailer != wanted:
        raise Damaged("its trailer does not fit its entries")
    return found
