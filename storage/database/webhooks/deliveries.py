"""Deliveries: claimed for an attempt, settled by what came of it, replayed, and logged.

A claim moves ``due_at`` past the end of the attempt: should its keeper die, the delivery is due
again then. Settling is a compare-and-swap on the attempts made before, so of two keepers that
attempted the same one only the first is counted; the receiver may see it twice, under the same
``webhook-id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from storage.database.statements import POSTGRESQL, SQLITE, Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.database.webhooks.endpoints import (
    COLUMNS,
    DROP,
    OWNED,
    endpoint_of,
)
from storage.database.webhooks.events import TEST_EVENT
from storage.records.ids import FIRST_ID, LAST_ID, is_id
from storage.records.jobs import Millis
from storage.records.webhooks import (
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryLoad,
    DeliveryState,
    Endpoint,
    Event,
    pause_of,
)

# Endpoints that something waits for, after ``:after``: along the index, a step for each of them.
WAITING = """
    WITH RECURSIVE waiting(id) AS (
        SELECT (SELECT d.endpoint_id FROM deliveries AS d
            WHERE d.state = 'pending' AND d.endpoint_id > :after
            ORDER BY d.endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint_id FROM deliveries AS d
            WHERE d.state = 'pending' AND d.endpoint_id > w.id
            ORDER BY d.endpoint_id LIMIT 1)
        FROM waiting AS w WHERE w.id IS NOT NULL
    )
