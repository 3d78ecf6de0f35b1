"""Sweep: what was published and not claimed in time goes back to the backlog.

Whatever became of its message (lost with a broker, dropped by a full queue, held by a worker
that hoards), the relay publishes it again. A claim in between wins: it is a compare-and-swap.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects
from workers.keeper.duty import Moved


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """When a message counts as lost."""

    every_s: float = 5.0  # pause between two runs
    publish_ttl_s: float = 15.0  # published this long ago and still unclaimed: publish again
    limit: int = 1000  # most rows moved by one run


class Sweep:
    """See the module."""

    name = "sweep"

    def __init__(self, config: SweepConfig | None = None) -> None:
        self.config = config or SweepConfig()

    def run_once(self, database: Database, objects: Objects) -> Moved:
        limit = self.config.limit
        with database.begin() as tx:
            rows = tx.jobs.sweep(int(self.config.publish_ttl_s * 1000), limit=limit)
        return Moved(rows, limit)
