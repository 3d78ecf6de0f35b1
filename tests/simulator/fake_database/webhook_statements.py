"""What the statements of endpoints, events and deliveries do, in memory: as far as ends of jobs and
groups reach. Deliveries stay pending: nobody delivers here."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storage.database.jobs import leaving, reading
from storage.database.webhooks import endpoints, events
from storage.records.jobs import Millis
from tests.simulator.fake_database.tables import Tables

P = Mapping[str, Any]

_Endpoint = namedtuple(
    "_Endpoint",
    "id tenant url types description listed enabled disabled_reason failures paused_until"
    " created_at",
)
_Open = namedtuple("_Open", "id settled total reached")
_Settled = namedtuple("_Settled", "id completed_at")
_Url = namedtuple("_Url", "url")


def add(t: Tables, now: Millis, p: P) -> int:
    new = [row for row in p["rows"] if row["id"] not in t.endpoints]
    for row in new:
        rest = {"enabled": True, "disabled_reason": None, "failures": 0, "paused_until": 0}
        t.endpoints.put(row["id"], {**row, **rest, "created_at": now})
    return len(new)


def add_filters(t: Tables, now: Millis, p: P) -> int:
    for row in p["rows"]:
        t.filters.put((row["tenant"], row["type"], row["id"]), dict(row))
    return len(p["rows"])


def touch(t: Tables, now: Millis, p: P) -> int:
    """No run takes a day."""
    return 0


def get(t: Tables, now: Millis, p: P) -> list[_Endpoint]:
    row = t.endpoints.get(p["id"])
    if row is None or row["tenant"] != p["tenant"]:
        return []
    return [_Endpoint(*[row[name] for name in _Endpoint._fields])]


def webhook(t: Tables, now: Millis, p: P) -> list[_Url]:
    job = t.jobs.get(p["id"])
    if job is None or job["tenant"] != p["tenant"] or job["webhook_id"] not in t.endpoints:
        return []
    return [_Url(t.endpoints[job["webhook_id"]]["url"])]


def _who(t: Tables, tenant: str, kind: str, own: str | None) -> dict[str, bool]:
    """Who wants to know, and whether it is switched on."""
    found = {
        row["id"]: row["enabled"]
        for row in t.filters.values()
        if row["tenant"] == tenant and row["type"] in ("*", kind)
    }
    if own in t.endpoints:
        found[own] = t.endpoints[own]["enabled"]
    return found


def _over(t: Tables, ids: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    for one in ids:
        end = t.ends[one]
        kind = f"job.{end['state']}"
        yield one, end["tenant"], end["group_id"], end["seq"], kind, t.live[one]["webhook_id"]


def _groups(t: Tables, ids: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    for one in ids:
        group = t.groups[one]
        yield one, group["tenant"], one, 1, "group.completed", group["webhook_id"]


def _tell(t: Tables, now: Millis, over: Iterable[tuple[Any, ...]]) -> list[tuple[str]]:
    told = []
    for one, tenant, group_id, seq, kind, own in over:
        if _who(t, tenant, kind, own) and one not in t.events:
            row = {"id": one, "tenant": tenant, "type": kind, "group_id": group_id, "seq": seq}
            t.events.put(one, {**row, "created_at": now})
            told.append((one,))
    return told


def _deliver(t: Tables, now: Millis, over: Iterable[tuple[Any, ...]]) -> int:
    count = 0
    for one, tenant, _, _, kind, own in over:
        for endpoint_id, enabled in _who(t, tenant, kind, own).items():
            if enabled and (one, endpoint_id) not in t.deliveries:
                t.deliveries.put(
                    (one, endpoint_id),
                    {"event_id": one, "endpoint_id": endpoint_id, "state": "pending"},
                )
                count += 1
    return count


def events_here(t: Tables, now: Millis, p: P) -> list[tuple[str]]:
    return _tell(t, now, _over(t, p["ids"]))


def deliveries_here(t: Tables, now: Millis, p: P) -> int:
    return _deliver(t, now, _over(t, p["ids"]))


def open_groups(t: Tables, now: Millis, p: P) -> list[_Open]:
    found = []
    for group_id, group in sorted(t.groups.items()):
        if group["completed_at"] is not None or group_id <= p["after"]:
            continue
        live = [
            row["group_index"]
            for one, row in t.jobs.items()
            if row["group_id"] == group_id
            and row["group_index"] >= group["settled"]
            and one in t.live
        ]
        reached = min(live, default=group["total"])
        found.append(_Open(group_id, group["settled"], group["total"], reached))
    return found[: p["limit"]]


def settle_groups(t: Tables, now: Millis, p: P) -> list[_Settled]:
    found = []
    for said in p["rows"]:
        group = t.groups[said["id"]]
        if group["completed_at"] is None:
            at = now if said["reached"] >= group["total"] else None
            t.groups.change(said["id"], settled=said["reached"], completed_at=at)
            found.append(_Settled(said["id"], at))
    return found


def events_of_groups(t: Tables, now: Millis, p: P) -> list[tuple[str]]:
    return _tell(t, now, _groups(t, p["ids"]))


def deliveries_of_groups(t: Tables, now: Millis, p: P) -> int:
    return _deliver(t, now, _groups(t, p["ids"]))


PLAYED: Sequence[tuple[object, Callable[[Tables, Millis, P], Any]]] = (
    (endpoints.ADD, add),
    (endpoints.FILTER, add_filters),
    (endpoints.TOUCH, touch),
    (endpoints.GET, get),
    (reading.WEBHOOK, webhook),
    (leaving.EVENTS_HERE, events_here),
    (leaving.DELIVERIES_HERE, deliveries_here),
    (events.OPEN_GROUPS, open_groups),
    (events.SETTLE_GROUPS, settle_groups),
    (events.EVENTS_OF_GROUPS_HERE, events_of_groups),
    (events.DELIVERIES_OF_GROUPS_HERE, deliveries_of_groups),
)
