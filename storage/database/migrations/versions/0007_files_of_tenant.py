"""Files are listed: a tenant's by age."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("files_of_tenant", "files", ["tenant", "id"])
