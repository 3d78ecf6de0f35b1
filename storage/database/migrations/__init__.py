"""Migrations: Alembic, run from code. There is no ini file and no command of its own.

One upgrade is one transaction, and on PostgreSQL one at a time: any number of processes may start
at once on an empty database. A revision may rely on data being there; it must run forward on it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from storage.records.errors import Conflict

UPGRADE_LOCK = 0x_F0_4E_BA_11  # any number that no other program on the server uses


def upgrade(connection: Connection, to: str = "head") -> list[str]:
    """Apply what is missing, inside the caller's transaction; the revisions, in order.

    ``Conflict`` with code ``schema_newer`` when the schema was made by a later version of this
    program: it is left as it is.
    """
    if connection.dialect.name == "postgresql":
        # Building an index on ten million rows may take its time; waiting for a lock may not.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
    before = MigrationContext.configure(connection).get_current_revision()
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    known = [step.revision for step in scripts.walk_revisions()]
    if before is not None and before not in known:
        raise Conflict(
            f"the schema is at revision {before}, which this version of Forebay does not know:"
            " install the version that made it, or a later one",
            code="schema_newer",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    steps = scripts.iterate_revisions(to, before or "base")
    return [step.revision for step in reversed(list(steps))]


def is_current(connection: Connection) -> bool:
    """Whether the schema is at the newest revision this code knows."""
    found = MigrationContext.configure(connection).get_current_revision()
    return found == ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
