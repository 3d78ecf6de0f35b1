"""A tenant's webhooks: what is done to endpoints and secrets that takes more than one statement.

Blocking; each step is called inside one write transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from storage.clock import random_bits
from storage.database import Transaction
from storage.records.errors import Conflict, NotFound
from storage.records.ids import uuid7
from storage.records.jobs import Millis
from storage.records.webhook_guard import Guard
from storage.records.webhooks import Endpoint, Secret, event_id_of, new_secret

OWN = "own"
REPLAYED_AT_ONCE = 10_000


class Registrar:
    """Safe to share between threads."""

    def __init__(
        self,
        guard: Guard,
        max_endpoints: int,
        *,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        self._guard = guard
        self._max_endpoints = max_endpoints
        self._chance = chance

    def add(
        self,
        tx: Transaction,
        tenant: str,
        url: str,
        types: Sequence[str],
        description: str | None,
        secret: str | None,
    ) -> tuple[Endpoint, list[Secret]]:
        """A new endpoint and what signs its deliveries: the tenant's secrets, or one of its own,
        which is given, or made where ``secret`` is ``own``."""
        self._guard.target(url, field="url")
        tx.tenants.hold(tenant)
        if len(tx.webhooks.endpoints(tenant, limit=self._max_endpoints)) >= self._max_endpoints:
            raise Conflict(
                f"you have {self._max_endpoints} endpoints; remove one that is not needed first",
                code="too_many_webhooks",
            )
        endpoint_id = self._id(tx)
        endpoint = tx.webhooks.add(tenant, endpoint_id, url, types, description=description)
        if secret is None:
            return endpoint, self.secrets(tx, tenant)
        return endpoint, [self._take(tx, tenant, endpoint_id, secret, 0)]

    def secrets(self, tx: Transaction, tenant: str) -> list[Secret]:
        """The tenant's own, the newest first; it gets one if it has none yet."""
        known = tx.webhooks.secrets([tenant]).get((tenant, None))
        if known:
            return known
        tx.tenants.hold(tenant)
        return [tx.webhooks.ensure_secret(tenant, self._id(tx), new_secret(self._chance))]

    def rotate(
        self,
        tx: Transaction,
        tenant: str,
        endpoint_id: str | None,
        secret: str | None,
        overlap_ms: int,
    ) -> list[Secret]:
        """A new secret for an endpoint, or for the tenant, before the one that signed until now,
        which is good for ``overlap_ms`` longer: also where that was the tenant's."""
        tx.tenants.hold(tenant)
        if endpoint_id is not None:
            endpoint_of(tx, tenant, endpoint_id)
            if (tenant, endpoint_id) not in tx.webhooks.secrets([tenant]):
                self._take(tx, tenant, endpoint_id, self.secrets(tx, tenant)[0].secret, 0)
        self._take(tx, tenant, endpoint_id, secret or OWN, overlap_ms)
        return tx.webhooks.secrets([tenant])[(tenant, endpoint_id)]

    def test(self, tx: Transaction, tenant: str, endpoint_id: str) -> str:
        """Send an event of its own to an endpoint; the event's id."""
        _must_be_on(endpoint_of(tx, tenant, endpoint_id))
        event_id = self._id(tx)
        tx.webhooks.send_test(tenant, endpoint_id, event_id)
        return event_id

    def _take(
        self, tx: Transaction, tenant: str, endpoint_id: str | None, secret: str, overlap_ms: int
    ) -> Secret:
        text = new_secret(self._chance) if secret == OWN else secret
        return tx.webhooks.rotate(tenant, endpoint_id, self._id(tx), text, overlap_ms)

    def _id(self, tx: Transaction) -> str:
        return uuid7(tx.now(), self._chance(74))


def endpoint_of(tx: Transaction, tenant: str, endpoint_id: str) -> Endpoint:
    """The tenant's endpoint, or ``NotFound``."""
    found = tx.webhooks.endpoint(tenant, endpoint_id)
    if found is None:
        raise NotFound(f"you have no webhook {endpoint_id[:80]!r}", code="webhook_not_found")
    return found


def replay_one(tx: Transaction, tenant: str, endpoint_id: str, event: str) -> None:
    """Deliver one event again, named as ``webhook-id`` does or by its job's or group's id."""
    _must_be_on(endpoint_of(tx, tenant, endpoint_id))
    event_id = event_id_of(event)
    if event_id is None or not tx.webhooks.replay_one(tenant, endpoint_id, event_id):
        raise NotFound(
            f"there is no event {event[:80]!r}; one is kept where an endpoint or the job itself"
            " wanted it",
            code="event_not_found",
            field="event",
        )


def replay_range(
    tx: Transaction, tenant: str, endpoint_id: str, since: Millis, until: Millis
) -> tuple[int, Millis | None]:
    """Deliver again what the endpoint wants of a time range: how many events that are, and where
    to go on if there are more."""
    _must_be_on(endpoint_of(tx, tenant, endpoint_id))
    return tx.webhooks.replay(tenant, endpoint_id, since, until, limit=REPLAYED_AT_ONCE)


def _must_be_on(endpoint: Endpoint) -> None:
    if not endpoint.enabled:
        raise Conflict(
            f"the webhook is switched off ({endpoint.disabled_reason}), so nothing would be"
            " delivered; switch it on first",
            code="webhook_disabled",
        )
