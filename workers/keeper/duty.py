"""The shape that every duty has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

from storage.database import Database
from storage.objects import Objects

_NOT_DONE = (
    "limit",
    "ahead",
    "under_way",
    "behind",
)  # fields of counts that say what is left, not what was done


class Config(Protocol):
    """How often a duty runs; each duty's own adds what it needs.

    One that must not take all it can get while it has much to do also has ``again_s``: the pause
    between two runs as long as there is more. Without it there is none.
    """

    @property
    def every_s(self) -> float: ...


class Counts(Protocol):
    """What one run did, a frozen dataclass of integers."""

    @property
    def more(self) -> bool:
        """Whether a limit was reached, so that there is more to do at once.

        That is also what it means to be behind. Counts of a duty that is to run again soon though
        it keeps up have a property ``clear`` beside it: whether it left nothing that was due.
        """
        ...


class Duty(Protocol):
    """One background duty.

    One that has something under way between its runs also has ``close(database)``, which the
    keeper calls when it ends.
    """

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


def pause_s(config: Config, *, more: bool) -> float:
    """How long a duty rests after a run."""
    return float(getattr(config, "again_s", 0.0)) if more else config.every_s


def is_clear(counts: Counts) -> bool:
    """Whether the run left nothing to do."""
    return bool(getattr(counts, "clear", not counts.more))


def as_fields(counts: Any) -> dict[str, int]:
    """For a log line: what was done."""
    names = (one.name for one in fields(counts) if one.name not in _NOT_DONE)
    return {name: getattr(counts, name) for name in names}
