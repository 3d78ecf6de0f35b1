"""Webhook delivery: what is due is claimed and handed to the courier, what ended is recorded.

One run is a quick round in SQL; the attempts themselves are made in the courier's thread, so a
slow receiver is never waited for. A claim is a lease: of a keeper that dies, what it had claimed
is due again after ``lease_s``. The receiver may see it twice then, under one ``webhook-id``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from storage.clock import random_bits
from storage.database import Database
from storage.database.transaction import Transaction
from storage.objects import Objects
from storage.records.ids import uuid7
from storage.records.webhook_guard import Guard
from storage.records.webhooks import Attempt, Delivery, Endpoint, Secret, new_secret
from workers.webhooks.connection import Limits
from workers.webhooks.courier import Courier, Ended, Parcel, Route
from workers.webhooks.places import places_of, share

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookDeliveryConfig:
    """How many attempts at a time, how patient, and how often to look."""

    every_s: float = 0.25  # pause between two runs while nothing is under way
    pace_s: float = 0.02  # while something is, and the last round found something to do
    lease_s: float = 20.0  # claimed this long; longer than an attempt may take
    timeout_s: float = 15.0  # most time of an attempt
    each: int = 8  # most attempts at one endpoint at a time
    in_all: int = 128  # most attempts at a time
    held: int = 1024  # most deliveries claimed at a time
    endpoints: int = 1000  # most endpoints looked at by one run
    drain_s: float = 5.0  # how long a stop waits for what is under way

    def __post_init__(self) -> None:
        if self.timeout_s + 2 > self.lease_s:
            raise ValueError("lease_s must exceed timeout_s by 2 s: an attempt is made within it")


@dataclass(frozen=True, slots=True)
class Carried:
    """What one run did."""

    claimed: int
    recorded: int
    under_way: int  # attempts, and what waits to be recorded: to be looked after at once
    behind: bool  # more is due than is claimed at a time

    @property
    def more(self) -> bool:
        return self.under_way > 0

    @property
    def clear(self) -> bool:
        return not self.behind


class WebhookDelivery:
    """See the module."""

    name = "webhook_delivery"

    def __init__(
        self,
        config: WebhookDeliveryConfig | None = None,
        *,
        guard: Guard | None = None,
        public_url: str = "",
        courier: Courier | None = None,
    ) -> None:
        self.config = config or WebhookDeliveryConfig()
        begin_within_s = self.config.lease_s - self.config.timeout_s - 2
        self._courier = courier or Courier(
            guard or Guard(),
            public_url=public_url,
            route=Route(self.config.each, self.config.in_all, begin_within_s),
            limits=Limits(total_s=self.config.timeout_s),
        )
        self._held: Counter[str] = Counter()  # by endpoint, claimed and not yet ended
        self._answered: Counter[str] = Counter()  # by endpoint, since the last round
        self._ended: list[Ended] = []  # not yet recorded
        self._after: str | None = None
        self._quiet, self._behind = True, False

    def run_once(self, database: Database, objects: Objects) -> Carried:
        if self._held:
            self._rest()
        self._take()
        recorded = self._record(database)
        claimed = self._claim(database)
        self._quiet = not (claimed or recorded)
        under_way = self._held.total() + len(self._ended)
        return Carried(claimed, recorded, under_way, self._behind)

    def close(self, database: Database) -> None:
        """Wait a little for what is under way, record it, and end. What is broken off is due
        again after its lease, and no attempt of it is counted."""
        until_s = time.monotonic() + self.config.drain_s
        while self._held and (left_s := until_s - time.monotonic()) > 0:
            self._courier.wait(left_s)
            self._take()
        self._courier.close()
        self._take()
        self._record(database)
        self._held.clear()

    def _rest(self) -> None:
        """A little, so that a round has many to record; when nothing happens, until it does."""
        if self._quiet:
            self._courier.wait(self.config.every_s)
        else:
            time.sleep(self.config.pace_s)

    def _take(self) -> None:
        self._answered.clear()
        for ended in self._courier.take():
            endpoint = ended.parcel.delivery.endpoint_id
            self._held[endpoint] -= 1
            if not self._held[endpoint]:
                del self._held[endpoint]
            if ended.verdict is not None:
                self._answered[endpoint] += ended.verdict.status is not None
                self._ended.append(ended)

    def _record(self, database: Database) -> int:
        """All in one transaction. If it fails, the next run tries again."""
        if not self._ended:
            return 0
        now_s = time.monotonic()
        with database.begin() as tx:
            tx.webhooks.settle([_attempt(one, now_s) for one in self._ended])
        recorded = len(self._ended)
        self._ended.clear()
        return recorded

    def _claim(self, database: Database) -> int:
        free = self.config.held - self._held.total()
        self._behind = free <= 0
        if self._behind:
            return 0
        with database.read() as tx:
            ready = tx.webhooks.ready_endpoints(after=self._after, limit=self.config.endpoints)
        full = len(ready) >= self.config.endpoints
        self._after = ready[-1].id if full else None  # from the start, next time
        wanted = {one.id: max(0, self._places(one)) for one in ready}
        places = share(wanted, free)
        self._behind = full or sum(wanted.values()) > free
        if not places:
            return 0
        with database.begin() as tx:
            now, now_s = tx.now(), time.monotonic()
            deliveries = tx.webhooks.claim_for(places, int(1000 * self.config.lease_s))
            secrets = _secrets(tx, deliveries)
        urls = {one.id: one.url for one in ready}
        parcels = [
            Parcel(one, urls[one.endpoint_id], secrets(one), now, now_s) for one in deliveries
        ]
        if parcels:
            self._held.update(one.endpoint_id for one in deliveries)
            self._courier.send(parcels)
        return len(parcels)

    def _places(self, endpoint: Endpoint) -> int:
        answered = self._answered[endpoint.id]
        return places_of(endpoint.failures, answered, self.config.each) - self._held[endpoint.id]


def _attempt(ended: Ended, now_s: float) -> Attempt:
    parcel, verdict = ended.parcel, ended.verdict
    assert verdict is not None
    delivery = parcel.delivery
    return Attempt(
        id=uuid7(parcel.at(ended.ended_s), random_bits()),
        event_id=delivery.event.id,
        endpoint_id=delivery.endpoint_id,
        tenant=delivery.event.tenant,
        number=delivery.attempts + 1,
        duration_ms=ended.duration_ms,
        result=verdict.result,
        status=verdict.status,
        error=verdict.error,
        retry_in_ms=verdict.retry_in_ms,
        ago_ms=int(1000 * (now_s - ended.ended_s)),
    )


def _secrets(
    tx: Transaction, deliveries: Sequence[Delivery]
) -> Callable[[Delivery], tuple[str, ...]]:
    """What to sign each delivery with: the endpoint's own secrets, or else its tenant's, which
    gets one now if it has none (its jobs brought a webhook, and nobody has asked for one yet)."""
    tenants = {one.event.tenant for one in deliveries}
    known = tx.webhooks.secrets(tenants) if tenants else {}

    def good(delivery: Delivery) -> Iterable[Secret]:
        tenant = delivery.event.tenant
        own = known.get((tenant, delivery.endpoint_id))
        return own or known.get((tenant, None)) or ()

    for tenant in sorted({one.event.tenant for one in deliveries if not good(one)}):
        tx.tenants.hold(tenant)
        secret_id = uuid7(tx.now(), random_bits())
        known[tenant, None] = [
            tx.webhooks.ensure_secret(tenant, secret_id, new_secret(random_bits))
        ]
    return lambda delivery: tuple(one.secret for one in good(delivery))
