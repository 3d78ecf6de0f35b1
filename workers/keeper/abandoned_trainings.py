"""Abandoned trainings: a version that a training job was to fill in breaks when the job is over.

Whoever ends a training job also gives up its version. But a job may end where nobody looks at it:
cancelled or expired in the queue, timed out, lost too often. Its version would be in training for
ever. Needs no patience: version and live job are written by one transaction, so that a version
without a live job is never one that is just being submitted.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects
from workers.keeper.duty import Moved


@dataclass(frozen=True, slots=True)
class AbandonedTrainingsConfig:
    """How long a version may look as if it were still in training."""

    every_s: float = 10.0  # pause between two runs
    limit: int = 100  # most versions given up by one run


class AbandonedTrainings:
    """See the module."""

    name = "abandoned_trainings"

    def __init__(self, config: AbandonedTrainingsConfig | None = None) -> None:
        self.config = config or AbandonedTrainingsConfig()

    def run_once(self, database: Database, objects: Objects) -> Moved:
        with database.begin() as tx:
            rows = tx.models.abandon_orphans(limit=self.config.limit)
        return Moved(rows, self.config.limit)
