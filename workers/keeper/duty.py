"""The shape that every duty has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

from storage.database import Database
from storage.objects import Objects


class Config(Protocol):
    """How often a duty runs; each duty's own adds what it needs."""

    @property
    def every_s(self) -> float: ...


class Counts(Protocol):
    """What one run did, a frozen dataclass of integers."""

    @property
    def more(self) -> bool:
        """Whether a limit was reached, so that there is more to do at once."""
        ...


class Duty(Protocol):
    """One background duty."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Config: ...

    def run_once(self, database: Database, objects: Objects) -> Counts:
        """One bounded piece of work."""
        ...


@dataclass(frozen=True, slots=True)
class Moved:
    """Counts of a duty that moves rows of one kind."""

    rows: int
    limit: int

    @property
    def more(self) -> bool:
        return self.rows >= self.limit


def as_fields(counts: Any) -> dict[str, int]:
    """For a log line."""
    return {one.name: getattr(counts, one.name) for one in fields(counts) if one.name != "limit"}
