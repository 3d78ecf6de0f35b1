"""Evaluations of versions, where aliases moved, and candidates tried beside them; versions that are
deprecated or deleted; jobs that take part in a trial."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
DOUBLE = sa.Float(53).with_variant(postgresql.DOUBLE_PRECISION(), "postgresql")

_CHECKS = {
    "state_known": ("state IN ('training', 'pending', 'ready', 'broken', 'deprecated', 'deleted')"),
    "broken_says_why": "state = 'deleted' OR (state = 'broken') = (error IS NOT NULL)",
    "ready_was_loaded": (
        "state = 'deleted' OR (state IN ('ready', 'deprecated')) = (loaded_at IS NOT NULL)"
    ),
    "artifact_is_whole": (
        "(digest = '') = (object_key = '') AND (digest <> '' OR size_bytes = 0)"
        " AND (state <> 'training' OR digest = '')"
        " AND (digest <> '' OR state IN ('training', 'broken', 'deleted'))"
    ),
    "deleted_has_time": (
        "(state = 'deleted') = (deleted_at IS NOT NULL)"
        " AND (collected_at IS NULL OR deleted_at IS NOT NULL)"
    ),
}
_OF_VERSIONS = """
    id, tenant, name, version, state, format, digest, size_bytes, object_key, signature, trusted,
    error, created_at, loaded_at, origin
"""
_OF_ALIASES = "tenant, name, alias, version, generation, updated_at"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for name in ("uploader", "licence", "notes"):
            op.add_column("versions", sa.Column(name, sa.Text(), nullable=True))
        for name in ("deleted_at", "collected_at"):
            op.add_column("versions", sa.Column(name, sa.BigInteger(), nullable=True))
        for name, check in _CHECKS.items():
            if name != "deleted_has_time":
                op.drop_constraint(op.f(f"versions_{name}"), "versions", type_="check")
            op.create_check_constraint(name, "versions", check)
    else:
        _make_versions_anew()
    _partial(
        "versions_deleted",
        "versions",
        ["deleted_at"],
        "collected_at IS NULL AND deleted_at IS NOT NULL",
    )
    _create_evaluations()
    _create_moves()
    _create_trials()
    _mark_jobs()


def _make_versions_anew() -> None:
    """As the step before: SQLite changes no CHECK, and aliases point to versions."""
    op.execute(f"CREATE TABLE aliases_before AS SELECT {_OF_ALIASES} FROM aliases")
    op.drop_table("aliases")
    op.drop_index("versions_pending", table_name="versions")
    op.drop_index("versions_training", table_name="versions")
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
        sa.Column("uploader", sa.Text(), nullable=True),
        sa.Column("licence", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("collected_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("format IN ('keras', 'h5', 'saved_model')", name="format_known"),
        sa.CheckConstraint("format = 'keras' OR trusted", name="others_are_trusted"),
        *(sa.CheckConstraint(check, name=name) for name, check in _CHECKS.items()),
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
    _partial("versions_training", "versions", ["created_at"], "state = 'training'")
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


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data_digest", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="evaluations_pk"),
        sa.CheckConstraint("rows >= 0", name="rows_in_range"),
    )
    op.create_index("evaluations_of_version", "evaluations", ["version_id", "created_at"])


def _create_moves() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.Column("gate", sa.Text(), nullable=True),
        sa.Column("seen", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("moved_by", sa.Text(), nullable=True),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "alias", "generation", name="alias_moves_pk"),
        sa.CheckConstraint("why IN ('set', 'promote', 'rollback')", name="why_known"),
        sa.CheckConstraint("(why = 'rollback') = (undoes IS NOT NULL)", name="rollback_undoes"),
    )
    # What is known of the aliases that there are is where they stand.
    op.execute(
        "INSERT INTO alias_moves (tenant, name, alias, generation, to_version, why, moved_at)"
        " SELECT tenant, name, alias, generation, version, 'set', updated_at FROM aliases"
    )


def _create_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("base_version_id", ID, nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=False),
        sa.Column("candidate_version_id", ID, nullable=False),
        sa.Column("candidate_version", sa.Integer(), nullable=False),
        sa.Column("base_arm_id", ID, nullable=False),
        sa.Column("candidate_arm_id", ID, nullable=False),
        sa.Column("shadow_arm_id", ID, nullable=False),
        sa.Column("share", DOUBLE, nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("repointed", sa.BigInteger(), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("disagreed", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="trials_pk"),
        sa.CheckConstraint("kind IN ('canary', 'shadow')", name="kind_known"),
        sa.CheckConstraint(
            "state IN ('running', 'promoted', 'returned', 'stopped')", name="state_known"
        ),
        sa.CheckConstraint("share > 0 AND share <= 1", name="share_in_range"),
        sa.CheckConstraint(
            "(state = 'running') = (ended_at IS NULL) AND (state = 'running') = (reason IS NULL)"
            " AND (settled_at IS NULL OR ended_at IS NOT NULL)",
            name="ended_says_why",
        ),
        sa.CheckConstraint(
            "repointed >= 0 AND disagreed >= 0 AND compared >= disagreed",
            name="counters_in_range",
        ),
    )
    op.create_index("trials_of_model", "trials", ["tenant", "name", "created_at"])
    _partial("trials_unsettled", "trials", ["id"], "settled_at IS NULL")
    _partial(
        "trials_running", "trials", ["tenant", "name", "alias"], "state = 'running'", unique=True
    )


def _mark_jobs() -> None:
    for table in ("live", "ends"):
        op.add_column(table, sa.Column("arm_id", ID, nullable=True))
    for table in ("jobs", "live", "ends"):
        op.add_column(table, sa.Column("shadow_of", ID, nullable=True))
    _partial("live_of_arm", "live", ["arm_id"], "arm_id IS NOT NULL")
    _partial("ends_of_arm", "ends", ["arm_id", "finished_at"], "arm_id IS NOT NULL")
    _partial("jobs_shadows", "jobs", ["shadow_of"], "shadow_of IS NOT NULL", unique=True)


def _partial(
    name: str, table: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )
