"""A deep backlog in seconds: a million queued jobs, written by PostgreSQL itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, text

from storage.database import Database
from storage.records.jobs import AGEING_MS_PER_PRIORITY, DEFAULT_PRIORITY
from tests.support.database import POOL, VERSION_ID

FEW = 10_000  # rows for which no index is worth making anew

# One job a millisecond, the newest of them now; an id is a version-7 UUID of its time.
_FILL = f"""
    WITH made AS MATERIALIZED (
        SELECT at, CAST(lpad(to_hex(at), 12, '0') || '70008'
            || lpad(to_hex(CAST(:salt AS int)), 7, '0')
            || lpad(to_hex(at % 100000000), 8, '0') AS uuid) AS id
        FROM (
            SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) + n AS at
            FROM generate_series(1 - CAST(:jobs AS bigint), 0) AS n
        ) AS times
    ), written AS (
        INSERT INTO jobs (id, tenant, kind, model_name, version, version_id, pool, priority,
            max_attempts, created_at, expires_at, run_timeout_ms)
        SELECT id, :tenant, 'inference', 'digits', 1, CAST(:version AS uuid), :pool, :priority,
            3, at, at + CAST(:expires_in_ms AS bigint), 900000
        FROM made
    )
    INSERT INTO live (id, tenant, version_id, pool, priority, rank, state, seq, epoch, attempts,
        max_attempts, losses, suspicions, created_at, expires_at, not_before, run_timeout_ms)
    SELECT id, :tenant, CAST(:version AS uuid), :pool, :priority,
        at - CAST(:priority AS int) * {AGEING_MS_PER_PRIORITY}, 'queued', 1, 0, 0,
        3, 0, 0, at, at + CAST(:expires_in_ms AS bigint), at, 900000
    FROM made
"""

_TAKE = """
    WITH gone AS (DELETE FROM live WHERE id = ANY (CAST(:ids AS uuid[])) RETURNING *)
    INSERT INTO ends (id, tenant, state, seq, epoch, attempts, losses, cancel_requested_at,
        finished_at)
    SELECT id, tenant, 'cancelled', seq + 1, epoch, attempts, losses, 1, 1 FROM gone
"""


def backlog_of(
    database: Database,
    tenant: str,
    jobs: int,
    *,
    version_id: str = VERSION_ID,
    pool: str = POOL,
    priority: int = DEFAULT_PRIORITY,
    expires_in_ms: int = 86_400_000,
) -> None:
    """Queued jobs of one tenant, without payloads: for the relay and the duties, not for claims."""
    with database._engines.writing.begin() as connection, _without_indexes(connection, jobs):
        connection.execute(
            text(_FILL),
            {
                "tenant": tenant,
                "version": version_id,
                "pool": pool,
                "priority": priority,
                "jobs": jobs,
                "expires_in_ms": expires_in_ms,
                "salt": sum(map(ord, tenant + pool)) % 2**28,
            },
        )


def take_out(database: Database, ids: Sequence[str]) -> None:
    """Jobs that are done, as far as the relay can see; their inputs need not exist."""
    with database._engines.writing.begin() as connection:
        connection.execute(text(_TAKE), {"ids": list(ids)})


@contextmanager
def _without_indexes(connection: Connection, jobs: int) -> Iterator[None]:
    """Made anew afterwards: sorting a million keys is quicker than a million insertions."""
    if jobs < FEW:
        yield
        return
    connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '256MB'")
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
    found = connection.exec_driver_sql(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('jobs', 'live')"
        " AND indexname NOT LIKE '%%_pk'"
    ).fetchall()
    for name, _ in found:
        connection.exec_driver_sql(f'DROP INDEX "{name}"')
    yield
    for _, definition in found:
        connection.exec_driver_sql(definition)
