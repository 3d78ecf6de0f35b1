"""Bulk runs: their shards, who works on which, and the parts that came of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    _create_runs()
    _create_shards()
    _create_parts()


def _create_runs() -> None:
    op.create_table(
        "bulk_runs",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("planned_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("shards", sa.Integer(), nullable=True),
        sa.Column("units_total", sa.BigInteger(), nullable=True),
        sa.Column("rows_total", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("progressed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="bulk_runs_pk"),
        sa.CheckConstraint(
            "(planned_at IS NULL) = (plan IS NULL) AND (planned_at IS NULL) = (shards IS NULL)"
            " AND (planned_at IS NULL) = (units_total IS NULL)"
            " AND (planned_at IS NOT NULL OR rows_total IS NULL AND closed_at IS NULL)",
            name="planned_is_whole",
        ),
        sa.CheckConstraint(
            "(shards IS NULL OR shards >= 0) AND (units_total IS NULL OR units_total >= 0)"
            " AND (rows_total IS NULL OR rows_total >= 0)",
            name="totals_in_range",
        ),
        sa.CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_is_whole"),
        sa.CheckConstraint(
            "(progress IS NULL) = (progressed_at IS NULL)", name="progress_has_time"
        ),
    )
    _partial(
        "bulk_runs_open",
        "bulk_runs",
        ["pool", "rank", "job_id"],
        "planned_at IS NOT NULL AND closed_at IS NULL",
    )


def _create_shards() -> None:
    op.create_table(
        "bulk_shards",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("file", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("suspect_start", sa.BigInteger(), nullable=True),
        sa.Column("suspect_stop", sa.BigInteger(), nullable=True),
        sa.Column("suspect_deaths", sa.Integer(), nullable=True),
        sa.Column("live_rows", sa.BigInteger(), nullable=False),
        sa.Column("live_failed", sa.BigInteger(), nullable=False),
        sa.Column("live_device_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="bulk_shards_pk"),
        sa.CheckConstraint("state IN ('open', 'running', 'done')", name="state_known"),
        sa.CheckConstraint(
            "number >= 0 AND file >= 0 AND start >= 0 AND start <= stop AND epoch >= 0"
            " AND losses >= 0",
            name="counters_in_range",
        ),
        sa.CheckConstraint("(state = 'done') = (start = stop)", name="done_has_no_rest"),
        sa.CheckConstraint(
            "(state = 'running') = (session_id IS NOT NULL) AND (state <> 'running' OR epoch >= 1)",
            name="running_has_session",
        ),
        sa.CheckConstraint(
            "(suspect_start IS NULL) = (suspect_stop IS NULL)"
            " AND (suspect_start IS NULL) = (suspect_deaths IS NULL) AND (suspect_start IS NULL OR"
            " suspect_start >= 0 AND suspect_start < suspect_stop AND suspect_deaths >= 0)",
            name="suspect_is_whole",
        ),
        sa.CheckConstraint(
            "live_rows >= 0 AND live_failed >= 0 AND live_device_ms >= 0"
            " AND (state = 'running' OR live_rows + live_failed + live_device_ms = 0)",
            name="live_while_running",
        ),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
    )
    _partial("bulk_shards_open", "bulk_shards", ["job_id", "number"], "state = 'open'")
    _partial(
        "bulk_shards_running",
        "bulk_shards",
        ["job_id", "number", "session_id"],
        "state = 'running'",
    )


def _create_parts() -> None:
    op.create_table(
        "bulk_parts",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("errors_key", sa.Text(), nullable=True),
        sa.Column("errors_bytes", sa.BigInteger(), nullable=False),
        sa.Column("device_ms", sa.BigInteger(), nullable=False),
        sa.Column("committed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", "start", name="bulk_parts_pk"),
        sa.CheckConstraint(
            "number >= 0 AND file >= 0 AND start >= 0 AND start < stop AND epoch >= 1",
            name="range_in_range",
        ),
        sa.CheckConstraint(
            "rows >= 0 AND failed >= 0 AND skipped >= 0 AND size_bytes >= 0 AND errors_bytes >= 0"
            " AND device_ms >= 0",
            name="sums_in_range",
        ),
        sa.CheckConstraint(
            "(object_key IS NULL) = (digest IS NULL) AND (rows = 0 OR object_key IS NOT NULL)"
            " AND (failed = 0 OR errors_key IS NOT NULL)",
            name="what_was_scored_is_stored",
        ),
    )


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
