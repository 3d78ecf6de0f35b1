"""Secrets: a tenant's, and those that endpoints have of their own. Two are good at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.jobs import Millis
from storage.records.webhooks import Secret

ADD_SECRET = Statement(
    "A secret.",
    """
    INSERT INTO webhook_secrets (id, tenant, endpoint_id, secret, created_at)
    VALUES (:id, :tenant, :endpoint, :secret, :now)
    """,
)

RETIRE = Statement(
    "Older secrets end: the newest of them after a while, those that end already at once.",
    """
    UPDATE webhook_secrets SET
        expires_at = CASE WHEN expires_at IS NULL THEN CAST(:until AS bigint) ELSE 0 END
    WHERE tenant = :tenant AND COALESCE(CAST(endpoint_id AS text), '') = :whose
    """,
)

ENDED_SECRETS = Statement(
    "Secrets that have ended are deleted.",
    "DELETE FROM webhook_secrets WHERE tenant = :tenant AND expires_at <= :now",
)

GOOD = Statement(
    "Secrets of tenants that are still good, the one that nothing has replaced first.",
    """
    SELECT s.id, s.tenant, s.endpoint_id, s.secret, s.created_at, s.expires_at
    FROM {rows} AS r JOIN webhook_secrets AS s ON s.tenant = r.tenant
    WHERE s.expires_at IS NULL OR s.expires_at > :now
    ORDER BY CASE WHEN s.expires_at IS NULL THEN 0 ELSE 1 END, s.id DESC
    """,
    {"tenant": "text"},
)


class Secrets(Store):
    """What deliveries are signed with."""

    def secrets(self, tenants: Iterable[str]) -> dict[tuple[str, str | None], list[Secret]]:
        """Good ones by (tenant, endpoint), the newest first; of a tenant itself under ``None``."""
        rows = self._work.table([{"tenant": one} for one in sorted(set(tenants))])
        found: dict[tuple[str, str | None], list[Secret]] = {}
        for row in self._work.rows(GOOD, rows=rows):
            found.setdefault((row.tenant, row.endpoint_id), []).append(_secret_of(row))
        return found

    def ensure_secret(self, tenant: str, secret_id: str, secret: str) -> Secret:
        """The tenant's newest secret; ``secret`` becomes it if there is none yet.

        Hold the tenant's row before (``tenants.hold``), or two of them may be first.
        """
        known = self.secrets([tenant]).get((tenant, None))
        return known[0] if known else self._add(tenant, None, secret_id, secret)

    def rotate(
        self, tenant: str, endpoint_id: str | None, secret_id: str, secret: str, overlap_ms: int
    ) -> Secret:
        """A new secret; the one before is good, and signed with as well, for ``overlap_ms``."""
        until: Millis = self._work.now() + overlap_ms
        whose = endpoint_id or ""
        self._work.count(RETIRE, tenant=tenant, whose=whose, until=until)
        self._work.count(ENDED_SECRETS, tenant=tenant)
        return self._add(tenant, endpoint_id, secret_id, secret)

    def _add(self, tenant: str, endpoint_id: str | None, secret_id: str, secret: str) -> Secret:
        self._work.count(
            ADD_SECRET, id=secret_id, tenant=tenant, endpoint=endpoint_id, secret=secret
        )
        return Secret(secret_id, tenant, endpoint_id, secret, self._work.now(), None)


def _secret_of(row: Row[Any]) -> Secret:
    return Secret(row.id, row.tenant, row.endpoint_id, row.secret, row.created_at, row.expires_at)
