"""Reaper: jobs of sessions whose lease has passed are queued again, and bulk shards are open again.

The database's clock decides. Nobody is blamed: a lost host spends no attempt, only a loss, of
which a job or a shard survives many.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects
from workers.keeper.duty import Moved


@dataclass(frozen=True, slots=True)
class ReaperConfig:
    """How fast the jobs of a dead worker come back; the lease itself is the session's."""

    every_s: float = 2.0  # pause between two runs
    limit: int = 1000  # most jobs requeued by one run, and most shards opened


class Reaper:
    """See the module."""

    name = "reaper"

    def __init__(self, config: ReaperConfig | None = None) -> None:
        self.config = config or ReaperConfig()

    def run_once(self, database: Database, objects: Objects) -> Moved:
        limit = self.config.limit
        with database.begin() as tx:
            rows = tx.jobs.reap(limit=limit)
            rows += tx.bulk.reap(limit=limit)
        return Moved(rows, limit)
