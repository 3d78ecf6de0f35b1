"""Retention: what was kept long enough is deleted.

Every verb is one bounded step. Those that look at rows which may have to stay walk along the
primary key from ``after``: they say how many rows they deleted, and the last one they looked at,
``None`` at the end of the list. Ids are time-ordered, so the list ends where rows are too young;
what decides is always a moment on the database's clock.
"""

from __future__ import annotations

import orjson

from storage.database.files import stored_file
from storage.database.packs import Packs
from storage.database.statements import POSTGRESQL, SQLITE, Statement
from storage.database.store import Store
from storage.database.webhooks.deliveries import WAITING
from storage.database.webhooks.endpoints import DROP, TOUCH_EVERY_MS
from storage.records.ids import FIRST_ID, LAST_ID, uuid7
from storage.records.jobs import Millis
from storage.records.tenants import StoredFile

MOST_SHARDS = 40_000  # deleted at once, or rows of trainings; a single run may have more
SLACK_MS = 3_600_000  # between asking for something old and pointing to it

Walked = tuple[int, str | None]


def _old(table: str, purpose: str) -> Statement:
    return Statement(
        purpose,
        f"""
        SELECT j.id FROM {table} AS j
        WHERE j.id > :after AND j.id < :horizon ORDER BY j.id LIMIT :limit
        """,
    )


OLD_GROUPS = _old("groups", "Groups by age.")
OLD_ENDS = _old("ends", "Ends by their jobs' age.")
OLD_EVENTS = _old("events", "Events by the age of what they tell of.")

GROUPS = Statement(
    "Groups that are complete for so long.",
    "DELETE FROM groups WHERE id {among_ids} AND completed_at <= :before",
)

# Scalar subqueries here and below: an EXISTS may be made a join, planned while tables were small.
ENDS = Statement(
    "Ends that long ago. A group's jobs stay as long as it does: it is counted and read whole.",
    """
    DELETE FROM ends WHERE id {among_ids} AND finished_at <= :before
        AND (SELECT g.id FROM groups AS g WHERE g.id = ends.group_id) IS NULL
    RETURNING id
    """,
)

PAYLOADS = Statement("Their inputs.", "DELETE FROM payloads WHERE job_id {among_ids}")

JOBS = Statement(
    "And what they were asked.",
    "DELETE FROM jobs WHERE id {among_ids} RETURNING id, tenant, metadata",
)

BULK = Statement(
    "Those of them that are bulk runs, with their number of shards.",
    "SELECT r.job_id, COALESCE(r.shards, 0) AS shards FROM bulk_runs AS r WHERE r.job_id"
    " {among_ids}",
)
BULK_SHARDS = Statement("Shards of runs.", "DELETE FROM bulk_shards WHERE job_id {among_ids}")
BULK_PARTS = Statement("Parts of runs.", "DELETE FROM bulk_parts WHERE job_id {among_ids}")
BULK_RUNS = Statement("And the runs.", "DELETE FROM bulk_runs WHERE job_id {among_ids}")

TRAININGS = Statement(
    "Those of them that are trainings, with their rows and their last checkpoint.",
    """
    SELECT r.job_id, r.checkpoint_pack_id, r.lines + (
        SELECT count(*) FROM training_measures AS m WHERE m.job_id = r.job_id) AS parts
    FROM training_runs AS r WHERE r.job_id {among_ids}
    """,
)
TRAINING_MEASURES = Statement(
    "What runs measured.", "DELETE FROM training_measures WHERE job_id {among_ids}"
)
TRAINING_LOG = Statement("What they said.", "DELETE FROM training_log WHERE job_id {among_ids}")
TRAINING_RUNS = Statement("And the runs.", "DELETE FROM training_runs WHERE job_id {among_ids}")

_LABEL = {"tenant": "text", "key": "text", "value": "text", "id": "uuid"}
_SAME_LABEL = "m.tenant = r.tenant AND m.key = r.key AND m.value = r.value AND m.job_id = r.id"
LABELS = Statement(
    "And their labels, each by its key.",
    f"""
    DELETE FROM job_labels WHERE ctid = ANY (ARRAY(
        SELECT (SELECT m.ctid FROM job_labels AS m WHERE {_SAME_LABEL}) FROM {{rows}} AS r))
    """,
    _LABEL,
    only=POSTGRESQL,
)
LABELS_HERE = Statement(
    "The same for SQLite.",
    """
    DELETE FROM job_labels WHERE (tenant, key, value, job_id) IN (
        SELECT r.tenant, r.key, r.value, r.id FROM {rows} AS r)
    """,
    _LABEL,
    only=SQLITE,
)

