"""What the embedded mode does at its start, alone in a home that it has locked.

Nobody else can be alive there, so nothing has to be waited for: sessions of the run before are
ended, their jobs queued again, and what was published to the in-process broker, which died with
its process, goes back to the backlog.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.database import Database
from storage.database.transaction import Transaction

_LIMIT = 1000


def recover_alone(database: Database) -> int:
    """How many jobs went back to the backlog. Never call it where other workers may live."""
    with database.read() as tx:
        sessions = tx.sessions.live()
    for session in sessions:
        with database.begin() as tx:
            tx.sessions.close(session.id)
    return _drain(database, lambda tx: tx.jobs.reap(limit=_LIMIT)) + _drain(
        database, lambda tx: tx.jobs.sweep(0, limit=_LIMIT)
    )


def _drain(database: Database, duty: Callable[[Transaction], int]) -> int:
    total = 0
    while True:
        with database.begin() as tx:
            moved = duty(tx)
        total += moved
        if moved < _LIMIT:
            return total
