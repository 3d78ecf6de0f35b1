"""Group completion: a group whose jobs are all over is complete, and is told so.

Nobody counts when a job ends: that would make all jobs of a group wait for one row. Each open group
remembers how far from its first job on it is settled, so a look at it is a look at one job.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.database import Database
from storage.objects import Objects


@dataclass(frozen=True, slots=True)
class GroupCompletionConfig:
    """How soon a group is known to be complete."""

    every_s: float = 0.5  # pause between two runs
    limit: int = 500  # most groups looked at by one transaction; a run looks at all open ones


@dataclass(frozen=True, slots=True)
class Completed:
    """What one run did."""

    groups: int

    @property
    def more(self) -> bool:
        return False  # every open group was looked at


class GroupCompletion:
    """See the module."""

    name = "group_completion"

    def __init__(self, config: GroupCompletionConfig | None = None) -> None:
        self.config = config or GroupCompletionConfig()

    def run_once(self, database: Database, objects: Objects) -> Completed:
        groups, after = 0, None
        while True:
            with database.begin() as tx:
                complete, after = tx.webhooks.complete_groups(after, self.config.limit)
            groups += complete
            if after is None:
                return Completed(groups)
