"""What was learned of each version, suspicions of jobs, and what a worker counted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
DOUBLE = sa.Float(53).with_variant(postgresql.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    # As text: a column that brings its own check is the one way to add a check in SQLite.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN suspicions integer DEFAULT 0 NOT NULL"
        " CONSTRAINT jobs_suspicions_in_range CHECK (suspicions >= 0)"
    )
    op.add_column("sessions", sa.Column("stats", sa.Text(), nullable=True))
    op.create_table(
        "latency",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("mean_s", DOUBLE, nullable=False),
        sa.Column("p95_s", DOUBLE, nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "bucket >= 1 AND count >= 0 AND mean_s >= 0 AND p95_s >= 0",
            name=op.f("latency_measures_in_range"),
        ),
        sa.PrimaryKeyConstraint("version_id", "device", "shape", "bucket", name=op.f("latency_pk")),
    )
    op.create_table(
        "version_costs",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("device_s_per_job", DOUBLE, nullable=False),
        sa.Column("path_s_per_job", DOUBLE, nullable=False),
        sa.Column("load_s", DOUBLE, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("safe_rows", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "device_s_per_job >= 0 AND path_s_per_job >= 0 AND load_s >= 0"
            " AND memory_bytes >= 0 AND safe_rows >= 1",
            name=op.f("version_costs_measures_in_range"),
        ),
        sa.PrimaryKeyConstraint("version_id", "device", name=op.f("version_costs_pk")),
    )
