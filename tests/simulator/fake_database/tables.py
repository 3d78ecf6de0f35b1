"""Tables in memory: rows by their key, and how to take back what a transaction did.

A row is a dict that is never changed once it is stored: a change stores another one. So undoing is
putting the old rows back, and whoever kept a row has a picture of that moment.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]


class Table(dict[Hashable, Row]):
    """Rows by primary key."""

    def __init__(self, undo: list[tuple[Table, Hashable, Row | None]]) -> None:
        super().__init__()
        self._undo = undo

    def put(self, key: Hashable, row: Row) -> None:
        """Insert the row, or let it take the place of the one under its key."""
        self._undo.append((self, key, self.get(key)))
        self[key] = row

    def change(self, key: Hashable, **fields: Any) -> Row:
        """Store the row with other values in these fields."""
        row = {**self[key], **fields}
        self._undo.append((self, key, self[key]))
        self[key] = row
        return row

    def take(self, key: Hashable) -> Row:
        """Delete the row."""
        row = self.pop(key)
        self._undo.append((self, key, row))
        return row


class Tables:
    """All that the fake remembers."""

    def __init__(self) -> None:
        self._undo: list[tuple[Table, Hashable, Row | None]] = []
        self.jobs = Table(self._undo)
        self.live = Table(self._undo)
        self.ends = Table(self._undo)
        self.payloads = Table(self._undo)
        self.labels = Table(self._undo)
        self.groups = Table(self._undo)
        self.sessions = Table(self._undo)
        self.packs = Table(self._undo)
        self.versions = Table(self._undo)
        self.models = Table(self._undo)
        self.idempotency = Table(self._undo)
        self.endpoints = Table(self._undo)
        self.filters = Table(self._undo)
        self.events = Table(self._undo)
        self.deliveries = Table(self._undo)
        self.duties = Table(self._undo)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        del self._undo[:]
        try:
            yield
        except BaseException:
            self.roll_back(self.changes())
            raise

    def changes(self) -> list[tuple[Table, Hashable, Row | None]]:
        """What the transaction did so far, as what it would take to undo it."""
        return list(self._undo)

    @staticmethod
    def roll_back(changes: list[tuple[Table, Hashable, Row | None]]) -> None:
        """The rows as they were."""
        for table, key, row in reversed(changes):
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row
