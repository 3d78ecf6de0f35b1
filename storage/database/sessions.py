"""Sessions: a worker process's lease on the database's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import is_id
from storage.records.sessions import NewSession, Session

_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS

OPEN = Statement(
    "A worker process starts.",
    """
    INSERT INTO sessions (id, node, host, device, pool, started_at, lease_until, jobs_per_s)
    VALUES (:id, :node, :host, :device, :pool, :now, :lease_until, 0)
    """,
)

RENEW = Statement(
    "The lease goes on, unless it has passed or was ended: it never comes back to life.",
    """
    UPDATE sessions SET lease_until = :lease_until, jobs_per_s = :jobs_per_s,
        stats = COALESCE(CAST(:stats AS text), stats)
    WHERE id = :id AND ended_at IS NULL AND lease_until > :now
    """,
)

CLOSE = Statement(
    "The process is done; what it still runs is the reaper's.",
    """
    UPDATE sessions SET ended_at = :now, stats = COALESCE(CAST(:stats AS text), stats)
    WHERE id = :id AND ended_at IS NULL
    """,
)

LIVE = Statement(
    "Sessions under a lease.",
    """
    SELECT id, node, host, device, pool, started_at, lease_until, jobs_per_s, ended_at, stats
    FROM sessions WHERE ended_at IS NULL AND lease_until > :now ORDER BY id
    """,
)

FORGET = Statement(
    "Sessions that ended long ago and run nothing.",
    """
    DELETE FROM sessions WHERE id IN (
        SELECT s.id FROM sessions AS s
        WHERE s.ended_at IS NOT NULL AND s.ended_at <= :before
        ORDER BY s.ended_at LIMIT :limit
    ) AND NOT EXISTS (
        SELECT 1 FROM live AS j WHERE j.state = 'running' AND j.session_id = sessions.id)
    AND NOT EXISTS (
        SELECT 1 FROM bulk_shards AS b WHERE b.state = 'running' AND b.session_id = sessions.id)
    """,
)


class Sessions(Store):
    """The leases."""

    def open(self, session: NewSession, lease_ttl_ms: int) -> Session:
        """Begin a session under a lease of ``lease_ttl_ms``."""
        now = self._work.now()
        opened = Session(
            session.id,
            session.node,
            session.host,
            session.device,
            session.pool,
            started_at=now,
            lease_until=now + lease_ttl_ms,
            jobs_per_s=0.0,
            ended_at=None,
        )
        self._work.count(
            OPEN,
            id=opened.id,
            node=opened.node,
            host=opened.host,
            device=opened.device,
            pool=opened.pool,
            now=now,
            lease_until=opened.lease_until,
        )
        return opened

    def renew(
        self,
        session_id: str,
        lease_ttl_ms: int,
        jobs_per_s: float,
        stats: Mapping[str, object] | None = None,
    ) -> bool:
        """Prolong the lease; ``False`` means that it is over and a new session is needed.

        ``stats`` replaces what the process said of itself before; ``None`` leaves it.
        """
        now = self._work.now()
        renewed = self._work.count(
            RENEW,
            id=session_id,
            now=now,
            lease_until=now + lease_ttl_ms,
            jobs_per_s=max(0.0, jobs_per_s),
            stats=_stored(stats),
        )
        return renewed == 1

    def close(self, session_id: str, stats: Mapping[str, object] | None = None) -> None:
        """End the session at once; the reaper requeues what it still runs."""
        if is_id(session_id):
            self._work.count(CLOSE, id=session_id, now=self._work.now(), stats=_stored(stats))

    def live(self, pool: str | None = None) -> list[Session]:
        """Sessions under a lease, of one pool or of all."""
        rows = self._work.rows(LIVE, now=self._work.now())
        return [_session_of(row) for row in rows if pool is None or row.pool == pool]

    def forget(self, ended_before_ms: int, limit: int = 1000) -> int:
        """Delete rows of sessions that ended ``ended_before_ms`` ago or longer."""
        before = self._work.now() - ended_before_ms
        return self._work.count(FORGET, before=before, limit=limit)


def _stored(stats: Mapping[str, object] | None) -> str | None:
    return None if stats is None else orjson.dumps(dict(stats), option=_JSON_OPTIONS).decode()


def _session_of(row: Row[Any]) -> Session:
    return Session(
        row.id,
        row.node,
        row.host,
        row.device,
        row.pool,
        row.started_at,
        row.lease_until,
        row.jobs_per_s,
        row.ended_at,
        orjson.loads(row.stats) if row.stats else {},
    )
