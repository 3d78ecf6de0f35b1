"""What the statements of ``storage.database.backlog`` do, on tables in memory."""

from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storage.database import backlog
from storage.records.jobs import BULK_PRIORITY, NEVER, Millis, is_bulk
from tests.simulator.fake_database.tables import Row, Tables

P = Mapping[str, Any]

_Pool = namedtuple("_Pool", "pool")
_Tenant = namedtuple("_Tenant", "tenant priority")
_Head = namedtuple("_Head", "id tenant pool version_id priority rank expires_at")
_Id = namedtuple("_Id", "id")
_Jobs = namedtuple("_Jobs", "jobs")
_Window = namedtuple("_Window", "tenant jobs")
_ByClass = namedtuple("_ByClass", "tenant version_id bulk jobs")
_Load = namedtuple("_Load", "tenant model_name version version_id jobs oldest_at priority")


def _waiting(t: Tables) -> Iterable[Row]:
    return (r for r in t.live.values() if r["state"] == "queued" and r["published_at"] is None)


def _inside(t: Tables, pool: str) -> Iterable[Row]:
    return (
        r
        for r in t.live.values()
        if r["state"] == "queued" and r["published_at"] is not None and r["pool"] == pool
    )


def _head(row: Row) -> _Head:
    return _Head(*[row[name] for name in _Head._fields])


def pools(t: Tables, now: Millis, p: P) -> list[_Pool]:
    return [_Pool(pool) for pool in sorted({row["pool"] for row in _waiting(t)})]


def tenants(t: Tables, now: Millis, p: P) -> list[_Tenant]:
    most: dict[str, int] = {}
    for row in _waiting(t):
        if row["pool"] == p["pool"]:
            most[row["tenant"]] = max(row["priority"], most.get(row["tenant"], 0))
    return [_Tenant(tenant, most[tenant]) for tenant in sorted(most)]


def heads(t: Tables, now: Millis, p: P) -> list[_Head]:
    due = [
        row
        for row in _waiting(t)
        if row["pool"] == p["pool"]
        and row["tenant"] == p["tenant"]
        and row["not_before"] <= now < row["expires_at"]
    ]
    due.sort(key=_order)
    online = [row for row in due if not is_bulk(row["priority"])][: p["limit"]]
    bulk = [row for row in due if is_bulk(row["priority"])][: p["bulk_limit"]]
    return [_head(row) for row in sorted(online + bulk, key=_order)]


def _order(row: Row) -> tuple[int, str]:
    return row["rank"], row["id"]


def urgent(t: Tables, now: Millis, p: P) -> list[_Head]:
    near = [
        row
        for row in t.live.values()
        if row["state"] == "queued" and now < row["expires_at"] <= now + p["within_ms"]
    ]
    near.sort(key=lambda row: (row["expires_at"], row["id"]))
    return [
        _head(row)
        for row in near[: p["limit"]]
        if row["published_at"] is None
        and row["pool"] == p["pool"]
        and row["priority"] > BULK_PRIORITY
        and row["not_before"] <= now
    ]


def mark_published(t: Tables, now: Millis, p: P) -> list[_Id]:
    marked = []
    for one in dict.fromkeys(p["ids"]):
        row = t.live.get(one)
        if row and row["state"] == "queued" and row["published_at"] is None:
            t.live.change(one, published_at=now)
            marked.append(_Id(one))
    return marked


def unmark(t: Tables, now: Millis, p: P) -> int:
    taken = 0
    for one in p["ids"]:
        row = t.live.get(one)
        if row and row["state"] == "queued" and row["published_at"] is not None:
            t.live.change(one, published_at=None)
            taken += 1
    return taken


def window(t: Tables, now: Millis, p: P) -> list[_Window]:
    return [_Window(*one) for one in Counter(r["tenant"] for r in _inside(t, p["pool"])).items()]


def window_by_class(t: Tables, now: Millis, p: P) -> list[_ByClass]:
    counts = Counter(
        (r["tenant"], r["version_id"], is_bulk(r["priority"])) for r in _inside(t, p["pool"])
    )
    return [_ByClass(*key, jobs) for key, jobs in counts.items()]


def load_of_window(t: Tables, now: Millis, p: P) -> list[_Load]:
    return _load(t, list(_inside(t, p["pool"]))[: p["cap"]])


def load_of_tenant(t: Tables, now: Millis, p: P) -> list[_Load]:
    mine = [
        row
        for row in _waiting(t)
        if row["pool"] == p["pool"] and row["tenant"] == p["tenant"] and row["not_before"] < NEVER
    ]
    return _load(t, mine[: p["cap"]])


def _load(t: Tables, rows: Sequence[Row]) -> list[_Load]:
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["tenant"], row["version_id"], row["priority"]), []).append(row)
    return [
        _Load(
            tenant,
            t.jobs[some[0]["id"]]["model_name"],
            t.jobs[some[0]["id"]]["version"],
            version_id,
            len(some),
            min(row["created_at"] for row in some),
            priority,
        )
        for (tenant, version_id, priority), some in kinds.items()
    ]


def depth(t: Tables, now: Millis, p: P) -> list[_Jobs]:
    queued = sum(r["tenant"] == p["tenant"] and r["state"] == "queued" for r in t.live.values())
    return [_Jobs(min(queued, p["cap"]))]


PLAYED: Sequence[tuple[object, Callable[[Tables, Millis, P], Any]]] = (
    (backlog.POOLS, pools),
    (backlog.TENANTS, tenants),
    (backlog.HEADS, heads),
    (backlog.URGENT, urgent),
    (backlog.MARK_PUBLISHED, mark_published),
    (backlog.UNMARK, unmark),
    (backlog.WINDOW, window),
    (backlog.WINDOW_BY_CLASS, window_by_class),
    (backlog.LOAD_OF_WINDOW, load_of_window),
    (backlog.LOAD_OF_TENANT, load_of_tenant),
    (backlog.DEPTH, depth),
)
