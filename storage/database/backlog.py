"""The backlog: queued jobs without a publication mark, as the relay sees them.

There is no outbox table: a live row with ``state = 'queued' AND published_at IS NULL`` waits to
be sent. The mark is committed before the message is sent. A crash in between costs a sweep, never
a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.jobs import BULK_PRIORITY, MAX_PRIORITY, MIN_PRIORITY, NEVER, BacklogHead
from storage.records.latency import QueuedLoad

_WAITING = "j.state = 'queued' AND j.published_at IS NULL"

POOLS = Statement(
    "Pools with a backlog: one index probe per pool, however long the backlog is.",
    f"""
    WITH RECURSIVE found(pool) AS (
        SELECT (SELECT min(j.pool) FROM live AS j WHERE {_WAITING})
        UNION ALL
        SELECT (SELECT min(j.pool) FROM live AS j WHERE {_WAITING} AND j.pool > found.pool)
        FROM found WHERE found.pool IS NOT NULL
    )
    SELECT found.pool FROM found WHERE found.pool IS NOT NULL
    """,
)

TENANTS = Statement(
    "Tenants with a backlog in a pool, and the highest priority of what waits: two index probes per"
    " tenant.",
    f"""
    WITH RECURSIVE found(tenant) AS (
        SELECT (SELECT min(j.tenant) FROM live AS j WHERE {_WAITING} AND j.pool = :pool)
        UNION ALL
        SELECT (SELECT min(j.tenant) FROM live AS j
                WHERE {_WAITING} AND j.pool = :pool AND j.tenant > found.tenant)
        FROM found WHERE found.tenant IS NOT NULL
    )
    SELECT found.tenant,
        (SELECT max(j.priority) FROM live AS j
         WHERE {_WAITING} AND j.pool = :pool AND j.tenant = found.tenant) AS priority
    FROM found WHERE found.tenant IS NOT NULL
    """,
)


def _heads(priorities: Iterable[int], limit: str) -> str:
    """A tenant's next jobs of one class, from a list for each priority along one index.

    By priority, because by rank alone an aged bulk backlog would lie before every online job.
    Every list has its limit, else a planner without statistics sorts the whole backlog.
    """
    each = " UNION ALL ".join(
        f"""
        SELECT * FROM (
            SELECT j.id, j.tenant, j.pool, j.version_id, j.priority, j.rank, j.expires_at
            FROM live AS j
            WHERE {_WAITING} AND j.pool = :pool AND j.tenant = :tenant AND j.priority = {priority}
                AND j.not_before <= :now AND j.expires_at > :now
            ORDER BY j.rank, j.id LIMIT {limit}
        ) AS of_priority_{priority}
        """
        for priority in priorities
    )
    return f"SELECT * FROM (SELECT * FROM ({each}) AS l ORDER BY rank, id LIMIT {limit}) AS class"


HEADS = Statement(
    "A tenant's next jobs of both classes: lowest rank first, without those that may not start"
    " yet or no more.",
    f"""
    {_heads(range(BULK_PRIORITY + 1, MAX_PRIORITY + 1), ":limit")}
    UNION ALL
    {_heads(range(MIN_PRIORITY, BULK_PRIORITY + 1), ":bulk_limit")}
    ORDER BY rank, id
    """,
)

URGENT = Statement(
    "Online jobs of a pool that expire soon, however deep in a backlog they lie. Looks at no more"
    " than the limit of them: where everything expires soon, nothing is urgent.",
    f"""
    SELECT near.id, near.tenant, near.pool, near.version_id, near.priority, near.rank,
        near.expires_at
    FROM (
        SELECT * FROM live AS j
        WHERE j.state = 'queued' AND j.started_at IS NULL
            AND j.expires_at > :now AND j.expires_at <= :now + CAST(:within_ms AS bigint)
        ORDER BY j.expires_at LIMIT :limit
    ) AS near
    WHERE near.published_at IS NULL AND near.pool = :pool AND near.priority > {BULK_PRIORITY}
        AND near.not_before <= :now
    ORDER BY near.expires_at, near.id
    """,
)

MARK_PUBLISHED = Statement(
    "Jobs that enter the ready window.",
    """
    UPDATE live SET published_at = :now
    WHERE live.id {among_ids} AND live.state || '' = 'queued' AND COALESCE(live.published_at, 0) = 0
    RETURNING live.id
    """,
)

UNMARK = Statement(
    "Jobs whose message the broker did not take.",
    """
    UPDATE live SET published_at = NULL
    WHERE live.id {among_ids} AND live.state || '' = 'queued' AND COALESCE(live.published_at, 0) > 0
    """,
)

WINDOW = Statement(
    "What is in the ready window of a pool: published and not yet claimed.",
    """
    SELECT j.tenant, count(*) AS jobs FROM live AS j
    WHERE j.state = 'queued' AND j.published_at IS NOT NULL AND j.pool = :pool
    GROUP BY j.tenant
    """,
)

WINDOW_BY_CLASS = Statement(
    "The same by version and class too: what the device time in the window amounts to.",
    f"""
    SELECT j.tenant, j.version_id, j.priority <= {BULK_PRIORITY} AS bulk, count(*) AS jobs
    FROM live AS j
    WHERE j.state = 'queued' AND j.published_at IS NOT NULL AND j.pool = :pool
    GROUP BY j.tenant, j.version_id, j.priority <= {BULK_PRIORITY}
    """,
)

_LOAD = """
    SELECT c.tenant,
        (SELECT n.model_name FROM jobs AS n WHERE n.id = CAST(c.one AS {{uuid}})) AS model_name,
        (SELECT n.version FROM jobs AS n WHERE n.id = CAST(c.one AS {{uuid}})) AS version,
        c.version_id, c.jobs, c.oldest_at, c.priority
    FROM (
        SELECT tenant, version_id, priority, count(*) AS jobs, min(created_at) AS oldest_at,
            min(one) AS one
        FROM (
            SELECT j.tenant, j.version_id, j.priority, j.created_at, CAST(j.id AS text) AS one
            FROM live AS j WHERE {where} LIMIT :cap
        ) AS counted
        GROUP BY tenant, version_id, priority
    ) AS c