"""

READY_ENDPOINTS = Statement(
    "Endpoints that something is due for and that are not left alone, a step for each of them.",
    f"""
    {WAITING}
    SELECT {COLUMNS} FROM waiting AS w JOIN webhook_endpoints AS e ON e.id = w.id
    WHERE e.enabled AND e.paused_until <= :now AND EXISTS (
        SELECT 1 FROM deliveries AS d
        WHERE d.endpoint_id = e.id AND d.state = 'pending' AND d.due_at <= :now)
    LIMIT :limit
    """,
)

CLAIM_DELIVERIES = Statement(
    "An endpoint's deliveries that have been due for longest are attempted now.",
    """
    -- Materialized: a plan that looks again for each row would take more than the limit.
    WITH taken AS MATERIALIZED (
        SELECT j.event_id, j.endpoint_id FROM deliveries AS j
        WHERE j.endpoint_id = :endpoint AND j.state = 'pending' AND j.due_at <= :now
        ORDER BY j.due_at LIMIT :limit {lock_free}
    )
    UPDATE deliveries SET due_at = :now + CAST(:lease_ms AS bigint)
    FROM taken
    WHERE deliveries.event_id = taken.event_id AND deliveries.endpoint_id = taken.endpoint_id
    RETURNING deliveries.event_id, deliveries.endpoint_id, deliveries.attempts,
        deliveries.created_at
    """,
)

# For PostgreSQL all endpoints at once, with the events. Rows are found one by one from inside
# LATERAL, whatever it believes of the tables: see ``statements``.
CLAIM_FOR = Statement(
    "Deliveries of several endpoints are attempted now, so many of each as there is room for.",
    """
    WITH taken AS MATERIALIZED (
        SELECT d.event_id, d.endpoint_id FROM {rows} AS r CROSS JOIN LATERAL (
            SELECT j.event_id, j.endpoint_id FROM deliveries AS j
            WHERE j.endpoint_id = r.endpoint_id AND j.state = 'pending' AND j.due_at <= :now
            ORDER BY j.due_at LIMIT r.places {lock_free}
        ) AS d
    ),
    moved AS (
        UPDATE deliveries SET due_at = :now + CAST(:lease_ms AS bigint)
        FROM taken AS t
        WHERE deliveries.event_id = ANY (ARRAY(SELECT one.event_id FROM taken AS one))
            AND deliveries.event_id = t.event_id AND deliveries.endpoint_id = t.endpoint_id
        RETURNING deliveries.event_id, deliveries.endpoint_id, deliveries.attempts,
            deliveries.created_at
    )
    SELECT m.endpoint_id, m.attempts, m.created_at AS due_since,
        v.id, v.tenant, v.type, v.group_id, v.seq, v.created_at
    FROM moved AS m CROSS JOIN LATERAL (
        SELECT * FROM events WHERE events.id = m.event_id OFFSET 0
    ) AS v
    """,
    {"endpoint_id": "uuid", "places": "integer"},
    only=POSTGRESQL,
)

EVENTS = Statement(
    "Events by id.",
    """
    SELECT v.id, v.tenant, v.type, v.group_id, v.seq, v.created_at
    FROM events AS v WHERE v.id {among_ids}
    """,
)

SETTLE = Statement(
    "Deliveries after an attempt, if nobody else has counted it.",
    """
    UPDATE deliveries SET attempts = r.number, state = r.state, due_at = :now + r.in_ms
    FROM {rows} AS r
    WHERE deliveries.event_id = r.event_id AND deliveries.endpoint_id = r.endpoint_id
        AND deliveries.state = 'pending' AND deliveries.attempts = r.number - 1
    """,
    {
        "event_id": "uuid",
        "endpoint_id": "uuid",
        "number": "integer",
        "state": "text",
        "in_ms": "bigint",
    },
)

LOG = Statement(
    "Attempts are logged.",
    """
    INSERT INTO webhook_attempts (id, tenant, endpoint_id, event_id, number, started_at,
        duration_ms, result, status, error)
    SELECT r.id, r.tenant, r.endpoint_id, r.event_id, r.number,
        CAST(:now AS bigint) - r.ago_ms, r.duration_ms, r.result, r.status, r.error
    FROM {rows} AS r
    """,
    {
        "id": "uuid",
        "tenant": "text",
        "endpoint_id": "uuid",
        "event_id": "uuid",
        "number": "integer",
        "ago_ms": "bigint",
        "duration_ms": "integer",
        "result": "text",
        "status": "integer",
        "error": "text",
    },
)

HOLD_ENDPOINTS = Statement(
    "Endpoints, held until this transaction ends.",
    """
    SELECT j.id, j.failures FROM webhook_endpoints AS j
    WHERE j.id {among_ids} ORDER BY j.id {lock}
    """,
)

HEALTH = Statement(
    "How endpoints answer.",
    """
    UPDATE webhook_endpoints SET failures = r.failures,
        paused_until = CASE WHEN r.pause_ms = 0 THEN 0 ELSE :now + r.pause_ms END
    FROM {rows} AS r WHERE webhook_endpoints.id = r.id
    """,
    {"id": "uuid", "failures": "integer", "pause_ms": "bigint"},
)

SWITCH_OFF = Statement(
    "An endpoint said that it is gone.",
    """
    UPDATE webhook_endpoints SET enabled = false, disabled_reason = 'gone'
    WHERE id = :id AND enabled
    """,
)

UNWANTED = Statement(
    "It is told nothing from now on; its events are still written.",
    "UPDATE webhook_filters SET enabled = false WHERE endpoint_id = :id",
)

_INTO = """
    INSERT INTO deliveries (event_id, endpoint_id, state, attempts, due_at, created_at)
    SELECT v.id, CAST(:endpoint AS {uuid}), 'pending', 0, CAST(:now AS bigint),
        CAST(:now AS bigint)
    FROM events AS v
"""
_IN_RANGE = """
    WHERE v.tenant = :tenant AND v.type <> 'webhook.test'
        AND v.created_at >= :since AND v.created_at < :until
        AND (:any = 1 OR v.type IN (
            SELECT f.type FROM webhook_filters AS f WHERE f.endpoint_id = CAST(:endpoint AS {uuid})
        ))
"""
_ANEW = """
    ON CONFLICT (event_id, endpoint_id) DO UPDATE SET
        state = 'pending', attempts = 0, due_at = excluded.due_at,
        created_at = excluded.created_at
