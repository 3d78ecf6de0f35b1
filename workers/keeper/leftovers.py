"""Leftovers: rows that nobody reads any more are deleted, a bounded number at a time.

Sessions that ended a day ago are of no use to the reaper, and an idempotency key whose time has
passed may be used anew. Both tables would otherwise grow for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects


@dataclass(frozen=True, slots=True)
class LeftoversConfig:
    """How long ended sessions stay visible, and how much at once."""

    every_s: float = 300.0  # pause between two runs
    sessions_kept_s: float = 86_400.0  # ended sessions stay this long, for whoever looks
    limit: int = 1000  # most rows of a kind deleted by one run


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one run did."""

    sessions: int
    keys: int
    limit: int

    @property
    def more(self) -> bool:
        return max(self.sessions, self.keys) >= self.limit


class Leftovers:
    """See the module."""

    name = "leftovers"

    def __init__(self, config: LeftoversConfig | None = None) -> None:
        self.config = config or LeftoversConfig()

    def run_once(self, database: Database, objects: Objects) -> Forgotten:
        limit = self.config.limit
        with database.begin() as tx:
            sessions = tx.sessions.forget(int(self.config.sessions_kept_s * 1000), limit)
            keys = tx.idempotency.forget_expired(limit)
        return Forgotten(sessions, keys, limit)
