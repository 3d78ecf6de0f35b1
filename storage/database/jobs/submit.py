"""Submit: a request's jobs, payloads and labels, in three statements whatever their number."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import orjson

from storage.database.statements import SQLITE, Statement
from storage.database.store import Store
from storage.database.texts import refuse_nul
from storage.records.errors import InvalidInput
from storage.records.jobs import NewJob, PackSlice, backlog_rank

MAX_LABEL_BYTES = 2_000  # key and value together; a PostgreSQL index entry ends at 2,704

SUBMIT = Statement(
    "New jobs enter the backlog.",
    """
    INSERT INTO jobs (
        id, tenant, kind, state, model_name, version, version_id, pool, priority, rank,
        group_id, group_index, custom_id, metadata, seq, epoch, attempts, max_attempts, losses,
        created_at, expires_at, not_before, published_at, run_timeout_ms, retry_of)
    SELECT id, tenant, kind, 'queued', model_name, version, version_id, pool, priority, rank,
        group_id, group_index, custom_id, metadata, 1, 0, 0, max_attempts, 0,
        :now, expires_at, :now, published_at, run_timeout_ms, retry_of
    FROM {rows} AS r
    """,
    {
        "id": "uuid",
        "tenant": "text",
        "kind": "text",
        "model_name": "text",
        "version": "integer",
        "version_id": "uuid",
        "pool": "text",
        "priority": "smallint",
        "rank": "bigint",
        "group_id": "uuid",
        "group_index": "integer",
        "custom_id": "text",
        "metadata": "text",
        "max_attempts": "integer",
        "expires_at": "bigint",
        "published_at": "bigint",
        "run_timeout_ms": "bigint",
        "retry_of": "uuid",
    },
)

INLINE_PAYLOADS = Statement(
    "Inputs small enough to lie in SQL (PostgreSQL: all in one statement).",
    """
    INSERT INTO payloads (job_id, tenant, body)
    SELECT given.id, given.tenant, given.body
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS text[]), CAST(:bodies AS bytea[]))
        AS given(id, tenant, body)
    """,
    binary=frozenset({"bodies"}),
)

INLINE_PAYLOAD = Statement(
    "The same for SQLite, run once per row: JSON cannot carry bytes.",
    "INSERT INTO payloads (job_id, tenant, body) VALUES (:id, :tenant, :body)",
)

PACKED_PAYLOADS = Statement(
    "Inputs that lie in an input pack.",
    """
    INSERT INTO payloads (job_id, tenant, pack_id, offset_bytes, length_bytes, digest)
    SELECT id, tenant, pack_id, offset_bytes, length_bytes, digest FROM {rows} AS r
    """,
    {
        "id": "uuid",
        "tenant": "text",
        "pack_id": "uuid",
        "offset_bytes": "bigint",
        "length_bytes": "bigint",
        "digest": "text",
    },
)

LABELS = Statement(
    "Metadata, one row per key, for lists that filter by it.",
    """
    INSERT INTO job_labels (tenant, key, value, job_id)
    SELECT tenant, key, value, id FROM {rows} AS r
    """,
    {"id": "uuid", "tenant": "text", "key": "text", "value": "text"},
)


class Submitting(Store):
    """Jobs come into being."""

    def submit(
        self,
        tenant: str,
        jobs: Sequence[NewJob],
        *,
        group_id: str | None = None,
        first_index: int = 0,
        published: bool = False,
    ) -> None:
        """Write jobs, payloads and labels. All or nothing, with the rest of the transaction.

        In a group a job's place is ``first_index`` plus its place in ``jobs``. With ``published``
        they are in the ready window from the start: the caller sends their message after the
        commit. ``Conflict`` when an id is taken.
        """
        self._write(
            [(tenant, job) for job in jobs],
            frozenset(job.id for job in jobs) if published else frozenset(),
            group_id,
            first_index,
        )

    def submit_each(
        self, jobs: Sequence[tuple[str, NewJob]], *, published: bool | Collection[str] = False
    ) -> None:
        """Write jobs of any tenants, none in a group; which of them enter the ready window."""
        if isinstance(published, bool):
            published = frozenset(job.id for _, job in jobs) if published else frozenset()
        self._write(jobs, published, None, 0)

    def _write(
        self,
        jobs: Sequence[tuple[str, NewJob]],
        published: Collection[str],
        group_id: str | None,
        first_index: int,
    ) -> None:
        if not jobs:
            return
        work = self._work
        now = work.now()
        rows = []
        for index, (tenant, job) in enumerate(jobs, start=first_index):
            row = _job_row(tenant, job, now)
            if group_id is not None:
                row["group_id"], row["group_index"] = group_id, index
            if job.id in published:
                row["published_at"] = now
            rows.append(row)
        work.count(SUBMIT, now=now, rows=work.table(rows))
        self._write_payloads(jobs)
        labels = [label for one in jobs if one[1].metadata for label in _label_rows(*one)]
        if labels:
            work.count(LABELS, rows=work.table(labels))

    def _write_payloads(self, jobs: Sequence[tuple[str, NewJob]]) -> None:
        work = self._work
        inline: list[tuple[str, str, bytes]] = []
        packed: list[Mapping[str, object]] = []
        for tenant, job in jobs:
            if isinstance(job.payload, PackSlice):
                packed.append(_slice_row(tenant, job.id, job.payload))
            else:
                inline.append((job.id, tenant, job.payload))
        if packed:
            work.count(PACKED_PAYLOADS, rows=work.table(packed))
        if not inline:
            return
        if work.dialect == SQLITE:
            work.each(
                INLINE_PAYLOAD,
                [{"id": job_id, "tenant": tenant, "body": body} for job_id, tenant, body in inline],
            )
        else:
            work.count(
                INLINE_PAYLOADS,
                ids=work.ids(job_id for job_id, _, _ in inline),
                tenants=[tenant for _, tenant, _ in inline],
                bodies=[body for _, _, body in inline],
            )


def _job_row(tenant: str, job: NewJob, now: int) -> dict[str, object]:
    if job.custom_id is not None:
        refuse_nul(job.custom_id, field="custom_id")
    return {
        "id": job.id,
        "tenant": tenant,
        "kind": job.kind,
        "model_name": job.model_name,
        "version": job.version,
        "version_id": job.version_id,
        "pool": job.pool,
        "priority": job.priority,
        "rank": backlog_rank(now, job.priority),
        "custom_id": job.custom_id,
        "metadata": orjson.dumps(dict(job.metadata)).decode() if job.metadata else None,
        "max_attempts": job.max_attempts,
        "expires_at": now + job.expires_in_ms,
        "run_timeout_ms": job.run_timeout_ms,
        "retry_of": job.retry_of,
    }


def _slice_row(tenant: str, job_id: str, where: PackSlice) -> dict[str, object]:
    return {
        "id": job_id,
        "tenant": tenant,
        "pack_id": where.pack_id,
        "offset_bytes": where.offset_bytes,
        "length_bytes": where.length_bytes,
        "digest": where.digest,
    }


def _label_rows(tenant: str, job: NewJob) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for key, value in job.metadata.items():
        refuse_nul(key + value, field="metadata")
        if len(key.encode()) + len(value.encode()) > MAX_LABEL_BYTES:
            raise InvalidInput(
                f"metadata {key[:40]!r}: key and value together may hold {MAX_LABEL_BYTES} bytes",
                code="metadata_too_long",
                field="metadata",
            )
        rows.append({"id": job.id, "tenant": tenant, "key": key, "value": value})
    return rows
