"""Events: written where something ends, in its own transaction, if anybody wants to know.

Who does: endpoints of the tenant whose filter names the event, and the webhook that the job or
group brought along. An endpoint that is switched off still has its events written, so that they
can be replayed; only deliveries it has none.
"""

from __future__ import annotations

from storage.database.statements import POSTGRESQL, SQLITE, Statement
from storage.database.store import Store
from storage.records.ids import FIRST_ID
from storage.records.jobs import BULK_PRIORITY
from storage.records.webhooks import BATCH_LABEL

_FILTERS = """
    SELECT f.endpoint_id, f.enabled FROM webhook_filters AS f
    WHERE f.tenant = o.tenant AND f.type IN ('*', o.type)
"""
_OWN = "SELECT e.id AS endpoint_id, e.enabled FROM webhook_endpoints AS e WHERE e.id = o.webhook_id"


def type_of(end: str, live: str, state: str, error_code: str) -> str:
    """What the end of a job is told as: a batch's by the words of its own shape. Batches are of
    one priority, so that no other job's end looks for the label."""
    key, value = BATCH_LABEL
    return f"""
        CASE WHEN {live}.priority = {BULK_PRIORITY} AND (
            SELECT b.job_id FROM job_labels AS b
            WHERE b.tenant = {end}.tenant AND b.key = '{key}' AND b.value = '{value}'
                AND b.job_id = {end}.id
        ) IS NOT NULL
        THEN CASE WHEN {state} = 'succeeded' THEN 'batch.completed'
            WHEN {error_code} = 'run_timeout' THEN 'batch.expired' ELSE 'batch.' || {state} END
        ELSE 'job.' || {state} END
    """


def wanted(over: str, dialect: str) -> str:
    """Who wants to know what is ``over`` (id, tenant, group_id, seq, type, webhook_id).

    For PostgreSQL one by one, whatever it believes of the tables: see ``statements``.
    """
    told = "SELECT o.id, o.tenant, o.group_id, o.seq, o.type, w.endpoint_id, w.enabled"
    if dialect == POSTGRESQL:
        return " UNION ".join(
            f"{told} FROM {over} AS o CROSS JOIN LATERAL ({one} OFFSET 0) AS w"
            for one in (_FILTERS, _OWN)
        )
    return f"""
        {told} FROM {over} AS o JOIN webhook_filters AS w
            ON w.tenant = o.tenant AND w.type IN ('*', o.type)
        UNION {told.replace("w.endpoint_id", "w.id")} FROM {over} AS o
            JOIN webhook_endpoints AS w ON w.id = o.webhook_id
    """


TELL_OF = """
    INSERT INTO events (id, tenant, type, group_id, seq, created_at)
    SELECT DISTINCT w.id, w.tenant, w.type, w.group_id, w.seq, CAST(:now AS bigint)
    FROM {wanted} AS w
    WHERE true
    ON CONFLICT (id) DO NOTHING
"""
TELL_TO = """
    INSERT INTO deliveries (event_id, endpoint_id, state, attempts, due_at, created_at)
    SELECT w.id, w.endpoint_id, 'pending', 0, CAST(:now AS bigint), CAST(:now AS bigint)
    FROM {wanted} AS w WHERE w.enabled
    ON CONFLICT (event_id, endpoint_id) DO NOTHING
"""

_GROUPS = """(
    SELECT g.id, g.tenant, g.id AS group_id, 1 AS seq, 'group.completed' AS type, g.webhook_id
    FROM groups AS g WHERE g.id {among_ids}
)"""

OPEN_GROUPS = Statement(
    "Groups that are not known to be complete, and how far they are settled: up to the first of"
    " their jobs that is live.",
    """
    SELECT g.id, g.settled, g.total, COALESCE((
        SELECT m.group_index FROM jobs AS m
        WHERE m.group_id = g.id AND m.group_index >= g.settled
            AND EXISTS (SELECT 1 FROM live AS l WHERE l.id = m.id)
        ORDER BY m.group_index LIMIT 1
    ), g.total) AS reached
    FROM groups AS g WHERE g.completed_at IS NULL AND g.id > :after ORDER BY g.id LIMIT :limit
    """,
)

SETTLE_GROUPS = Statement(
    "They are settled that far, and complete if that is to the end.",
    """
    UPDATE groups SET settled = r.reached,
        completed_at = CASE WHEN r.reached >= groups.total THEN CAST(:now AS bigint) END
    FROM {rows} AS r
    WHERE groups.id = r.id AND groups.id {among_ids} AND groups.completed_at IS NULL
    RETURNING groups.id, groups.completed_at
    """,
    {"id": "uuid", "reached": "integer"},
)


def _of_groups(tell: str, dialect: str) -> Statement:
    return Statement(
        "Groups that are complete are told, or to whom.",
        tell.format(wanted="(" + wanted(_GROUPS, dialect) + ")"),
        only=dialect,
    )


EVENTS_OF_GROUPS = _of_groups(TELL_OF, POSTGRESQL)
DELIVERIES_OF_GROUPS = _of_groups(TELL_TO, POSTGRESQL)
EVENTS_OF_GROUPS_HERE = _of_groups(TELL_OF, SQLITE)
DELIVERIES_OF_GROUPS_HERE = _of_groups(TELL_TO, SQLITE)

TEST_EVENT = Statement(
    "An event that tests an endpoint.",
    """
    INSERT INTO events (id, tenant, type, seq, created_at)
    VALUES (:id, :tenant, 'webhook.test', 1, :now)
    """,
)


class Events(Store):
    """What is over."""

    def complete_groups(self, after: str | None, limit: int) -> tuple[int, str | None]:
        """Look at up to ``limit`` open groups after ``after``: how many of them are complete now,
        and the last one looked at, ``None`` at the end of the list.

        Each group's jobs are looked at once: it remembers how far it is settled.
        """
        work = self._work
        found = work.rows(OPEN_GROUPS, after=after or FIRST_ID, limit=limit)
        moved = [
            {"id": row.id, "reached": row.reached}
            for row in found
            if row.reached > row.settled or row.reached >= row.total
        ]
        last = found[-1].id if len(found) == limit else None
        if not moved:
            return 0, last
        ids = work.ids(str(row["id"]) for row in moved)
        rows = work.change(SETTLE_GROUPS, rows=work.table(moved), ids=ids)
        complete = [row.id for row in rows if row.completed_at is not None]
        if complete:
            here = work.dialect == SQLITE
            ids = work.ids(complete)
            work.count(EVENTS_OF_GROUPS_HERE if here else EVENTS_OF_GROUPS, ids=ids)
            work.count(DELIVERIES_OF_GROUPS_HERE if here else DELIVERIES_OF_GROUPS, ids=ids)
        return len(complete), last