EVENTS = Statement(
    "Events that old which nobody waits for.",
    """
    DELETE FROM events WHERE id {among_ids} AND created_at + 0 <= :before AND (
        SELECT d.event_id FROM deliveries AS d
        WHERE d.event_id = events.id AND d.state || '' = 'pending' LIMIT 1) IS NULL
    RETURNING id
    """,
)

DELIVERIES = Statement(
    "How they were delivered.", "DELETE FROM deliveries WHERE event_id {among_ids}"
)

ATTEMPTS = Statement(
    "The log of attempts.",
    """
    DELETE FROM webhook_attempts WHERE id {among}(
        SELECT a.id FROM webhook_attempts AS a
        WHERE a.id < :horizon AND a.started_at <= :before ORDER BY a.id LIMIT :limit
    ){end_among}
    """,
)

LOST = Statement(
    "Endpoints that are gone or switched off, and have something waiting for them: it was written"
    " while they went. A step for each endpoint that something waits for.",
    f"""
    {WAITING}
    SELECT w.id FROM waiting AS w
    WHERE w.id IS NOT NULL AND (
        SELECT e.id FROM webhook_endpoints AS e WHERE e.id = w.id AND e.enabled) IS NULL
    LIMIT :limit
    """,
)

OLDEST = Statement(
    "When the oldest job that is still known was made; its group is as old.",
    "SELECT j.created_at FROM jobs AS j ORDER BY j.id LIMIT 1",
)

OLD_ENDPOINTS = _old("webhook_endpoints", "Endpoints, one after the other.")
ENDPOINTS = Statement(
    "Endpoints that jobs brought along, all of which are gone.",
    """
    DELETE FROM webhook_endpoints WHERE id {among_ids} AND NOT listed AND created_at <= :before
        AND (SELECT d.endpoint_id FROM deliveries AS d
            WHERE d.endpoint_id = webhook_endpoints.id AND d.state = 'pending' LIMIT 1) IS NULL
    """,
)

OLD_SECRETS = _old("webhook_secrets", "Secrets, one after the other.")
SECRETS = Statement(
    "Secrets that have ended.",
    "DELETE FROM webhook_secrets WHERE id {among_ids} AND expires_at <= :now",
)

OLDEST_LIVE = Statement(
    "When the oldest live job was made.",
    "SELECT l.created_at FROM live AS l ORDER BY l.id LIMIT 1",
)

OLD_FILES = Statement(
    "Uploaded files by age.",
    """
    SELECT f.id, f.tenant, f.filename, f.content_type, f.object_key, f.size_bytes, f.digest,
        f.created_at
    FROM files AS f WHERE f.id < :horizon AND f.created_at <= :before ORDER BY f.id LIMIT :limit
    """,
)

FILES = Statement("Files whose objects are gone.", "DELETE FROM files WHERE id {among_ids}")


