"""The verbs every object store has, and the exercise that proves a store honours them.

Objects are immutable: a put creates or fails, nothing overwrites. Every implementation is
thread-safe. Errors, all from ``storage.records.errors``:

- ``InvalidInput`` (``invalid_key``): the key could not be an object's, whatever is stored;
- ``NotFound`` (``object_not_found``): there is no such object;
- ``Conflict`` (``object_exists``): a put found another object under its key; (``object_changed``):
  a read that named an ETag found another;
- ``ObjectCorrupt``: the stored bytes are not the ones asked for;
- ``ObjectsUnavailable``: the store does not answer, or is full; try again later;
- ``ObjectsMisconfigured``: it answers, and refuses until somebody changes a setting.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.records.errors import Conflict, ObjectsMisconfigured


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store tells of an object without reading it."""

    key: str
    size_bytes: int
    etag: str | None  # another one means other bytes; the same store always tells it alike


class Objects(Protocol):
    """An object store. When a put returns, the object survives a loss of power."""

    def put(self, key: str, data: bytes) -> None:
        """Create the object.

        A put that failed as unavailable may be repeated by the same store with the same bytes:
        if the first one had arrived after all, the second succeeds instead of conflicting.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Create the object from a file, without holding it in memory."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object."""
        ...

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        """Exactly ``length_bytes`` from ``offset_bytes``; ``ObjectCorrupt`` if they are not all
        there. With an ``etag`` of ``info`` or ``list``, of that content and no other."""
        ...

    def get_to_file(self, key: str, path: Path) -> None:
        """Write the object to ``path``, which appears whole or not at all, replacing a file."""
        ...

    def size(self, key: str) -> int:
        """The object's length in bytes."""
        ...

    def info(self, key: str) -> ObjectInfo:
        """The object's length and what pins its content."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with ``prefix``, in the server's order: not each sorts.

        The prefix may be empty, and need not end with a segment. What lies there under a name
        that is no key (a hidden file, the empty object that some tools write for a folder) is
        left out. An object that is put or deleted meanwhile may be seen or not.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; the ones that do not exist are no error."""
        ...

    def probe(self) -> None:
        """Write, read and delete a small object; raises with what to do when that fails."""
        ...

    def close(self) -> None:
        """Let go of connections. The store may be used again and opens new ones."""
        ...


def exercise(objects: Objects, where: str) -> None:
    """What ``probe`` does once the store is known to be there: use every verb for real.

    It also asks for what cheap copies of S3 leave out: refusing to overwrite, and ranges.
    """
    key = f"probe/{secrets.token_hex(16)}"
    objects.put(key, b"a small object")
    try:
        try:
            objects.put(key, b"another object")
        except Conflict:
            pass
        else:
            raise ObjectsMisconfigured(
                f"{where} overwrites an object that it was asked to create only (it ignores"
                " If-None-Match); use a store that honours it"
            )
        if objects.get_range(key, 2, 5) != b"small" or objects.get(key) != b"a small object":
            raise ObjectsMisconfigured(f"{where} does not give back what was written to it")
    finally:
        objects.delete([key])
