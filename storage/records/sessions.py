"""Sessions: one row per worker process start, and the lease that fences it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.records.jobs import Millis

LEASE_TTL_MS = 15_000
RENEW_EVERY_MS = 5_000


@dataclass(frozen=True, slots=True)
class NewSession:
    """A worker process that starts."""

    id: str
    node: str  # the Celery node name
    host: str
    device: str  # "cpu", "gpu:0"
    pool: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session's row. Live while ``lease_until`` is ahead and ``ended_at`` is empty."""

    id: str
    node: str
    host: str
    device: str
    pool: str
    started_at: Millis
    lease_until: Millis
    jobs_per_s: float  # what it finished lately; sizes the ready window
    ended_at: Millis | None
    stats: Mapping[str, object] = field(default_factory=dict)  # what the process counted so far


def processes(sessions: Iterable[Session]) -> list[Session]:
    """The newest session of each process: one that had to open another left the old one behind,
    under a lease for a few seconds more."""
    newest: dict[tuple[str, str, str], Session] = {}
    for session in sorted(sessions, key=lambda one: (one.started_at, one.id)):
        newest[session.host, session.node, session.device] = session
    return list(newest.values())
