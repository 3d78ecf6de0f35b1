"""An object store in memory that keeps every promise of ``storage.objects.protocol``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from storage.objects.keys import check_key, check_prefix
from storage.objects.protocol import ObjectInfo, exercise
from storage.records.errors import Conflict, NotFound, ObjectCorrupt


class FakeObjects:
    """A store seen through one client; clients of one ``stored`` see the same objects."""

    def __init__(self, stored: dict[str, bytes] | None = None, prefix: str = "") -> None:
        self.stored = {} if stored is None else stored
        self._prefix = prefix
        self._unsure: dict[str, bytes] = {}  # puts that failed and may have arrived

    def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        before = self._unsure.pop(name, None)
        if name in self.stored:
            if before == data == self.stored[name]:
                return
            raise Conflict(f"there is an object {key} already", code="object_exists")
        self.stored[name] = bytes(data)

    def put_failed(self, key: str, data: bytes, *, arrived: bool) -> None:
        """A put whose caller is told that the store does not answer."""
        if arrived:
            self.put(key, data)
        self._unsure[self._name(key)] = bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        check_key(key)
        self.put(key, path.read_bytes())

    def get(self, key: str) -> bytes:
        data = self.stored.get(self._name(key))
        if data is None:
            raise NotFound(f"there is no object {key}", code="object_not_found")
        return data

    def get_range(
        self, key: str, offset_bytes: int, length_bytes: int, *, etag: str | None = None
    ) -> bytes:
        if offset_bytes < 0 or length_bytes < 0:
            raise ValueError(f"a range of {length_bytes} bytes from {offset_bytes}")
        data = self.get(key)
        if etag is not None and self.info(key).etag != etag:
            raise Conflict(f"{key} has another content by now", code="object_changed")
        if offset_bytes + length_bytes > len(data):
            raise ObjectCorrupt(f"{key} has {len(data)} bytes: not {length_bytes} from there")
        return data[offset_bytes : offset_bytes + length_bytes]

    def get_to_file(self, key: str, path: Path) -> None:
        data = self.get(key)
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(data)
        partial.replace(path)

    def size(self, key: str) -> int:
        return len(self.get(key))

    def info(self, key: str) -> ObjectInfo:
        data = self.get(key)
        return ObjectInfo(key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        whole = self._prefix + check_prefix(prefix)
        names = [name for name in self.stored if name.startswith(whole)]
        return (self.info(name.removeprefix(self._prefix)) for name in names)

    def exists(self, key: str) -> bool:
        return self._name(key) in self.stored

    def delete(self, keys: Sequence[str]) -> None:
        for name in [self._name(key) for key in keys]:
            self.stored.pop(name, None)

    def probe(self) -> None:
        exercise(self, "the store in memory")

    def close(self) -> None:
        """Nothing is open."""

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)
