"""Stale packs: what a dead writer left behind is doomed, deleted, forgotten, in this order.

A pack that is ``writing`` for so long has no writer any more. Dooming it is a compare-and-swap
against the commit that would make it live; only then is the object deleted, and only then the
row. A crash between two steps leaves the earlier state, from which the next run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects


@dataclass(frozen=True, slots=True)
class StalePacksConfig:
    """How patient, and how much at once."""

    every_s: float = 60.0  # pause between two runs
    older_than_s: float = 3_600.0  # a writing pack this old has lost its writer
    limit: int = 500  # most packs moved by one run


@dataclass(frozen=True, slots=True)
class Collected:
    """What one run did."""

    doomed: int
    deleted: int
    limit: int

    @property
    def more(self) -> bool:
        return max(self.doomed, self.deleted) >= self.limit


class StalePacks:
    """See the module."""

    name = "stale_packs"

    def __init__(self, config: StalePacksConfig | None = None) -> None:
        self.config = config or StalePacksConfig()

    def run_once(self, database: Database, objects: Objects) -> Collected:
        limit = self.config.limit
        with database.begin() as tx:
            doomed = tx.packs.doom_stale(int(self.config.older_than_s * 1000), limit)
        with database.read() as tx:
            condemned = tx.packs.doomed(limit)
        if condemned:
            objects.delete([pack.key for pack in condemned])
            with database.begin() as tx:
                tx.packs.forget([pack.id for pack in condemned])
        return Collected(len(doomed), len(condemned), limit)
