"""Short words for tests of webhooks on their way."""

from __future__ import annotations

from collections.abc import Callable

from storage.clock import SystemClock
from storage.database import Database
from storage.objects import Objects
from storage.records.webhook_guard import Guard
from storage.records.webhooks import Attempt
from tests.support.database import ALICE, new_id, submit
from tests.support.waiting import wait_until
from workers.keeper.webhook_delivery import WebhookDelivery, WebhookDeliveryConfig

HOUR_MS = 3_600_000
OPENED = Guard(("127.0.0.1:*",))


class MovingClock(SystemClock):
    """The database's clock: the machine's, and what a test adds to it."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def pass_ms(self, elapsed_ms: int) -> None:
        self.ahead_ms += elapsed_ms


class Post:
    """The duty and what it works on, as a keeper would run it."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self.database, self.objects = database, objects
        self.made: list[WebhookDelivery] = []
        self.duty = self.new()

    def new(self, guard: Guard = OPENED, **config: float) -> WebhookDelivery:
        plain = {"timeout_s": 2.0, "drain_s": 0.0}
        duty = WebhookDelivery(
            WebhookDeliveryConfig(**plain | config), guard=guard, public_url="https://f.example"
        )
        self.made.append(duty)
        return duty

    def run_until(
        self, condition: Callable[[], object], what: str, duty: WebhookDelivery | None = None
    ) -> None:
        """Rounds, until the condition is true."""

        def look() -> bool:
            (duty or self.duty).run_once(self.database, self.objects)
            return bool(condition())

        wait_until(look, 60, what=what)

    def settle(
        self, endpoint: str, attempts: int, duty: WebhookDelivery | None = None
    ) -> list[Attempt]:
        """Rounds, until so many attempts at an endpoint are recorded; those, oldest first."""
        self.run_until(
            lambda: len(self.attempts(endpoint)) >= attempts, f"{attempts} attempts", duty
        )
        return self.attempts(endpoint)

    def attempts(self, endpoint: str, tenant: str = ALICE) -> list[Attempt]:
        with self.database.read() as tx:
            return tx.webhooks.attempts(tenant, endpoint, limit=1000)[::-1]


def add(database: Database, url: str, *types: str, tenant: str = ALICE) -> str:
    endpoint_id = new_id()
    with database.begin() as tx:
        tx.webhooks.add(tenant, endpoint_id, url, types or ("*",))
    return endpoint_id


def over(database: Database, count: int = 1, tenant: str = ALICE) -> list[str]:
    """So many jobs that were cancelled."""
    jobs = submit(database, tenant, count)
    with database.begin() as tx:
        for job in jobs:
            tx.jobs.request_cancel(tenant, job)
    return jobs


def secret_of(database: Database, tenant: str = ALICE, endpoint: str | None = None) -> str:
    with database.read() as tx:
        return tx.webhooks.secrets([tenant])[tenant, endpoint][0].secret
