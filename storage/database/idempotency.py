"""Idempotency keys: a repeated request is one request, for as long as its key is remembered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import refuse_nul
from storage.records.tenants import Remembered

_KEYS = {"tenant": "text", "key": "text"}

REMEMBER = Statement(
    "Keys that are new, or whose time has passed; a concurrent twin of one waits here for the"
    " first to commit. In the keys' order, so that two statements never wait in a circle.",
    """
    INSERT INTO idempotency (tenant, key, fingerprint, ref, expires_at)
    SELECT r.tenant, r.key, r.fingerprint, r.ref, :now + CAST(:ttl_ms AS bigint)
    FROM {rows} AS r WHERE true ORDER BY r.tenant, r.key
    ON CONFLICT (tenant, key) DO UPDATE SET fingerprint = excluded.fingerprint,
        ref = excluded.ref, expires_at = excluded.expires_at
    WHERE idempotency.expires_at <= :now
    RETURNING tenant, key
    """,
    {**_KEYS, "fingerprint": "text", "ref": "text"},
)

# One probe of the index a key: a join would be planned while the table was small, and that plan
# kept. A fingerprint holds no space.
_RECALL = """
    SELECT r.tenant, r.key, (
        SELECT i.fingerprint || ' ' || i.ref FROM idempotency AS i
        WHERE i.tenant = r.tenant AND i.key = r.key {unless}
    ) AS known
    FROM {{rows}} AS r
"""
RECALL = Statement("What keys stand for.", _RECALL.format(unless=""), _KEYS)
RECALL_NOW = Statement(
    "What keys stand for, unless their time has passed.",
    _RECALL.format(unless="AND i.expires_at > :now"),
    _KEYS,
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
        return self.remember_each({(tenant, key): Remembered(fingerprint, ref)}, ttl_ms).get(
            (tenant, key)
        )

    def remember_each(
        self, given: Mapping[tuple[str, str], Remembered], ttl_ms: int
    ) -> dict[tuple[str, str], Remembered]:
        """The same for many (tenant, key) at once: those that were not new, and what they mean."""
        work = self._work
        rows = [
            {**row, "fingerprint": one.fingerprint, "ref": one.ref}
            for row, one in zip(_rows_of(given), given.values(), strict=True)
        ]
        if not rows:
            return {}
        stored = work.change(REMEMBER, rows=work.table(rows), ttl_ms=ttl_ms)
        taken = {(row.tenant, row.key) for row in stored}
        # Whatever was in the way counts, though its time may have passed by now.
        return self._recall(RECALL, [pair for pair in given if pair not in taken])

    def recall(self, tenant: str, key: str) -> Remembered | None:
        """What the key stands for now, without waiting for a twin that is still being written."""
        return self.recall_each([(tenant, key)]).get((tenant, key))

    def recall_each(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Remembered]:
        """The same for many (tenant, key) at once; unknown ones are left out."""
        return self._recall(RECALL_NOW, pairs)

    def _recall(
        self, statement: Statement, pairs: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], Remembered]:
        if not pairs:
            return {}
        found = self._work.rows(statement, rows=self._work.table(_rows_of(pairs)))
        return {
            (row.tenant, row.key): Remembered(*row.known.split(" ", 1))
            for row in found
            if row.known is not None
        }

    def forget_expired(self, limit: int = 1000) -> int:
        """Delete keys whose time has passed."""
        return self._work.count(FORGET, now=self._work.now(), limit=limit)


def _rows_of(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    for _, key in pairs:
        refuse_nul(key, field="Idempotency-Key")
    return [{"tenant": tenant, "key": key} for tenant, key in pairs]