"""

# Shared: an event that is deleted meanwhile takes its deliveries along, or is not delivered.
AGAIN = Statement(
    "Events of a tenant are delivered to an endpoint once more, with all their attempts.",
    _INTO + _IN_RANGE + "{share}" + _ANEW,
)

NTH_AGAIN = Statement(
    "When the event happened that ``AGAIN`` would come to after so many others.",
    "SELECT v.created_at FROM events AS v"
    + _IN_RANGE
    + "ORDER BY v.created_at, v.id LIMIT 1 OFFSET :skip",
)

ONE_AGAIN = Statement(
    "One event is delivered to an endpoint once more.",
    _INTO + "WHERE v.id = :id AND v.tenant = :tenant {share}" + _ANEW,
)

ATTEMPTS = Statement(
    "The attempts made at an endpoint, newest first.",
    """
    SELECT a.id, a.event_id, a.endpoint_id, a.tenant, a.number, a.duration_ms, a.result, a.status,
        a.error, a.started_at
    FROM webhook_attempts AS a
    WHERE a.endpoint_id = :endpoint AND a.tenant = :tenant AND a.id < :after
    ORDER BY a.id DESC LIMIT :limit
    """,
)

LOAD = Statement(
    "How many deliveries wait, and since when.",
    """
    SELECT count(*) AS pending,
        COALESCE(sum(CASE WHEN d.due_at <= :now THEN 1 ELSE 0 END), 0) AS due,
        min(CASE WHEN d.due_at <= :now THEN d.due_at END) AS oldest
    FROM deliveries AS d WHERE d.state = 'pending'
    """,
)

_STATE = {
    AttemptResult.DELIVERED: DeliveryState.DELIVERED,
    AttemptResult.RETRY: DeliveryState.PENDING,
    AttemptResult.GIVEN_UP: DeliveryState.GIVEN_UP,
    AttemptResult.GONE: DeliveryState.GIVEN_UP,
}


class Deliveries(Store):
    """Events on their way."""

    def ready_endpoints(self, *, after: str | None = None, limit: int = 1000) -> list[Endpoint]:
        """Endpoints with something due, enabled and not paused, in the order of their ids."""
        rows = self._work.rows(READY_ENDPOINTS, after=after or FIRST_ID, limit=limit)
        return [endpoint_of(row) for row in rows]

    def claim_deliveries(self, endpoint_id: str, limit: int, lease_ms: int) -> list[Delivery]:
        """Take up to ``limit`` due deliveries of an endpoint for an attempt each, which must be
        settled within ``lease_ms``."""
        work = self._work
        rows = work.change(CLAIM_DELIVERIES, endpoint=endpoint_id, limit=limit, lease_ms=lease_ms)
        if not rows:
            return []
        events = self.events({row.event_id for row in rows})
        return [
            Delivery(events[row.event_id], row.endpoint_id, row.attempts, row.created_at)
            for row in rows
            if row.event_id in events
        ]

    def events(self, ids: Iterable[str]) -> dict[str, Event]:
        """Events by id, of any tenant."""
        rows = self._work.rows(EVENTS, ids=self._work.ids(ids))
        return {row.id: event_of(row) for row in rows}

    def claim_for(self, places: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        """``claim_deliveries`` of several endpoints, each with how many at most."""
        work = self._work
        if work.dialect == SQLITE:  # a round trip costs nothing there
            found = (self.claim_deliveries(one, most, lease_ms) for one, most in places.items())
            return [delivery for deliveries in found for delivery in deliveries]
        table = [{"endpoint_id": one, "places": most} for one, most in places.items()]
        rows = work.change(CLAIM_FOR, rows=work.table(table), lease_ms=lease_ms)
        return [
            Delivery(event_of(row), row.endpoint_id, row.attempts, row.due_since) for row in rows
        ]

    def settle(self, attempts: Sequence[Attempt]) -> None:
        """Record what came of attempts, in the order in which they ended."""
        if not attempts:
            return
        work = self._work
        work.count(LOG, rows=work.table([_log_row(one) for one in attempts]))
        ordered = sorted(attempts, key=lambda one: (one.event_id, one.endpoint_id))
        work.count(SETTLE, rows=work.table([_settle_row(one) for one in ordered]))
        self._health(attempts)
        for endpoint_id in {one.endpoint_id for one in attempts if _is_gone(one)}:
            if work.count(SWITCH_OFF, id=endpoint_id):
                work.count(UNWANTED, id=endpoint_id)
                work.count(DROP, id=endpoint_id)

    def _health(self, attempts: Sequence[Attempt]) -> None:
        """Count failures in a row; after too many an endpoint is left alone for a while."""
        work = self._work
        ids = work.ids({one.endpoint_id for one in attempts})
        now = {row.id: row.failures for row in work.change(HOLD_ENDPOINTS, ids=ids)}
        before = dict(now)
        for one in attempts:
            if one.endpoint_id in now:
                good = one.result is AttemptResult.DELIVERED
                now[one.endpoint_id] = 0 if good else now[one.endpoint_id] + 1
        rows = [
            {"id": one, "failures": failures, "pause_ms": pause_of(failures)}
            for one, failures in sorted(now.items())
            if failures != before[one]
        ]
        if rows:
            work.count(HEALTH, rows=work.table(rows))

    def send_test(self, tenant: str, endpoint_id: str, event_id: str) -> bool:
        """An event of its own for this endpoint alone; whether there is such an endpoint."""
        if not self._owns(tenant, endpoint_id):
            return False
        self._work.count(TEST_EVENT, id=event_id, tenant=tenant)
        self._work.count(ONE_AGAIN, tenant=tenant, endpoint=endpoint_id, id=event_id)
        return True

    def replay_one(self, tenant: str, endpoint_id: str, event_id: str) -> bool:
        """Deliver one event again; whether endpoint and event are this tenant's."""
        if not is_id(event_id) or not self._owns(tenant, endpoint_id):
            return False
        return bool(self._work.count(ONE_AGAIN, tenant=tenant, endpoint=endpoint_id, id=event_id))

    def replay(
        self, tenant: str, endpoint_id: str, since: Millis, until: Millis, *, limit: int
    ) -> tuple[int, Millis | None]:
        """Deliver again what the endpoint wants of a time range, about the oldest ``limit`` of it:
        how many that are, and where to go on if there are more. What happened in the same
        millisecond is not taken apart, so that nothing is skipped or replayed for ever."""
        work = self._work
        rows = work.change(OWNED, tenant=tenant, id=endpoint_id)
        if not rows:
            return 0, None
        what = {
            "tenant": tenant,
            "endpoint": endpoint_id,
            "since": since,
            "any": int("*" in endpoint_of(rows[0]).types),
        }
        more = work.row(NTH_AGAIN, **what, until=until, skip=limit)
        if more is None:
            return work.count(AGAIN, **what, until=until), None
        first = work.row(NTH_AGAIN, **what, until=until, skip=0)
        assert first is not None
        end = max(more.created_at, first.created_at + 1)
        rest = work.row(NTH_AGAIN, **what | {"since": end}, until=until, skip=0)
        return work.count(AGAIN, **what, until=end), None if rest is None else rest.created_at

    def attempts(
        self, tenant: str, endpoint_id: str, *, limit: int, after: str | None = None
    ) -> list[Attempt]:
        """What was tried at an endpoint, newest first, older than the attempt ``after``."""
        if not is_id(endpoint_id):
            return []
        last = after if after and is_id(after) else LAST_ID
        rows = self._work.rows(
            ATTEMPTS, tenant=tenant, endpoint=endpoint_id, after=last, limit=limit
        )
        return [_attempt_of(row) for row in rows]

    def delivery_load(self) -> DeliveryLoad:
        """How much waits, in the whole installation."""
        row = self._work.row(LOAD)
        assert row is not None
        return DeliveryLoad(int(row.due), int(row.pending), row.oldest)

    def _owns(self, tenant: str, endpoint_id: str) -> bool:
        if not is_id(endpoint_id):
            return False
        return bool(self._work.change(OWNED, tenant=tenant, id=endpoint_id))


def _is_gone(attempt: Attempt) -> bool:
    return attempt.result is AttemptResult.GONE


def event_of(row: Row[Any]) -> Event:
    """The record of an event's row."""
    return Event(row.id, row.tenant, row.type, row.group_id, row.seq, row.created_at)


def _attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        tenant=row.tenant,
        number=row.number,
        duration_ms=row.duration_ms,
        result=AttemptResult(row.result),
        status=row.status,
        error=row.error,
        started_at=row.started_at,
    )


def _log_row(one: Attempt) -> dict[str, object]:
    return {
        "id": one.id,
        "tenant": one.tenant,
        "endpoint_id": one.endpoint_id,
        "event_id": one.event_id,
        "number": one.number,
        "ago_ms": one.duration_ms + one.ago_ms,
        "duration_ms": one.duration_ms,
        "result": one.result.value,
        "status": one.status,
        "error": None if one.error is None else storable(one.error),
    }


def _settle_row(one: Attempt) -> dict[str, object]:
    return {
        "event_id": one.event_id,
        "endpoint_id": one.endpoint_id,
        "number": one.number,
        "state": _STATE[one.result].value,
        "in_ms": one.retry_in_ms,
    }
