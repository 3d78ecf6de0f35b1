"""Tenants and their keys. A key was printed once; only its hash is here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import is_id
from storage.records.models import check_name
from storage.records.tenants import ApiKey

ENSURE = Statement(
    "A tenant exists.",
    """
    INSERT INTO tenants (name, created_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING
    """,
)

HOLD = Statement(
    "A tenant, which nobody else holds until this transaction ends.",
    "SELECT t.name FROM tenants AS t WHERE t.name = :name {own}",
)

ADD_KEY = Statement(
    "A key of a tenant.",
    """
    INSERT INTO api_keys (id, tenant, key_hash, prefix, created_at)
    VALUES (:id, :tenant, :key_hash, :prefix, :now)
    """,
)

BY_KEY_HASH = Statement(
    "Whose key this is.",
    "SELECT tenant FROM api_keys WHERE key_hash = :key_hash AND revoked_at IS NULL",
)

KEYS = Statement(
    "Every key, as an operator sees it.",
    "SELECT id, tenant, prefix, created_at, revoked_at FROM api_keys ORDER BY id",
)

REVOKE = Statement(
    "A key stops working.",
    "UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL",
)


class Tenants(Store):
    """Who may ask."""

    def ensure(self, name: str) -> None:
        """Make the tenant if it is not there yet."""
        self._work.count(ENSURE, name=check_name(name, field="tenant"), now=self._work.now())

    def hold(self, name: str) -> None:
        """Make others who hold the tenant wait until this transaction ends: what it may have one
        of, or so many of, is counted by one at a time. It is made if it is not there yet."""
        self.ensure(name)
        self._work.change(HOLD, name=name)

    def add_key(self, tenant: str, key_id: str, key_hash: str, prefix: str) -> None:
        """Store a new key's hash for a tenant that exists."""
        self._work.count(
            ADD_KEY,
            id=key_id,
            tenant=tenant,
            key_hash=key_hash,
            prefix=prefix,
            now=self._work.now(),
        )

    def by_key_hash(self, key_hash: str) -> str | None:
        """The tenant whose key has this hash, unless it was revoked."""
        row = self._work.row(BY_KEY_HASH, key_hash=key_hash)
        return None if row is None else row.tenant

    def keys(self, tenant: str | None = None) -> list[ApiKey]:
        """The keys of one tenant or of all, revoked ones included."""
        rows = self._work.rows(KEYS)
        return [_key_of(row) for row in rows if tenant is None or row.tenant == tenant]

    def revoke(self, key_id: str) -> bool:
        """Stop a key; ``False`` when there is none or it was stopped before."""
        if not is_id(key_id):
            return False
        return self._work.count(REVOKE, id=key_id, now=self._work.now()) == 1


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(row.id, row.tenant, row.prefix, row.created_at, row.revoked_at)
