"""What the embedded mode does at its start, alone in a home that it has locked.

Nobody else can be alive there, so nothing has to be waited for: sessions of the run before are
ended, their jobs queued again, and what was published to the in-process broker, which died with
its process, goes back to the backlog.
"""

from __future__ import annotations

from storage.database import Database

_LIMIT = 1000


def recover_alone(database: Database) -> int:
    """How many jobs went back to the backlog. Never call it where other workers may live."""
    with database.read() as tx:
        sessions = tx.sessions.live()
    for session in sessions:
        with database.begin() as tx:
            tx.sessions.close(session.id)
    return _all(database, "reap") + _all(database, "sweep")


def _all(database: Database, what: str) -> int:
    total = 0
    while True:
        with database.begin() as tx:
            if what == "reap":
                moved = tx.jobs.reap(limit=_LIMIT)
            else:
                moved = tx.jobs.sweep(0, limit=_LIMIT)
        total += moved
        if moved < _LIMIT:
            return total
