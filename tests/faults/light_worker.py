"""``python -m tests.faults.light_worker``: ``forebay worker`` whose device processes are light."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from forebay.composition import open_database, require_schema, start_logging
from storage.settings import Settings
from workers.devices import choose
from workers.supervisor import SupervisorParts, run_supervisor


def main(environ: Mapping[str, str]) -> int:
    start_logging()
    settings = Settings.from_environment(environ)
    database = open_database(settings)
    require_schema(database)
    parts = SupervisorParts(
        database=database,
        child_argv=[sys.executable, "-m", "tests.faults.light_device"],
        environ=environ,
        devices=choose("cpu"),
        run_dir=settings.home / "run",
    )
    return run_supervisor(parts)


if __name__ == "__main__":
    sys.exit(main(os.environ))
