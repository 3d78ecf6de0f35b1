"""An object store whose puts take so long that the collector of packs was there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.database import Database
from storage.objects import Objects

_ALL_MS = -60_000  # older than that is whatever there is


class LateStore:
    """As the store behind it, but what is open in SQL is doomed at the end of the next puts below
    keys with these words in them: ``{"manifest": 1}``."""

    def __init__(self, objects: Objects, database: Database, late: dict[str, int]) -> None:
        self._objects, self._database = objects, database
        self.late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def put(self, key: str, data: bytes) -> None:
        self._objects.put(key, data)
        self._doom(key)

    def put_file(self, key: str, path: Path) -> None:
        self._objects.put_file(key, path)
        self._doom(key)

    def _doom(self, key: str) -> None:
        for word in [word for word, puts in self.late.items() if puts and word in key]:
            self.late[word] -= 1
            with self._database.begin() as tx:
                assert tx.packs.doom_stale(_ALL_MS)
