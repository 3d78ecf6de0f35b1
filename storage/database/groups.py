"""Groups: jobs submitted together, counted by state and read back in their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row

from storage.database.job_rows import COLUMNS, job_of
from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.webhooks.endpoints import Endpoints
from storage.records.ids import is_id
from storage.records.jobs import GroupCounts, Job, JobState

CREATE = Statement(
    "A group, before its jobs.",
    """
    INSERT INTO groups (id, tenant, total, created_at, webhook_id)
    VALUES (:id, :tenant, :total, :now, :webhook)
    """,
)

# No index of live jobs by group: it would be written three times in a job's life, to be read only
# when somebody asks how many are queued and running.
COUNTS = Statement(
    "How many jobs of a group are in each state.",
    """
    SELECT g.id, g.tenant, g.created_at, g.total, c.state, c.jobs
    FROM groups AS g LEFT JOIN (
        SELECT l.state, count(*) AS jobs FROM live AS l
        WHERE l.id {among}(SELECT m.id FROM jobs AS m WHERE m.group_id = :group){end_among}
        GROUP BY l.state
        UNION ALL
        SELECT e.state, count(*) AS jobs FROM ends AS e WHERE e.group_id = :group GROUP BY e.state
    ) AS c ON true
    WHERE g.id = :group
    """,
)

ENDED = Statement(
    "How many jobs of each group ended in each state, from the ends' index alone.",
    """
    SELECT g.id, g.tenant, g.created_at, g.total, c.state, c.jobs
    FROM groups AS g LEFT JOIN (
        SELECT e.group_id, e.state, count(*) AS jobs FROM ends AS e
        WHERE e.group_id {among_ids} GROUP BY e.group_id, e.state
    ) AS c ON c.group_id = g.id
    WHERE g.id {among_ids}
    """,
)

MEMBERS = Statement(
    "A group's jobs in the order they were submitted in.",
    f"""
    SELECT {COLUMNS} FROM {{jobs}}
    WHERE j.group_id = :group AND j.group_index > :after
        AND EXISTS (SELECT 1 FROM groups AS g WHERE g.id = :group AND g.tenant = :tenant)
    ORDER BY j.group_index LIMIT :limit
    """,
)


class Groups(Store):
    """The groups of one transaction."""

    def create(self, tenant: str, group_id: str, total: int, *, webhook: str | None = None) -> None:
        """Announce ``total`` jobs; they are submitted in the same transaction. ``webhook`` is the
        URL that is told when all of them are over."""
        own = None
        if webhook is not None:
            pair = (tenant, webhook)
            own = Endpoints(self._work).bring_along([pair])[pair]
        self._work.count(CREATE, id=group_id, tenant=tenant, total=total, webhook=own)

    def counts(self, tenant: str, group_id: str) -> GroupCounts | None:
        """How many of the group's jobs are in each state, if it is this tenant's."""
        if not is_id(group_id):
            return None
        found = counts_of(self._work.rows(COUNTS, group=group_id))
        return next((one for one in found if one.tenant == tenant), None)

    def counts_many(self, ids: Sequence[str]) -> list[GroupCounts]:
        """Terminal states only, of groups whose right to be seen was checked before.

        That is all it takes to know which are done: the watcher's look.
        """
        return counts_of(self._work.rows(ENDED, ids=self._work.ids(ids)))

    def members(
        self, tenant: str, group_id: str, *, after_index: int = -1, limit: int
    ) -> list[Job]:
        """Up to ``limit`` jobs after the one at ``after_index`` (which counts from 0).

        A page is full or the last one: the next starts after ``after_index`` plus its length.
        """
        if not is_id(group_id):
            return []
        rows = self._work.rows(
            MEMBERS, tenant=tenant, group=group_id, after=after_index, limit=limit
        )
        return [job_of(row) for row in rows]


def counts_of(rows: Iterable[Row[Any]]) -> list[GroupCounts]:
    """One record per group out of one row per group and state."""
    by_state: dict[str, dict[JobState, int]] = {}
    heads: dict[str, Row[Any]] = {}
    for row in rows:
        heads[row.id] = row
        states = by_state.setdefault(row.id, {})
        if row.state is not None:
            states[JobState(row.state)] = row.jobs
    return [
        GroupCounts(head.id, head.tenant, head.created_at, head.total, by_state[head.id])
        for head in heads.values()
    ]
