"""Idempotency keys: a repeated request is one request, for as long as its key is remembered."""

from __future__ import annotations

from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import refuse_nul
from storage.records.tenants import Remembered

REMEMBER = Statement(
    "A key is new, or its time has passed; a concurrent twin waits here for the first to commit.",
    """
    INSERT INTO idempotency (tenant, key, fingerprint, ref, expires_at)
    VALUES (:tenant, :key, :fingerprint, :ref, :expires_at)
    ON CONFLICT (tenant, key) DO UPDATE SET fingerprint = excluded.fingerprint,
        ref = excluded.ref, expires_at = excluded.expires_at
    WHERE idempotency.expires_at <= :now
    RETURNING ref
    """,
)

RECALL = Statement(
    "What a key stands for.",
    "SELECT fingerprint, ref FROM idempotency WHERE tenant = :tenant AND key = :key",
)

RECALL_NOW = Statement(
    "What a key stands for, if its time has not passed.",
    """
    SELECT fingerprint, ref FROM idempotency
    WHERE tenant = :tenant AND key = :key AND expires_at > :now
    """,
)

FORGET = Statement(
    "Keys whose time has passed.",
    """
    DELETE FROM idempotency WHERE (tenant, key) IN (
        SELECT i.tenant, i.key FROM idempotency AS i
        WHERE i.expires_at <= :now ORDER BY i.expires_at LIMIT :limit)
        AND expires_at <= :now
    """,
)


class Idempotency(Store):
    """Requests that may be repeated."""

    def remember(
        self, tenant: str, key: str, fingerprint: str, ref: str, ttl_ms: int
    ) -> Remembered | None:
        """``None`` when the key is new and now stands for ``ref``; else what it stands for.

        Called first in the transaction that does the work: a twin of the request waits until
        that one is committed, and then sees its outcome; if it is rolled back, the twin is new.
        """
        work = self._work
        refuse_nul(key, field="Idempotency-Key")
        now = work.now()
        stored = work.change(
            REMEMBER,
            tenant=tenant,
            key=key,
            fingerprint=fingerprint,
            ref=ref,
            now=now,
            expires_at=now + ttl_ms,
        )
        if stored:
            return None
        row = work.row(RECALL, tenant=tenant, key=key)
        assert row is not None
        return Remembered(row.fingerprint, row.ref)

    def recall(self, tenant: str, key: str) -> Remembered | None:
        """What the key stands for now, without waiting for a twin that is still being written."""
        refuse_nul(key, field="Idempotency-Key")
        row = self._work.row(RECALL_NOW, tenant=tenant, key=key, now=self._work.now())
        return None if row is None else Remembered(row.fingerprint, row.ref)

    def forget_expired(self, limit: int = 1000) -> int:
        """Delete keys whose time has passed."""
        return self._work.count(FORGET, now=self._work.now(), limit=limit)
