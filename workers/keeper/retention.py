"""Retention: what has been kept long enough is deleted, a bounded number of rows at a time.

Jobs go with their inputs and labels when they ended that long ago; of a group all jobs together,
after the group, when the last one did. What is live is never touched, however old. Events go when
nobody waits for their delivery any more, uploaded files when no live job is old enough to need
them. Beside these go rows that nobody reads again: ended sessions, idempotency keys whose time has
passed, the log of webhook attempts, secrets that have ended, endpoints that only jobs brought along
which are gone.

Objects of packs are the business of ``pack_collection``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from storage.database import Database
from storage.database.transaction import Transaction
from storage.objects import Objects

DAY_MS = 86_400_000
Walk: TypeAlias = Callable[[Transaction, str | None], tuple[int, str | None]]


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """How long things are kept, and how much is deleted at once."""

    every_s: float = 60.0  # pause between two runs
    again_s: float = 0.2  # pause between two runs while there is more: others need the disk too
    keep_days: int = 30  # jobs after their end, events and uploaded files
    sessions_kept_s: float = 86_400.0  # ended sessions stay this long, for whoever looks
    limit: int = 1000  # most rows of a kind looked at by one run: 4,000 jobs a second, at most
    files: int = 50  # most uploaded files deleted by one run


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one run deleted."""

    jobs: int
    groups: int
    events: int
    attempts: int
    deliveries: int
    endpoints: int
    secrets: int
    sessions: int
    keys: int
    files: int
    trials: int
    limit: int
    ahead: int  # kinds of rows whose old ones this walk has not all come to yet

    @property
    def more(self) -> bool:
        return self.ahead > 0


class Retention:
    """See the module."""

    name = "retention"

    def __init__(self, config: RetentionConfig | None = None) -> None:
        self.config = config or RetentionConfig()
        self._after: dict[str, str | None] = {}  # how far each kind was looked at; saves looks only

    def run_once(self, database: Database, objects: Objects) -> Forgotten:
        kept_ms, limit = self.config.keep_days * DAY_MS, self.config.limit
        walks: dict[str, Walk] = {
            "groups": lambda tx, after: tx.retention.groups(kept_ms, after=after, limit=limit),
            "jobs": lambda tx, after: tx.retention.jobs(kept_ms, after=after, limit=limit),
            "events": lambda tx, after: tx.retention.events(kept_ms, after=after, limit=limit),
            "endpoints": lambda tx, after: tx.retention.endpoints(after=after, limit=limit),
            "secrets": lambda tx, after: tx.retention.secrets(after=after, limit=limit),
        }
        gone = {name: self._walk(database, name, walk) for name, walk in walks.items()}
        sessions_ms = int(self.config.sessions_kept_s * 1000)
        full: dict[str, Callable[[Transaction], int]] = {
            "attempts": lambda tx: tx.retention.attempts(kept_ms, limit),
            "deliveries": lambda tx: tx.retention.lost_deliveries(limit),
            "sessions": lambda tx: tx.sessions.forget(sessions_ms, limit),
            "keys": lambda tx: tx.idempotency.forget_expired(limit),
            "trials": lambda tx: tx.trials.forget(tx.now() - kept_ms),
        }
        for name, forget in full.items():
            with database.begin() as tx:
                gone[name] = forget(tx)
        gone["files"] = self._files(database, objects, kept_ms)
        ahead = sum(after is not None for after in self._after.values())
        ahead += sum(gone[name] >= limit for name in full)
        ahead += gone["files"] >= self.config.files
        return Forgotten(**gone, limit=limit, ahead=ahead)

    def _walk(self, database: Database, name: str, walk: Walk) -> int:
        with database.begin() as tx:
            gone, self._after[name] = walk(tx, self._after.get(name))
        return gone

    def _files(self, database: Database, objects: Objects, kept_ms: int) -> int:
        """The object first: a crash in between leaves a row that leads the next run here."""
        with database.read() as tx:
            old = tx.retention.files(kept_ms, self.config.files)
        if old:
            objects.delete([file.object_key for file in old])
            with database.begin() as tx:
                tx.retention.forget_files([file.id for file in old])
        return len(old)
