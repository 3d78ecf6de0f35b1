"""Pack collection: packs that nobody needs are doomed, deleted, forgotten, in this order.

Two kinds of them there are. One that is still ``writing`` after an hour has no writer any more: the
commit refuses it from then on. A live one is garbage when nothing points to it: an input pack when
its last job was deleted, a result pack when all that ended with it is past its retention. A
training's checkpoint is doomed by the one that takes its place, the last one when its job goes.

Dooming is a compare-and-swap, against the commit that would make the pack live and against a retry
that would point to it anew; only then is the object deleted, and only then the row. A crash between
two steps leaves the earlier state, from which the next run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects
from storage.records.packs import STALE_AFTER_MS

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class PackCollectionConfig:
    """How patient, and how much at once."""

    every_s: float = 60.0  # pause between two runs
    again_s: float = 0.2  # pause between two runs while there is more: others need the disk too
    older_than_s: float = STALE_AFTER_MS / 1000  # a writing pack this old has lost its writer
    keep_days: int = 30  # results are kept so long after their jobs ended
    limit: int = 500  # most packs moved by one run


@dataclass(frozen=True, slots=True)
class Collected:
    """What one run did."""

    doomed: int
    deleted: int
    limit: int
    ahead: int = 0  # whether there are old packs that this walk has not come to yet

    @property
    def more(self) -> bool:
        return self.ahead > 0 or max(self.doomed, self.deleted) >= self.limit


class PackCollection:
    """See the module."""

    name = "pack_collection"

    def __init__(self, config: PackCollectionConfig | None = None) -> None:
        self.config = config or PackCollectionConfig()
        self._after: str | None = None  # how far old packs were looked at; only saves a look

    def run_once(self, database: Database, objects: Objects) -> Collected:
        config = self.config
        with database.begin() as tx:
            stale = tx.packs.doom_stale(int(config.older_than_s * 1000), config.limit)
        with database.begin() as tx:
            unused, after = tx.packs.doom_unused(
                config.keep_days * DAY_MS, after=self._after, limit=config.limit
            )
        self._after = after
        with database.read() as tx:
            condemned = tx.packs.doomed(config.limit)
        if condemned:
            objects.delete([pack.key for pack in condemned])
            with database.begin() as tx:
                tx.packs.forget([pack.id for pack in condemned])
        ahead = int(after is not None)
        return Collected(len(stale) + unused, len(condemned), config.limit, ahead)
