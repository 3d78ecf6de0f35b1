"""The backlog is found by priority: an aged bulk backlog does not lie before online jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("jobs_backlog", table_name="jobs")
    op.create_index(
        "jobs_backlog",
        "jobs",
        ["pool", "tenant", "priority", "rank", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND published_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND published_at IS NULL"),
    )
