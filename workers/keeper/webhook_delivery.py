"""Webhook delivery: what is due is claimed and handed to the courier, what ended is recorded.

One run is a quick round in SQL; the attempts themselves are made in the courier's thread, so a
slow receiver is never waited for. A claim is a lease: of a keeper that dies, what it had claimed
is due again after ``lease_s``. The receiver may see it twice then, under one ``webhook-id``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from storage.clock import random_bits
from storage.database import Database
from storage.database.transaction import Transaction
from storage.objects import Objects
from storage.records.ids import uuid7
from storage.records.webhook_guard import Guard
from storage.records.webhooks import Attempt, Delivery, Secret, new_secret
from workers.webhooks.connection import Limits
from workers.webhooks.courier import Courier, Ended, Parcel, Route
from workers.webhooks.holdings import Bounds, Holdings

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
    unproven: int = 96  # of these, most at sites that have not answered lately
    proven_s: float = 5.0  # how long an answer counts for its site
    held: int = 2048  # most deliveries claimed at a time
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
    under_way: int  # attempts, and what waits to be recorded: to be looked after soon
    ahead: int  # could have been claimed, but for how much is claimed at a time

    @property
    def more(self) -> bool:
        return self.under_way > 0

    @property
    def clear(self) -> bool:
        """It keeps up, whatever is under way."""
        return self.ahead == 0


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
        bounds = Bounds(
            self.config.each, self.config.held, self.config.unproven, self.config.proven_s
        )
        self._held = Holdings(bounds)
        self._ended: list[Ended] = []  # not yet recorded
        self._after: str | None = None
        self._quiet = True

    def run_once(self, database: Database, objects: Objects) -> Carried:
        if self._held.total:
            self._rest()
        self._take()
        if not self._courier.alive:  # what it had is due again after its lease
            self._held.forget()
        recorded = self._record(database)
        claimed = self._claim(database)
        self._quiet = not (claimed or recorded)
        under_way = self._held.total + len(self._ended)
        return Carried(claimed, recorded, under_way, self._held.ahead)

    def close(self, database: Database) -> None:
        """Wait a little for what is under way, record it, and end. What is broken off is due
        again after its lease, and no attempt of it is counted."""
        until_s = time.monotonic() + self.config.drain_s
        while self._held.total and (left_s := until_s - time.monotonic()) > 0:
            self._courier.wait(left_s)
            self._take()
        self._courier.close()
        self._take()
        self._held.forget()
        self._record(database)

    def _rest(self) -> None:
        """A little, so that a round has many to record; when nothing happens, until it does."""
        if self._quiet:
            self._courier.wait(self.config.every_s)
        else:
            time.sleep(self.config.pace_s)

    def _take(self) -> None:
        """What has ended leaves its place."""
        self._held.look(time.monotonic())
        for ended in self._courier.take():
            verdict, endpoint_id = ended.verdict, ended.parcel.delivery.endpoint_id
            answered = verdict is not None and verdict.status is not None
            self._held.end(endpoint_id, ended.ended_s, answered=answered)
            if verdict is not None:
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
        with database.read() as tx:
            ready = tx.webhooks.ready_endpoints(after=self._after, limit=self.config.endpoints)
        # The next look goes on where this one ended, if that was not the end.
        self._after = ready[-1].id if len(ready) >= self.config.endpoints else None
        places = self._held.share(ready)
        if not places:
            return 0
        with database.begin() as tx:
            now, now_s = tx.now(), time.monotonic()
            deliveries = tx.webhooks.claim_for(places, int(1000 * self.config.lease_s))
            secrets = _secrets(tx, deliveries)
        by_id = {one.id: one for one in ready}
        if deliveries:
            self._courier.send(
                [
                    Parcel(one, by_id[one.endpoint_id].url, secrets(one), now, now_s)
                    for one in deliveries
                ]
            )
        for one in deliveries:
            self._held.take(by_id[one.endpoint_id])
        return len(deliveries)


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
