"""The first schema: jobs, payloads, labels, groups, sessions, packs, models, tenants, files."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
DOUBLE = sa.Float(53).with_variant(postgresql.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("files_size_in_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("files_pk")),
    )
    op.create_table(
        "groups",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("total >= 0", name=op.f("groups_total_in_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("groups_pk")),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("idempotency_pk")),
    )
    op.create_index("idempotency_expiring", "idempotency", ["expires_at"], unique=False)
    op.create_table(
        "job_labels",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", "value", "job_id", name=op.f("job_labels_pk")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("group_id", ID, nullable=True),
        sa.Column("group_index", sa.Integer(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("run_deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("run_timeout_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_attempt", sa.Integer(), nullable=True),
        sa.Column("result_pack_id", ID, nullable=True),
        sa.Column("result_offset_bytes", sa.BigInteger(), nullable=True),
        sa.Column("result_length_bytes", sa.BigInteger(), nullable=True),
        sa.Column("result_digest", sa.Text(), nullable=True),
        sa.Column("retry_of", ID, nullable=True),
        sa.CheckConstraint(
            "(state = 'failed') = (error_code IS NOT NULL)"
            " AND (error_code IS NULL) = (error_message IS NULL)"
            " AND (error_code IS NULL) = (error_attempt IS NULL)",
            name=op.f("jobs_failed_has_error"),
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'running')) = (finished_at IS NULL)",
            name=op.f("jobs_terminal_has_end"),
        ),
        sa.CheckConstraint(
            "kind IN ('inference', 'bulk', 'training', 'evaluation')", name=op.f("jobs_kind_known")
        ),
        sa.CheckConstraint(
            "result_pack_id IS NULL OR (state = 'succeeded' AND result_offset_bytes >= 0"
            " AND result_length_bytes >= 0 AND result_digest IS NOT NULL)",
            name=op.f("jobs_result_is_whole"),
        ),
        sa.CheckConstraint(
            "state <> 'cancelled' OR cancel_requested_at IS NOT NULL",
            name=op.f("jobs_cancelled_was_asked"),
        ),
        sa.CheckConstraint(
            "state <> 'queued' OR (session_id IS NULL AND started_at IS NULL"
            " AND run_deadline_at IS NULL AND cancel_requested_at IS NULL"
            " AND attempts < max_attempts)",
            name=op.f("jobs_queued_is_nobodys"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (session_id IS NOT NULL AND epoch >= 1"
            " AND started_at IS NOT NULL AND run_deadline_at IS NOT NULL)",
            name=op.f("jobs_running_has_session"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')",
            name=op.f("jobs_state_known"),
        ),
        sa.CheckConstraint(
            "(group_id IS NULL) = (group_index IS NULL)", name=op.f("jobs_group_and_index")
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("jobs_priority_in_range")),
        sa.CheckConstraint(
            "seq >= 1 AND epoch >= 0 AND losses >= 0 AND max_attempts >= 1"
            " AND attempts BETWEEN 0 AND max_attempts",
            name=op.f("jobs_counters_in_range"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pk")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.01"},
    )
    op.create_index(
        "jobs_backlog",
        "jobs",
        ["pool", "tenant", "rank", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND published_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND published_at IS NULL"),
    )
    op.create_index(
        "jobs_expiring",
        "jobs",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND finished_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND finished_at IS NULL"),
    )
    op.create_index(
        "jobs_of_group",
        "jobs",
        ["group_id", "group_index", "state"],
        unique=False,
        sqlite_where=sa.text("group_id IS NOT NULL"),
        postgresql_where=sa.text("group_id IS NOT NULL"),
    )
    op.create_index("jobs_of_model", "jobs", ["tenant", "model_name", "id"], unique=False)
    op.create_index("jobs_of_tenant", "jobs", ["tenant", "id"], unique=False)
    op.create_index(
        "jobs_of_tenant_by_state",
        "jobs",
        ["tenant", "state", "id"],
        unique=False,
        sqlite_where=sa.text("result_pack_id IS NULL"),
        postgresql_where=sa.text("result_pack_id IS NULL"),
    )
    op.create_index(
        "jobs_queued_of_version",
        "jobs",
        ["version_id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND session_id IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND session_id IS NULL"),
    )
    op.create_index(
        "jobs_running",
        "jobs",
        ["run_deadline_at"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "jobs_window",
        "jobs",
        ["pool", "tenant", "published_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
        postgresql_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
    )
    op.create_table(
        "models",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("latest_version >= 1", name=op.f("models_latest_in_range")),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("models_pk")),
    )
    op.create_table(
        "packs",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('input', 'result')", name=op.f("packs_kind_known")),
        sa.CheckConstraint(
            "state IN ('writing', 'live', 'doomed')", name=op.f("packs_state_known")
        ),
        sa.CheckConstraint("entries >= 0 AND size_bytes >= 0", name=op.f("packs_sizes_in_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("packs_pk")),
        sa.UniqueConstraint("object_key", name=op.f("packs_object_key_once")),
    )
    op.create_index(
        "packs_doomed",
        "packs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'doomed'"),
        postgresql_where=sa.text("state = 'doomed'"),
    )
    op.create_index(
        "packs_writing",
        "packs",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'writing'"),
        postgresql_where=sa.text("state = 'writing'"),
    )
    op.create_table(
        "payloads",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("pack_id", ID, nullable=True),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=True),
        sa.Column("length_bytes", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(body IS NULL) <> (pack_id IS NULL) AND (pack_id IS NULL) = (digest IS NULL)"
            " AND (pack_id IS NULL) = (offset_bytes IS NULL)"
            " AND (pack_id IS NULL) = (length_bytes IS NULL)",
            name=op.f("payloads_inline_or_packed"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("payloads_pk")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("jobs_per_s", DOUBLE, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "lease_until >= started_at AND jobs_per_s >= 0", name=op.f("sessions_lease_in_range")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pk")),
    )
    op.create_index(
        "sessions_ended",
        "sessions",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "sessions_live",
        "sessions",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("tenants_pk")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("api_keys_tenant_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pk")),
        sa.UniqueConstraint("key_hash", name=op.f("api_keys_key_hash_once")),
    )
    op.create_table(
        "versions",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("loaded_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'broken') = (error IS NOT NULL)", name=op.f("versions_broken_says_why")
        ),
        sa.CheckConstraint(
            "(state = 'ready') = (loaded_at IS NOT NULL)", name=op.f("versions_ready_was_loaded")
        ),
        sa.CheckConstraint("format = 'keras' OR trusted", name=op.f("versions_others_are_trusted")),
        sa.CheckConstraint(
            "format IN ('keras', 'h5', 'saved_model')", name=op.f("versions_format_known")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'ready', 'broken')", name=op.f("versions_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "name"], ["models.tenant", "models.name"], name=op.f("versions_tenant_fk")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("versions_pk")),
        sa.UniqueConstraint("tenant", "name", "version", name=op.f("versions_tenant_once")),
    )
    op.create_index(
        "versions_pending",
        "versions",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "aliases",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "name", "version"],
            ["versions.tenant", "versions.name", "versions.version"],
            name=op.f("aliases_tenant_fk"),
        ),
        sa.PrimaryKeyConstraint("tenant", "name", "alias", name=op.f("aliases_pk")),
    )
