"""Millions of finished jobs in seconds: real ones, copied by PostgreSQL with earlier ids and times.

What the service wrote for a thousand jobs is what is copied, whatever tables that takes: each row
again and again, its ids and times moved into the past together. Nothing here knows more of the
schema than which tables hold a row for every finished job.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import sql

from tests.bench.rig import plain_url
from tests.support.stack import Services

TABLES = ("jobs", "ends", "payloads")  # one row for every finished job
IDS = frozenset({"id", "job_id", "group_id"})  # time-ordered, and moved with the times
STEP_MS = 1_000_000  # longer than it took to run what is copied


def multiply(services: Services, copies: int) -> None:
    """``copies`` times what there is, beside it; statistics and visibility as after a vacuum."""
    with ThreadPoolExecutor(len(TABLES)) as pool:
        for done in [pool.submit(_multiply, services, table, copies) for table in TABLES]:
            done.result()
    with psycopg.connect(plain_url(services.database_url), autocommit=True) as database:
        database.execute("VACUUM ANALYZE")
        database.execute("CHECKPOINT")


def _multiply(services: Services, table: str, copies: int) -> None:
    with psycopg.connect(plain_url(services.database_url)) as database:
        columns = database.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
            " AND table_schema = 'public' ORDER BY ordinal_position",
            (table,),
        ).fetchall()
        # Half the time of it all would go into indexes that grow row by row.
        indexes = database.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = %s::regclass AND NOT indisunique",
            (table,),
        ).fetchall()
        database.execute("SET LOCAL maintenance_work_mem = '256MB'")
        for name, _ in indexes:
            database.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        names = [name for (name,) in columns]
        key = sql.Identifier("job_id" if "job_id" in names else "id")
        copied = sql.Identifier(f"copied_{table}")
        database.execute(
            sql.SQL("CREATE TEMP TABLE {} AS SELECT * FROM {}").format(
                copied, sql.Identifier(table)
            )
        )
        # Copy by copy, the oldest first: rows come to lie by id, as if they had been written so.
        database.execute(
            sql.SQL(
                "INSERT INTO {table} ({names}) SELECT {values}"
                " FROM generate_series({copies}::bigint, 1, -1) AS copy (n)"
                " CROSS JOIN LATERAL (SELECT * FROM {copied} ORDER BY {key}, n) AS old"
            ).format(
                table=sql.Identifier(table),
                names=sql.SQL(", ").join(map(sql.Identifier, names)),
                values=sql.SQL(", ").join(map(_moved, names)),
                copies=sql.Literal(copies),
                copied=copied,
                key=key,
            )
        )
        for _, definition in indexes:
            database.execute(definition)


def _moved(name: str) -> sql.Composable:
    column = sql.SQL("old.") + sql.Identifier(name)
    if name in IDS:
        text = sql.SQL("replace({}::text, '-', '')").format(column)
        return sql.SQL(
            "(lpad(to_hex(('x' || left({text}, 12))::bit(48)::bigint - n * {step}), 12, '0')"
            " || substr({text}, 13))::uuid"
        ).format(text=text, step=sql.Literal(STEP_MS))
    if name.endswith("_at"):
        return sql.SQL("{} - n * {}").format(column, sql.Literal(STEP_MS))
    return column
