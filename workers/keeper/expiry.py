"""Expiry: every state that is not terminal has a deadline, and this moves what passed it.

Queued past ``expires_at`` becomes expired; running past ``run_deadline_at`` fails as timed out.
So nothing is stuck for ever, whatever else went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects


@dataclass(frozen=True, slots=True)
class ExpiryConfig:
    """How late a deadline may be noticed."""

    every_s: float = 1.0  # pause between two runs
    limit: int = 1000  # most jobs of each kind moved by one run


@dataclass(frozen=True, slots=True)
class Expired:
    """What one run moved."""

    expired: int
    timed_out: int
    limit: int

    @property
    def more(self) -> bool:
        return max(self.expired, self.timed_out) >= self.limit


class Expiry:
    """See the module."""

    name = "expiry"

    def __init__(self, config: ExpiryConfig | None = None) -> None:
        self.config = config or ExpiryConfig()

    def run_once(self, database: Database, objects: Objects) -> Expired:
        limit = self.config.limit
        with database.begin() as tx:
            expired = tx.jobs.expire(limit=limit)
        with database.begin() as tx:
            timed_out = tx.jobs.time_out(limit=limit)
        return Expired(expired, timed_out, limit)