"""

LOAD_OF_WINDOW = Statement(
    "What waits in the ready window of a pool, counted no further than the cap.",
    _LOAD.format(where="j.state = 'queued' AND j.published_at IS NOT NULL AND j.pool = :pool"),
)

LOAD_OF_TENANT = Statement(
    "What waits of one tenant before the ready window, counted no further than the cap; what is"
    " paused waits for nobody.",
    _LOAD.format(
        where=f"{_WAITING} AND j.pool = :pool AND j.tenant = :tenant AND j.not_before < {NEVER}"
    ),
)

DEPTH = Statement(
    "A tenant's queued jobs, counted no further than the cap.",
    """
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM live AS j
        WHERE j.tenant = :tenant AND j.state = 'queued' AND j.run_deadline_at IS NULL
            AND j.shadow_of IS NULL
        LIMIT :cap
    ) AS counted
    """,
)


class Backlog(Store):
    """The relay's verbs."""

    def pools(self) -> list[str]:
        """Pools that have a backlog."""
        return [row.pool for row in self._work.rows(POOLS)]

    def tenants(self, pool: str) -> dict[str, int]:
        """Tenants that have a backlog in this pool, and the highest priority of what waits."""
        return {row.tenant: row.priority for row in self._work.rows(TENANTS, pool=pool)}

    def heads(
        self, pool: str, tenant: str, limit: int, bulk_limit: int | None = None
    ) -> list[BacklogHead]:
        """The tenant's next jobs in this pool, in the order they should go.

        ``limit`` counts online and bulk jobs apart, or ``bulk_limit`` the latter.
        """
        rows = self._work.rows(
            HEADS,
            pool=pool,
            tenant=tenant,
            limit=limit,
            bulk_limit=limit if bulk_limit is None else bulk_limit,
        )
        return [BacklogHead(*list(row)) for row in rows]

    def urgent(self, pool: str, within_ms: int, limit: int) -> list[BacklogHead]:
        """Online jobs that expire soon, the next to expire first."""
        rows = self._work.rows(URGENT, pool=pool, within_ms=within_ms, limit=limit)
        return [BacklogHead(*list(row)) for row in rows]

    def mark_published(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of the jobs that were in the backlog and are now in the ready window."""
        rows = self._work.change(MARK_PUBLISHED, ids=self._work.ids(ids))
        return frozenset(row.id for row in rows)

    def unmark(self, ids: Sequence[str]) -> int:
        """Put jobs back whose message was not taken; how many were still there to put back."""
        return self._work.count(UNMARK, ids=self._work.ids(ids))

    def window(self, pool: str) -> dict[str, int]:
        """Jobs published and not yet claimed, by tenant."""
        return {row.tenant: row.jobs for row in self._work.rows(WINDOW, pool=pool)}

    def window_by_class(self, pool: str) -> dict[tuple[str, str, bool], int]:
        """Jobs published and not yet claimed, by tenant, version id and whether they are bulk."""
        rows = self._work.rows(WINDOW_BY_CLASS, pool=pool)
        return {(row.tenant, row.version_id, bool(row.bulk)): row.jobs for row in rows}

    def load(self, pool: str, cap: int = 100_000) -> list[QueuedLoad]:
        """Every queued job of a pool that is not paused, published or not, by tenant, version and
        priority.

        Counts no more than ``cap`` jobs: the window first, then each tenant up to an even share
        of what is left, so that one tenant's million hides nobody else.
        """
        work = self._work
        found = list(work.rows(LOAD_OF_WINDOW, pool=pool, cap=cap))
        left = cap - sum(row.jobs for row in found)
        tenants = self.tenants(pool)
        for turn, tenant in enumerate(tenants):
            share = left // (len(tenants) - turn)
            rows = work.rows(LOAD_OF_TENANT, pool=pool, tenant=tenant, cap=share)
            left -= sum(row.jobs for row in rows)
            found.extend(rows)
        return _merged(found)

    def depth(self, tenant: str, cap: int) -> int:
        """The tenant's queued jobs in every pool, counted no further than ``cap``."""
        row = self._work.row(DEPTH, tenant=tenant, cap=cap)
        return row.jobs if row else 0


def _merged(rows: Iterable[Row[Any]]) -> list[QueuedLoad]:
    """One record of each kind, though some of it is in the window and some is not."""
    merged: dict[tuple[str, str, int], QueuedLoad] = {}
    for row in rows:
        load = QueuedLoad(*list(row))
        key = (load.tenant, load.version_id, load.priority)
        if (other := merged.get(key)) is not None:
            load = replace(
                load, jobs=load.jobs + other.jobs, oldest_at=min(load.oldest_at, other.oldest_at)
            )
        merged[key] = load
    return [merged[key] for key in sorted(merged)]
