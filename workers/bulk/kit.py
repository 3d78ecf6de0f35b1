"""What bulk scoring is put together from: the parts of its process's pipeline, and places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.errors import ForebayError
from workers.bulk.places import Places
from workers.inference.refs import RefReader
from workers.patience import Patience
from workers.patience import Stopped as Stopped


class Failed(Exception):
    """The run cannot go on, whoever tries: its job is to fail with this."""

    def __init__(self, error: ForebayError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit(Patience):
    """Shared by all threads of a process's bulk side."""

    database: Database
    objects: Objects
    places: Places
    refs: RefReader
    clock: Clock
    pool: str
    spool: Path  # a folder of this process for parts that are being written
    retention_days: int
