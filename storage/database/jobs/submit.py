"""Submit: a request's jobs with their inputs, in one or two statements whatever their number."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from storage.database.statements import SQLITE, Statement
from storage.database.store import Store
from storage.database.texts import refuse_nul
from storage.database.webhooks.endpoints import Endpoints
from storage.records.errors import InvalidInput
from storage.records.jobs import AGEING_MS_PER_PRIORITY, Millis, NewJob, PackSlice

MAX_LABEL_BYTES = 2_000  # key and value together; a PostgreSQL index entry ends at 2,704

# What differs from job to job travels in ``{rows}``; what is the same for all, as in most
# requests, is a parameter of its own. A column is in one of the two, and NULL in the other.
_GIVEN = {
    "id": "uuid",
    "tenant": "text",
    "kind": "text",
    "model_name": "text",
    "version": "integer",
    "version_id": "uuid",
    "pool": "text",
    "priority": "smallint",
    "group_id": "uuid",
    "group_index": "integer",
    "custom_id": "text",
    "metadata": "text",
    "max_attempts": "integer",
    "expires_in_ms": "bigint",
    "run_timeout_ms": "bigint",
    "retry_of": "uuid",
    "webhook_id": "uuid",
    "published": "boolean",
    "arm_id": "uuid",
    "shadow_of": "uuid",
}
_Columns: TypeAlias = dict[str, list[Any]]

_SHARED = ", ".join(
    f"COALESCE(r.{name}, CAST(:{name} AS {sql_type})) AS {name}"
    for name, sql_type in _GIVEN.items()
    if name != "id"
)

_JOB = """
    INSERT INTO jobs (id, tenant, kind, model_name, version, version_id, pool, priority,
        group_id, group_index, custom_id, metadata, max_attempts, created_at, expires_at,
        run_timeout_ms, retry_of, webhook_id, shadow_of)
    {source}
"""
_JOB_VALUES = """
    id, tenant, kind, model_name, version, version_id, pool, priority, group_id, group_index,
    custom_id, metadata, max_attempts, :now, :now + expires_in_ms, run_timeout_ms, retry_of,
    webhook_id, shadow_of
"""
_LIVE = """
    INSERT INTO live (id, tenant, pool, version_id, group_id, priority, rank, state, seq, epoch,
        attempts, max_attempts, losses, suspicions, created_at, expires_at, not_before,
        published_at, run_timeout_ms, webhook_id, arm_id, shadow_of)
    {source}
"""
_LIVE_VALUES = f"""
    id, tenant, pool, version_id, group_id, priority, :now - priority * {AGEING_MS_PER_PRIORITY},
    'queued', 1, 0, 0, max_attempts, 0, 0, :now, :now + expires_in_ms, :now,
    CASE WHEN published THEN CAST(:now AS bigint) END, run_timeout_ms, webhook_id,
    arm_id, shadow_of
