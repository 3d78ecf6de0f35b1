"""Webhooks: endpoints, events, deliveries; when a group is complete; what keepers got done."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    for table in ("jobs", "live", "groups"):
        op.add_column(table, sa.Column("webhook_id", ID, nullable=True))
    op.add_column("groups", sa.Column("settled", sa.Integer(), server_default="0", nullable=False))
    op.add_column("groups", sa.Column("completed_at", sa.BigInteger(), nullable=True))
    # Nobody could ask to be told of those that are complete already.
    op.execute(
        "UPDATE groups SET settled = total, completed_at = COALESCE((SELECT max(ends.finished_at)"
        " FROM ends WHERE ends.group_id = groups.id), created_at) WHERE NOT EXISTS"
        " (SELECT 1 FROM live WHERE live.group_id = groups.id)"
    )
    _partial("groups_open", "groups", ["id"], "completed_at IS NULL")
    _partial("payloads_of_pack", "payloads", ["pack_id"], "pack_id IS NOT NULL")
    _create_endpoints()
    _create_events()
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("every_ms", sa.BigInteger(), nullable=False),
        sa.Column("ran_at", sa.BigInteger(), nullable=False),
        sa.Column("clear_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="duties_pk"),
    )


def _create_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("paused_until", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="webhook_endpoints_pk"),
        sa.CheckConstraint("failures >= 0 AND paused_until >= 0", name="counters_in_range"),
        sa.CheckConstraint("enabled = (disabled_reason IS NULL)", name="disabled_says_why"),
    )
    op.create_index("webhook_endpoints_of_tenant", "webhook_endpoints", ["tenant", "id"])
    op.create_table(
        "webhook_filters",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("endpoint_id", ID, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "type", "endpoint_id", name="webhook_filters_pk"),
    )
    op.create_index("webhook_filters_of_endpoint", "webhook_filters", ["endpoint_id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("endpoint_id", ID, nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="webhook_secrets_pk"),
    )
    op.create_index("webhook_secrets_of_tenant", "webhook_secrets", ["tenant", "id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("group_id", ID, nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="events_pk"),
    )
    op.create_index("events_of_tenant", "events", ["tenant", "created_at", "id"])
    op.create_table(
        "deliveries",
        sa.Column("event_id", ID, nullable=False),
        sa.Column("endpoint_id", ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "endpoint_id", name="deliveries_pk"),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name="state_known"),
        sa.CheckConstraint("attempts >= 0", name="attempts_in_range"),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02"},
    )
    _partial("deliveries_pending", "deliveries", ["endpoint_id", "due_at"], "state = 'pending'")
    op.create_table(
        "webhook_attempts",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("endpoint_id", ID, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="webhook_attempts_pk"),
        sa.CheckConstraint("number >= 1 AND duration_ms >= 0", name="counters_in_range"),
    )
    op.create_index("webhook_attempts_of_endpoint", "webhook_attempts", ["endpoint_id", "id"])


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
