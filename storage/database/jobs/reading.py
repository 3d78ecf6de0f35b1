"""Reading jobs: by id, by page, by glimpse. Nothing here changes a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from storage.database.job_rows import COLUMNS, job_of, payload_of
from storage.database.jobs.paging import page
from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import is_id
from storage.records.jobs import Glimpse, Job, JobFilter, JobState, PackSlice

GET = Statement(
    "Jobs of one tenant by id, but for those of a trial's that are nobody's to see.",
    f"""
    SELECT {COLUMNS} FROM {{jobs}}
    WHERE j.id {{among_ids}} AND j.tenant || '' = :tenant AND j.shadow_of IS NULL
    """,
)

PAYLOAD = Statement(
    "A job's input.",
    """
    SELECT p.body, p.pack_id, p.offset_bytes, p.length_bytes, p.digest
    FROM payloads AS p WHERE p.job_id = :id AND p.tenant = :tenant
    """,
)

PAYLOADS = Statement(
    "The inputs of several.",
    """
    SELECT p.job_id, p.body, p.pack_id, p.offset_bytes, p.length_bytes, p.digest
    FROM payloads AS p WHERE p.job_id {among_ids} AND p.tenant || '' = :tenant
    """,
)

WEBHOOK = Statement(
    "The webhook that a job brought along.",
    """
    SELECT e.url FROM jobs AS j JOIN webhook_endpoints AS e ON e.id = j.webhook_id
    WHERE j.id = :id AND j.tenant || '' = :tenant
    """,
)

GLIMPSE = Statement(
    "What the watcher compares, for jobs of any tenant.",
    """
    SELECT l.id, l.state, l.seq FROM live AS l WHERE l.id {among_ids}
    UNION ALL
    SELECT e.id, e.state, e.seq FROM ends AS e WHERE e.id {among_ids}
    """,
)


class Reading(Store):
    """Jobs are looked at."""

    def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, if it is this tenant's."""
        found = self.get_many(tenant, [job_id])
        return found[0] if found else None

    def get_many(self, tenant: str, ids: Sequence[str]) -> list[Job]:
        """Those of the jobs that are this tenant's, in the order of ``ids``."""
        rows = self._work.rows(GET, tenant=tenant, ids=self._work.ids(ids))
        found = {row.id: row for row in rows}
        return [job_of(found[one]) for one in dict.fromkeys(ids) if one in found]

    def payload(self, tenant: str, job_id: str) -> bytes | PackSlice | None:
        """The job's input, or where it lies."""
        if not is_id(job_id):
            return None
        row = self._work.row(PAYLOAD, tenant=tenant, id=job_id)
        return None if row is None else payload_of(*list(row))

    def payloads(self, tenant: str, ids: Sequence[str]) -> Mapping[str, bytes | PackSlice]:
        """The inputs of those of the jobs that are this tenant's, by id, or where they lie."""
        rows = self._work.rows(PAYLOADS, tenant=tenant, ids=self._work.ids(ids))
        return {row[0]: payload_of(*row[1:]) for row in rows}

    def webhook(self, tenant: str, job_id: str) -> str | None:
        """The URL that the job brought along to be told."""
        if not is_id(job_id):
            return None
        row = self._work.row(WEBHOOK, tenant=tenant, id=job_id)
        return None if row is None else str(row.url)

    def glimpse(self, ids: Sequence[str]) -> list[Glimpse]:
        """State and ``seq`` of jobs whose right to be seen was checked before."""
        rows = self._work.rows(GLIMPSE, ids=self._work.ids(ids))
        return [Glimpse(row.id, JobState(row.state), row.seq) for row in rows]

    def list(self, tenant: str, where: JobFilter, *, limit: int, after: str | None) -> list[Job]:
        """A page of jobs, newest first, older than the job ``after``."""
        if where.group_id is not None and not is_id(where.group_id):
            return []
        ids = page(tenant, where, limit, after if after and is_id(after) else None)
        return self.get_many(tenant, [row[0] for row in self._work.select(select(ids.c.id))])
