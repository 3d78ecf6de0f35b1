"""Endpoints: registered by a tenant with event filters, or brought along by a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.ids import LAST_ID, is_id
from storage.records.webhooks import Endpoint, own_endpoint_id

COLUMNS = (
    "e.id, e.tenant, e.url, e.types, e.description, e.listed, e.enabled, e.disabled_reason,"
    " e.failures, e.paused_until, e.created_at"
)

ADD = Statement(
    "An endpoint; the one that is there already stays as it is.",
    """
    INSERT INTO webhook_endpoints (id, tenant, url, types, description, listed, enabled, failures,
        paused_until, created_at)
    SELECT r.id, r.tenant, r.url, r.types, r.description, r.listed, true, 0, 0,
        CAST(:now AS bigint)
    FROM {rows} AS r WHERE true
    ON CONFLICT (id) DO NOTHING
    """,
    {
        "id": "uuid",
        "tenant": "text",
        "url": "text",
        "types": "text",
        "description": "text",
        "listed": "boolean",
    },
)

FILTER = Statement(
    "What an endpoint wants to be told.",
    """
    INSERT INTO webhook_filters (tenant, type, endpoint_id, enabled)
    SELECT r.tenant, r.type, r.id, r.enabled FROM {rows} AS r
    """,
    {"tenant": "text", "type": "text", "id": "uuid", "enabled": "boolean"},
)

UNFILTER = Statement("It wants nothing.", "DELETE FROM webhook_filters WHERE endpoint_id = :id")

TOUCH_EVERY_MS = 86_400_000  # seldom: else all who bring one along would wait for its row
TOUCH = Statement(
    "Endpoints that jobs bring along are of use still.",
    f"""
    UPDATE webhook_endpoints SET created_at = :now
    WHERE id {{among_ids}} AND NOT listed AND created_at < :now - {TOUCH_EVERY_MS}
    """,
)

GET = Statement(
    "One endpoint of a tenant.",
    f"SELECT {COLUMNS} FROM webhook_endpoints AS e WHERE e.id = :id AND e.tenant = :tenant",
)

OWNED = Statement(
    "One endpoint of a tenant, which nobody else changes until this transaction ends.",
    f"{GET.text} {{own}}",
)

LIST = Statement(
    "A tenant's endpoints, newest first.",
    f"""
    SELECT {COLUMNS} FROM webhook_endpoints AS e
    WHERE e.tenant = :tenant AND e.listed AND e.id < :after ORDER BY e.id DESC LIMIT :limit
    """,
)

CHANGE = Statement(
    "An endpoint is changed by somebody's hand; what it failed before is forgotten.",
    """
    UPDATE webhook_endpoints SET types = :types, description = :description, enabled = :enabled,
        disabled_reason = :reason, failures = 0, paused_until = 0
    WHERE id = :id AND tenant = :tenant
    """,
)

DROP = Statement(
    "What waits for an endpoint that is switched off is given up.",
    "UPDATE deliveries SET state = 'given_up' WHERE endpoint_id = :id AND state = 'pending'",
)

REMOVE = Statement(
    "An endpoint is forgotten.",
    "DELETE FROM webhook_endpoints WHERE id = :id AND tenant = :tenant",
)

NO_SECRETS = Statement(
    "The secrets that an endpoint had of its own are deleted.",
    "DELETE FROM webhook_secrets WHERE tenant = :tenant AND endpoint_id = :id",
)


class Endpoints(Store):
    """Where events go."""

    def add(
        self,
        tenant: str,
        endpoint_id: str,
        url: str,
        types: Sequence[str],
        *,
        description: str | None = None,
    ) -> Endpoint:
        """Register an endpoint. The URL and the types have been checked."""
        self._insert([_row(endpoint_id, tenant, url, types, description, listed=True)])
        self._filter(tenant, endpoint_id, types, enabled=True)
        found = self.endpoint(tenant, endpoint_id)
        assert found is not None
        return found

    def bring_along(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Endpoints for the own webhooks of jobs and groups: an id for each (tenant, url)."""
        ids = {pair: own_endpoint_id(*pair) for pair in pairs}
        if ids:
            # First: it waits for whoever deletes one of them, which then is added anew.
            self._work.count(TOUCH, ids=self._work.ids(ids.values()))
            rows = [
                _row(one, tenant, url, (), None, listed=False)
                for (tenant, url), one in sorted(ids.items(), key=lambda item: item[1])
            ]
            self._insert(rows)
        return ids

    def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """The endpoint, if it is this tenant's."""
        if not is_id(endpoint_id):
            return None
        row = self._work.row(GET, tenant=tenant, id=endpoint_id)
        return None if row is None else endpoint_of(row)

    def endpoints(self, tenant: str, *, limit: int, after: str | None = None) -> list[Endpoint]:
        """The tenant's registered endpoints, newest first, older than ``after``."""
        last = after if after and is_id(after) else LAST_ID
        rows = self._work.rows(LIST, tenant=tenant, after=last, limit=limit)
        return [endpoint_of(row) for row in rows]

    def change(
        self,
        tenant: str,
        endpoint_id: str,
        *,
        types: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Endpoint | None:
        """The endpoint with what was given changed. Switched off, what waits for it is given up;
        switched on, it is told of what comes from now on (``replay`` for what came before)."""
        if not is_id(endpoint_id):
            return None
        work = self._work
        rows = work.change(OWNED, tenant=tenant, id=endpoint_id)
        if not rows:
            return None
        before = endpoint_of(rows[0])
        on = before.enabled if enabled is None else enabled
        reason = None if on else before.disabled_reason or "by_hand"
        wanted = before.types if types is None else tuple(types)
        work.count(
            CHANGE,
            id=endpoint_id,
            tenant=tenant,
            types=orjson.dumps(wanted).decode(),
            description=before.description if description is None else description,
            enabled=on,
            reason=reason,
        )
        work.count(UNFILTER, id=endpoint_id)
        if before.listed:
            self._filter(tenant, endpoint_id, wanted, enabled=on)
        if not on:
            work.count(DROP, id=endpoint_id)
        return self.endpoint(tenant, endpoint_id)

    def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Forget an endpoint; what waited for it is given up."""
        work = self._work
        if not is_id(endpoint_id):
            return False
        if not work.count(REMOVE, id=endpoint_id, tenant=tenant):
            return False
        work.count(UNFILTER, id=endpoint_id)
        work.count(NO_SECRETS, id=endpoint_id, tenant=tenant)
        work.count(DROP, id=endpoint_id)
        return True

    def _insert(self, rows: Sequence[dict[str, object]]) -> None:
        self._work.count(ADD, rows=self._work.table(rows))

    def _filter(
        self, tenant: str, endpoint_id: str, types: Sequence[str], *, enabled: bool
    ) -> None:
        rows = [
            {"tenant": tenant, "type": one, "id": endpoint_id, "enabled": enabled} for one in types
        ]
        if rows:
            self._work.count(FILTER, rows=self._work.table(rows))


def _row(
    endpoint_id: str,
    tenant: str,
    url: str,
    types: Sequence[str],
    description: str | None,
    *,
    listed: bool,
) -> dict[str, object]:
    return {
        "id": endpoint_id,
        "tenant": tenant,
        "url": url,
        "types": orjson.dumps(list(types)).decode(),
        "description": description,
        "listed": listed,
    }


def endpoint_of(row: Row[Any]) -> Endpoint:
    """The record of a row selected with ``COLUMNS``."""
    return Endpoint(
        id=row.id,
        tenant=row.tenant,
        url=row.url,
        types=tuple(orjson.loads(row.types)),
        description=row.description,
        listed=bool(row.listed),
        enabled=bool(row.enabled),
        disabled_reason=row.disabled_reason,
        failures=row.failures,
        paused_until=row.paused_until,
        created_at=row.created_at,
    )