"""

SUBMIT = Statement(
    "New jobs enter the backlog, those with small inputs with them (PostgreSQL).",
    f"""
    WITH said AS MATERIALIZED (SELECT r.id, {_SHARED} FROM {{rows}} AS r),
    written AS ({_JOB.format(source=f"SELECT {_JOB_VALUES} FROM said")}),
    inputs AS (
        INSERT INTO payloads (job_id, tenant, body)
        SELECT given.id, COALESCE(given.tenant, CAST(:tenant AS text)), given.body
        FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS text[]), CAST(:bodies AS bytea[]))
            AS given(id, tenant, body)
    ), entered AS ({_LIVE.format(source=f"SELECT {_LIVE_VALUES} FROM said")})
    SELECT CAST(:now AS bigint) AS now
    """,
    _GIVEN,
    binary=frozenset({"bodies"}),
    only="postgresql",
)


def _bound(values: str) -> str:
    """The same values with every column as a parameter."""
    for name in _GIVEN:
        values = re.sub(rf"(?<![:\w]){name}\b", f":{name}", values)
    return f"VALUES ({values})"


SUBMIT_JOB = Statement(
    "One new job (SQLite, run once per row).",
    _JOB.format(source=_bound(_JOB_VALUES)),
    only="sqlite",
)

SUBMIT_LIVE = Statement(
    "It enters the backlog.", _LIVE.format(source=_bound(_LIVE_VALUES)), only="sqlite"
)

INLINE_PAYLOAD = Statement(
    "Its input, if that is small.",
    "INSERT INTO payloads (job_id, tenant, body) VALUES (:id, :tenant, :body)",
    only="sqlite",
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
    ) -> Millis:
        """Write jobs, payloads and labels, and the moment they are written with. All or nothing,
        with the rest of the transaction.

        In a group a job's place is ``first_index`` plus its place in ``jobs``. With ``published``
        they are in the ready window from the start: the caller sends their message after the
        commit. ``Conflict`` when an id is taken.
        """
        columns = _columns(jobs)
        columns["tenant"] = [tenant] * len(jobs)
        columns["published"] = [published] * len(jobs)
        if group_id is not None:
            columns["group_id"] = [group_id] * len(jobs)
            columns["group_index"] = list(range(first_index, first_index + len(jobs)))
        return self._write(columns, jobs)

    def submit_each(
        self, jobs: Sequence[tuple[str, NewJob]], *, published: bool | Collection[str] = False
    ) -> Millis:
        """Write jobs of any tenants, none in a group; which of them enter the ready window."""
        new = [job for _, job in jobs]
        columns = _columns(new)
        columns["tenant"] = [tenant for tenant, _ in jobs]
        columns["published"] = [
            published if isinstance(published, bool) else job.id in published for job in new
        ]
        return self._write(columns, new)

    def _write(self, columns: _Columns, jobs: Sequence[NewJob]) -> Millis:
        if not jobs:
            return self._work.now()
        columns["webhook_id"] = self._webhooks(columns["tenant"], jobs)
        if self._work.dialect == SQLITE:
            now = self._write_each(columns, jobs)
        else:
            now = self._write_at_once(columns, jobs)
        work, tenants = self._work, columns["tenant"]
        packed = [
            _slice_row(tenant, job.id, job.payload)
            for tenant, job in zip(tenants, jobs, strict=True)
            if isinstance(job.payload, PackSlice)
        ]
        if packed:
            work.count(PACKED_PAYLOADS, rows=work.table(packed))
        labels = [
            label
            for tenant, job in zip(tenants, jobs, strict=True)
            if job.metadata
            for label in _label_rows(tenant, job)
        ]
        if labels:
            work.count(LABELS, rows=work.table(labels))
        return now

    def _webhooks(self, tenants: Sequence[str], jobs: Sequence[NewJob]) -> list[str | None]:
        """The endpoint that each job brings along, if it does."""
        pairs = {
            (tenant, job.webhook)
            for tenant, job in zip(tenants, jobs, strict=True)
            if job.webhook is not None
        }
        if not pairs:
            return [None] * len(jobs)
        ids = Endpoints(self._work).bring_along(pairs)
        return [
            None if job.webhook is None else ids[(tenant, job.webhook)]
            for tenant, job in zip(tenants, jobs, strict=True)
        ]

    def _write_each(self, columns: _Columns, jobs: Sequence[NewJob]) -> Millis:
        work = self._work
        now = work.now()
        rows = [
            {"now": now, **dict(zip(columns, values, strict=True))}
            for values in zip(*columns.values(), strict=True)
        ]
        work.each(SUBMIT_JOB, rows)
        work.each(SUBMIT_LIVE, rows)
        inline = [
            {"id": job.id, "tenant": tenant, "body": job.payload}
            for tenant, job in zip(columns["tenant"], jobs, strict=True)
            if not isinstance(job.payload, PackSlice)
        ]
        if inline:
            work.each(INLINE_PAYLOAD, inline)
        return now

    def _write_at_once(self, columns: _Columns, jobs: Sequence[NewJob]) -> Millis:
        work = self._work
        inline = [
            (job.id, tenant, job.payload)
            for tenant, job in zip(columns["tenant"], jobs, strict=True)
            if not isinstance(job.payload, PackSlice)
        ]
        own = [name for name in columns if name == "id" or not _all_alike(columns[name])]
        shared = {
            name: None if name in own else values[0]
            for name, values in columns.items()
            if name != "id"
        }
        rows = [
            dict(zip(own, values, strict=True))
            for values in zip(*(columns[name] for name in own), strict=True)
        ]
        (told,) = work.change(
            SUBMIT,
            rows=work.table(rows),
            ids=work.ids(job_id for job_id, _, _ in inline),
            tenants="{}" if shared["tenant"] else [tenant for _, tenant, _ in inline],
            bodies=[body for _, _, body in inline],
            **shared,
        )
        return int(told.now)


def _all_alike(values: Sequence[object]) -> bool:
    return values.count(values[0]) == len(values)


def _columns(jobs: Sequence[NewJob]) -> _Columns:
    """What every job says of itself, column by column: most are the same from top to bottom."""
    for job in jobs:
        if job.custom_id is not None:
            refuse_nul(job.custom_id, field="custom_id")
    columns: _Columns = {
        name: [getattr(job, name) for job in jobs]
        for name in _GIVEN
        if name not in ("tenant", "group_id", "group_index", "webhook_id", "published")
    }
    columns["kind"] = [job.kind.value for job in jobs]
    columns["metadata"] = [
        orjson.dumps(dict(job.metadata)).decode() if job.metadata else None for job in jobs
    ]
    return columns | dict.fromkeys(("group_id", "group_index"), [None] * len(jobs))


def _slice_row(tenant: str, job_id: str, where: PackSlice) -> dict[str, object]:
    return {
        "id": job_id,
        "tenant": tenant,
        "pack_id": where.pack_id,
        "offset_bytes": where.offset_bytes,
        "length_bytes": where.length_bytes,
        "digest": where.digest,
    }


def _label_rows(tenant: str, job: NewJob) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
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
