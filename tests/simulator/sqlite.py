"""The same runs on real SQLite: a migrated file in memory, copied for every run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from storage.clock import Clock
from storage.database import Database
from tests.simulator.pictures import OfSqlite
from tests.simulator.world import Maker

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def databases() -> Iterator[Maker]:
    """Gives what ``World`` takes as ``make``."""
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="forebay-simulator-", dir=where) as folder:
        template, path = Path(folder) / "template.db", Path(folder) / "run.db"
        migrated = Database.open(f"sqlite:///{template}")
        migrated.migrate()
        migrated.close()
        yield lambda clock: _open(template, path, clock)


def _open(template: Path, path: Path, clock: Clock) -> tuple[Any, OfSqlite]:
    for old in path.parent.glob("run.db*"):
        old.unlink()
    shutil.copyfile(template, path)
    database = Database.open(f"sqlite:///{path}", clock=clock)
    event.listen(database._engines.writing, "connect", _no_disk)
    return database, OfSqlite(str(path))


def _no_disk(connection: Any, _entry: object) -> None:
    """Nothing here survives the process anyway."""
    connection.execute("PRAGMA synchronous = OFF").close()
