"""Training runs with what they measured and said; versions that a training is to fill in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")

_STATE = "state IN ('training', 'pending', 'ready', 'broken')"
_WHOLE = (
    "(digest = '') = (object_key = '') AND (digest <> '' OR size_bytes = 0)"
    " AND (state <> 'training' OR digest = '')"
    " AND (digest <> '' OR state IN ('training', 'broken'))"
)
_OF_VERSIONS = """
    id, tenant, name, version, state, format, digest, size_bytes, object_key, signature, trusted,
    error, created_at, loaded_at
"""
_OF_ALIASES = "tenant, name, alias, version, generation, updated_at"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("versions_state_known"), "versions", type_="check")
        op.create_check_constraint("state_known", "versions", _STATE)
        op.create_check_constraint("artifact_is_whole", "versions", _WHOLE)
        op.add_column("versions", sa.Column("origin", sa.Text(), nullable=True))
    else:
        _make_versions_anew()
    _partial("versions_training", "versions", ["created_at"], "state = 'training'")
    _create_runs()
    _create_measures_and_log()


def _make_versions_anew() -> None:
    """SQLite changes no CHECK. Aliases point to versions, so they step aside first: a table that
    somebody points to cannot be dropped."""
    op.execute(f"CREATE TABLE aliases_before AS SELECT {_OF_ALIASES} FROM aliases")
    op.drop_table("aliases")
    op.drop_index("versions_pending", table_name="versions")
    op.rename_table("versions", "versions_before")
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
        sa.Column("origin", sa.Text(), nullable=True),
        sa.CheckConstraint(_STATE, name="state_known"),
        sa.CheckConstraint("format IN ('keras', 'h5', 'saved_model')", name="format_known"),
        sa.CheckConstraint("format = 'keras' OR trusted", name="others_are_trusted"),
        sa.CheckConstraint("(state = 'broken') = (error IS NOT NULL)", name="broken_says_why"),
        sa.CheckConstraint("(state = 'ready') = (loaded_at IS NOT NULL)", name="ready_was_loaded"),
        sa.CheckConstraint(_WHOLE, name="artifact_is_whole"),
        sa.ForeignKeyConstraint(
            ["tenant", "name"], ["models.tenant", "models.name"], name=op.f("versions_tenant_fk")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("versions_pk")),
        sa.UniqueConstraint("tenant", "name", "version", name=op.f("versions_tenant_once")),
    )
    op.execute(
        f"INSERT INTO versions ({_OF_VERSIONS}) SELECT {_OF_VERSIONS} FROM versions_before"
        " ORDER BY id"
    )
    op.drop_table("versions_before")
    _partial("versions_pending", "versions", ["created_at"], "state = 'pending'")
    _make_aliases_anew()


def _make_aliases_anew() -> None:
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
    op.execute(f"INSERT INTO aliases ({_OF_ALIASES}) SELECT {_OF_ALIASES} FROM aliases_before")
    op.drop_table("aliases_before")


def _create_runs() -> None:
    op.create_table(
        "training_runs",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("progressed_at", sa.BigInteger(), nullable=True),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("checkpoint_pack_id", ID, nullable=True),
        sa.Column("checkpoint_key", sa.Text(), nullable=True),
        sa.Column("checkpoint_digest", sa.Text(), nullable=True),
        sa.Column("checkpoint_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checkpoint_epoch", sa.Integer(), nullable=True),
        sa.Column("checkpoint_step", sa.BigInteger(), nullable=True),
        sa.Column("checkpoint_at", sa.BigInteger(), nullable=True),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="training_runs_pk"),
        sa.CheckConstraint(
            "(checkpoint_pack_id IS NULL) = (checkpoint_key IS NULL)"
            " AND (checkpoint_pack_id IS NULL) = (checkpoint_digest IS NULL)"
            " AND (checkpoint_pack_id IS NULL) = (checkpoint_bytes IS NULL)"
            " AND (checkpoint_pack_id IS NULL) = (checkpoint_epoch IS NULL)"
            " AND (checkpoint_pack_id IS NULL) = (checkpoint_step IS NULL)"
            " AND (checkpoint_pack_id IS NULL) = (checkpoint_at IS NULL)",
            name="checkpoint_is_whole",
        ),
        sa.CheckConstraint(
            "lines >= 0 AND deaths >= 0 AND (checkpoint_pack_id IS NULL OR checkpoint_bytes >= 0"
            " AND checkpoint_epoch >= 0 AND checkpoint_step >= 0)",
            name="counters_in_range",
        ),
        sa.CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_is_whole"),
        sa.CheckConstraint(
            "(progress IS NULL) = (progressed_at IS NULL)", name="progress_has_time"
        ),
    )
    op.create_index("training_runs_of_version", "training_runs", ["version_id"])
    _partial(
        "training_runs_of_pack",
        "training_runs",
        ["checkpoint_pack_id"],
        "checkpoint_pack_id IS NOT NULL",
    )


def _create_measures_and_log() -> None:
    op.create_table(
        "training_measures",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "step", "scope", name="training_measures_pk"),
        sa.CheckConstraint("scope IN ('steps', 'epoch')", name="scope_known"),
        sa.CheckConstraint("step >= 0", name="step_in_range"),
    )
    op.create_table(
        "training_log",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="training_log_pk"),
        sa.CheckConstraint("number >= 1", name="number_in_range"),
    )


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
