"""A job is written once; what changes while it is live, and how it ended, are rows of their own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")

_INDEXES_BEFORE = (
    "jobs_backlog",
    "jobs_expiring",
    "jobs_of_group",
    "jobs_of_model",
    "jobs_of_tenant",
    "jobs_of_tenant_by_state",
    "jobs_queued_of_version",
    "jobs_running",
    "jobs_window",
)
_OF_JOBS = """
    id, tenant, kind, model_name, version, version_id, pool, priority, group_id, group_index,
    custom_id, metadata, max_attempts, created_at, expires_at, run_timeout_ms, retry_of
"""
_OF_LIVE = """
    id, tenant, pool, version_id, group_id, priority, rank, state, seq, epoch, attempts,
    max_attempts, losses, suspicions, session_id, created_at, expires_at, not_before,
    published_at, started_at, run_deadline_at, run_timeout_ms, cancel_requested_at
"""
_OF_ENDS = """
    id, tenant, group_id, state, seq, epoch, attempts, losses, session_id, published_at,
    started_at, cancel_requested_at, finished_at, error_code, error_message, error_attempt,
    result_pack_id, result_offset_bytes, result_length_bytes, result_digest
"""


def upgrade() -> None:
    for index in _INDEXES_BEFORE:
        op.drop_index(index, table_name="jobs")
    op.rename_table("jobs", "jobs_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE jobs_before RENAME CONSTRAINT jobs_pk TO jobs_before_pk")
    _create_jobs()
    _create_live()
    _create_ends()
    live = "finished_at IS NULL"
    op.execute(f"INSERT INTO jobs ({_OF_JOBS}) SELECT {_OF_JOBS} FROM jobs_before ORDER BY id")
    op.execute(
        f"INSERT INTO live ({_OF_LIVE}) SELECT {_OF_LIVE} FROM jobs_before WHERE {live} ORDER BY id"
    )
    op.execute(
        f"INSERT INTO ends ({_OF_ENDS}) SELECT {_OF_ENDS} FROM jobs_before WHERE NOT ({live})"
        " ORDER BY id"
    )
    op.drop_table("jobs_before")
    _create_indexes()


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("group_id", ID, nullable=True),
        sa.Column("group_index", sa.Integer(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("run_timeout_ms", sa.BigInteger(), nullable=False),
        sa.Column("retry_of", ID, nullable=True),
        sa.CheckConstraint(
            "kind IN ('inference', 'bulk', 'training', 'evaluation')", name=op.f("jobs_kind_known")
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("jobs_priority_in_range")),
        sa.CheckConstraint("max_attempts >= 1", name=op.f("jobs_attempts_in_range")),
        sa.CheckConstraint(
            "(group_id IS NULL) = (group_index IS NULL)", name=op.f("jobs_group_and_index")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pk")),
    )


def _create_live() -> None:
    op.create_table(
        "live",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("group_id", ID, nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("suspicions", sa.Integer(), nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("run_deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("run_timeout_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running')", name=op.f("live_state_known")),
        sa.CheckConstraint(
            "seq >= 1 AND epoch >= 0 AND losses >= 0 AND suspicions >= 0"
            " AND attempts BETWEEN 0 AND max_attempts",
            name=op.f("live_counters_in_range"),
        ),
        sa.CheckConstraint(
            "state <> 'queued' OR (session_id IS NULL AND started_at IS NULL"
            " AND run_deadline_at IS NULL AND cancel_requested_at IS NULL"
            " AND attempts < max_attempts)",
            name=op.f("live_queued_is_nobodys"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (session_id IS NOT NULL AND epoch >= 1"
            " AND started_at IS NOT NULL AND run_deadline_at IS NOT NULL)",
            name=op.f("live_running_has_session"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("live_pk")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.01"},
    )


def _create_ends() -> None:
    op.create_table(
        "ends",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("group_id", ID, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_attempt", sa.Integer(), nullable=True),
        sa.Column("result_pack_id", ID, nullable=True),
        sa.Column("result_offset_bytes", sa.BigInteger(), nullable=True),
        sa.Column("result_length_bytes", sa.BigInteger(), nullable=True),
        sa.Column("result_digest", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('succeeded', 'failed', 'cancelled', 'expired')",
            name=op.f("ends_state_known"),
        ),
        sa.CheckConstraint(
            "seq >= 2 AND epoch >= 0 AND losses >= 0 AND attempts >= 0",
            name=op.f("ends_counters_in_range"),
        ),
        sa.CheckConstraint(
            "state <> 'cancelled' OR cancel_requested_at IS NOT NULL",
            name=op.f("ends_cancelled_was_asked"),
        ),
        sa.CheckConstraint(
            "(state = 'failed') = (error_code IS NOT NULL)"
            " AND (error_code IS NULL) = (error_message IS NULL)"
            " AND (error_code IS NULL) = (error_attempt IS NULL)",
            name=op.f("ends_failed_has_error"),
        ),
        sa.CheckConstraint(
            "result_pack_id IS NULL OR (state = 'succeeded' AND result_offset_bytes >= 0"
            " AND result_length_bytes >= 0 AND result_digest IS NOT NULL)",
            name=op.f("ends_result_is_whole"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("ends_pk")),
    )


def _create_indexes() -> None:
    _create_index("jobs_of_tenant", "jobs", ["tenant", "id"])
    _create_index("jobs_of_model", "jobs", ["tenant", "model_name", "id"])
    _create_index("jobs_of_group", "jobs", ["group_id", "group_index"], "group_id IS NOT NULL")
    _create_index(
        "live_backlog",
        "live",
        ["pool", "tenant", "priority", "rank", "id"],
        "state = 'queued' AND published_at IS NULL",
    )
    _create_index(
        "live_window",
        "live",
        ["pool", "tenant", "published_at"],
        "state = 'queued' AND published_at IS NOT NULL",
    )
    _create_index(
        "live_expiring", "live", ["expires_at"], "state = 'queued' AND started_at IS NULL"
    )
    _create_index(
        "live_queued", "live", ["tenant", "id"], "state = 'queued' AND run_deadline_at IS NULL"
    )
    _create_index("live_running", "live", ["tenant", "id"], "state = 'running'")
    _create_index("ends_by_state", "ends", ["tenant", "state", "id"], "result_pack_id IS NULL")
    _create_index("ends_of_group", "ends", ["group_id", "state"], "group_id IS NOT NULL")


def _create_index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