class Retention(Store):
    """What is over for long."""

    def groups(self, kept_ms: int, *, after: str | None, limit: int) -> Walked:
        """Groups that have been complete for ``kept_ms``; their jobs may go from then on."""
        before = self._before(kept_ms)
        ids, last = self._page(OLD_GROUPS, after, limit, before)
        return self._work.count(GROUPS, ids=self._work.ids(ids), before=before) if ids else 0, last

    def jobs(self, kept_ms: int, *, after: str | None, limit: int) -> Walked:
        """Jobs that ended ``kept_ms`` ago, with inputs and labels; of bulk jobs and trainings as
        many as have ``MOST_SHARDS`` together. A training's checkpoint is doomed with it."""
        work, before = self._work, self._before(kept_ms)
        found, last = self._page(OLD_ENDS, after, limit, before)
        if not found:
            return 0, last
        runs = work.rows(BULK, ids=work.ids(found))
        trainings = work.rows(TRAININGS, ids=work.ids(found))
        sizes = {row.job_id: row.shards for row in runs}
        sizes |= {row.job_id: row.parts for row in trainings}
        found, last = _as_many(sizes, found, last)
        ids = [row.id for row in work.change(ENDS, ids=work.ids(found), before=before)]
        if not ids:
            return 0, last
        work.count(PAYLOADS, ids=work.ids(ids))
        bulk = {row.job_id for row in runs}.intersection(ids)
        if bulk:
            for statement in (BULK_SHARDS, BULK_PARTS, BULK_RUNS):
                work.count(statement, ids=work.ids(bulk))
        self._forget_trainings({row.job_id: row.checkpoint_pack_id for row in trainings}, ids)
        labels = [
            {"tenant": row.tenant, "key": key, "value": value, "id": row.id}
            for row in work.change(JOBS, ids=work.ids(ids))
            if row.metadata
            for key, value in orjson.loads(row.metadata).items()
        ]
        if labels:
            here = work.dialect == SQLITE
            work.count(LABELS_HERE if here else LABELS, rows=work.table(labels))
        return len(ids), last

    def _forget_trainings(self, checkpoints: dict[str, str | None], ids: list[str]) -> None:
        """Those of the deleted jobs that were trainings, and where they could have gone on."""
        gone = [one for one in ids if one in checkpoints]
        if not gone:
            return
        for statement in (TRAINING_MEASURES, TRAINING_LOG, TRAINING_RUNS):
            self._work.count(statement, ids=self._work.ids(gone))
        Packs(self._work).doom(pack for one in gone if (pack := checkpoints[one]) is not None)

    def events(self, kept_ms: int, *, after: str | None, limit: int) -> Walked:
        """Events that old, with their deliveries, unless one of those still waits."""
        work, before = self._work, self._before(kept_ms)
        found, last = self._page(OLD_EVENTS, after, limit, before)
        if not found:
            return 0, last
        ids = [row.id for row in work.change(EVENTS, ids=work.ids(found), before=before)]
        if ids:
            work.count(DELIVERIES, ids=work.ids(ids))
        return len(ids), last

    def attempts(self, kept_ms: int, limit: int) -> int:
        """Delete the log of webhook attempts made ``kept_ms`` ago."""
        before = self._before(kept_ms)
        return self._work.count(ATTEMPTS, horizon=_past(before), before=before, limit=limit)

    def lost_deliveries(self, limit: int) -> int:
        """Give up what waits for endpoints that are gone or off; of how many endpoints."""
        rows = self._work.rows(LOST, after=FIRST_ID, limit=limit)
        for row in rows:
            self._work.count(DROP, id=row.id)
        return len(rows)

    def endpoints(self, *, after: str | None, limit: int) -> Walked:
        """Delete endpoints that only jobs brought along which are gone."""
        work = self._work
        oldest = work.row(OLDEST)
        before = (work.now() if oldest is None else int(oldest.created_at)) - SLACK_MS
        ids, last = self._page(OLD_ENDPOINTS, after, limit, None)
        if not ids:
            return 0, last
        # Their age is that of the last job that brought them, give or take a day.
        return work.count(ENDPOINTS, ids=work.ids(ids), before=before - TOUCH_EVERY_MS), last

    def secrets(self, *, after: str | None, limit: int) -> Walked:
        """Delete secrets that have ended."""
        work = self._work
        ids, last = self._page(OLD_SECRETS, after, limit, None)
        return work.count(SECRETS, ids=work.ids(ids), now=work.now()) if ids else 0, last

    def files(self, kept_ms: int, limit: int) -> list[StoredFile]:
        """Uploaded files older than ``kept_ms`` that were so already when the oldest live job was
        made: it may point to a file younger than that, and to no other."""
        work = self._work
        oldest = work.row(OLDEST_LIVE)
        since = work.now() if oldest is None else min(work.now(), int(oldest.created_at))
        before = since - kept_ms - SLACK_MS
        rows = work.rows(OLD_FILES, horizon=_past(before), before=before, limit=limit)
        return [stored_file(row) for row in rows]

    def forget_files(self, ids: list[str]) -> int:
        """Delete the rows of files whose objects are gone."""
        return self._work.count(FILES, ids=self._work.ids(ids))

    def _before(self, kept_ms: int) -> Millis:
        return self._work.now() - kept_ms

    def _page(
        self, statement: Statement, after: str | None, limit: int, before: Millis | None
    ) -> tuple[list[str], str | None]:
        """Ids of a page of rows that were made before that moment, and the last of a full one."""
        horizon = LAST_ID if before is None else _past(before)
        rows = self._work.rows(statement, after=after or FIRST_ID, horizon=horizon, limit=limit)
        ids = [row.id for row in rows]
        return ids, ids[-1] if len(ids) == limit else None


def _as_many(
    shards: dict[str, int], ids: list[str], last: str | None
) -> tuple[list[str], str | None]:
    """The first of a page's jobs, as many as have not too many shards, and where the next begin."""
    total = 0
    for at, one in enumerate(ids):
        its = shards.get(one, 0)
        total += its
        if its and at and total > MOST_SHARDS:
            return ids[:at], ids[at - 1]
    return ids, last


def _past(moment: Millis) -> str:
    """The id that all those of this moment and before come before."""
    return uuid7(max(0, moment + 1), 0)
