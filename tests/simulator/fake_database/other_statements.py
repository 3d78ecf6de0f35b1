"""What the statements of groups, sessions, packs, models and idempotency keys do, in memory."""

from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storage.database import duties, groups, idempotency, latency, models, packs, sessions
from storage.database.bulk import deaths
from storage.database.jobs import ending
from storage.records.errors import Conflict
from storage.records.jobs import Millis
from storage.records.packs import STALE_AFTER_MS
from tests.simulator.fake_database.job_statements import whole
from tests.simulator.fake_database.tables import Tables

P = Mapping[str, Any]

_Counts = namedtuple("_Counts", "id tenant created_at total state jobs")
_Session = namedtuple(
    "_Session", "id node host device pool started_at lease_until jobs_per_s ended_at stats"
)
_Pack = namedtuple("_Pack", "id tenant kind object_key state entries size_bytes created_at")
_Version = namedtuple(
    "_Version",
    "id tenant name version state format digest size_bytes object_key signature trusted error"
    " created_at loaded_at origin uploader licence notes deleted_at collected_at",
)
_Key = namedtuple("_Key", "tenant key")
_Known = namedtuple("_Known", "tenant key known")

# --- groups


def create_group(t: Tables, now: Millis, p: P) -> int:
    row = {"id": p["id"], "tenant": p["tenant"], "total": p["total"], "created_at": now}
    t.groups.put(p["id"], {**row, "webhook_id": p["webhook"], "settled": 0, "completed_at": None})
    return 1


def counts(t: Tables, now: Millis, p: P) -> list[_Counts]:
    return _counts(t, p["group"], live=True)


def ended(t: Tables, now: Millis, p: P) -> list[_Counts]:
    return [row for one in dict.fromkeys(p["ids"]) for row in _counts(t, one, live=False)]


def _counts(t: Tables, group_id: str, *, live: bool) -> list[_Counts]:
    group = t.groups.get(group_id)
    if group is None:
        return []
    tables = (t.live, t.ends) if live else (t.ends,)
    states = Counter(
        row["state"] for table in tables for row in table.values() if row["group_id"] == group_id
    )
    head = (group_id, group["tenant"], group["created_at"], group["total"])
    return [_Counts(*head, *one) for one in states.items()] or [_Counts(*head, None, None)]


def members(t: Tables, now: Millis, p: P) -> list[Any]:
    group = t.groups.get(p["group"])
    if group is None or group["tenant"] != p["tenant"]:
        return []
    rows = [
        row
        for row in t.jobs.values()
        if row["group_id"] == p["group"] and row["group_index"] > p["after"]
    ]
    rows.sort(key=lambda row: row["group_index"])
    return [whole(t, row["id"]) for row in rows[: p["limit"]]]


# --- sessions


def open_session(t: Tables, now: Millis, p: P) -> int:
    row = dict(p)
    row["started_at"] = row.pop("now")
    t.sessions.put(p["id"], {**row, "jobs_per_s": 0.0, "ended_at": None, "stats": None})
    return 1


def renew(t: Tables, now: Millis, p: P) -> int:
    row = t.sessions.get(p["id"])
    if row is None or row["ended_at"] is not None or row["lease_until"] <= p["now"]:
        return 0
    stats = row["stats"] if p["stats"] is None else p["stats"]
    t.sessions.change(
        p["id"], lease_until=p["lease_until"], jobs_per_s=p["jobs_per_s"], stats=stats
    )
    return 1


def close_session(t: Tables, now: Millis, p: P) -> int:
    row = t.sessions.get(p["id"])
    if row is None or row["ended_at"] is not None:
        return 0
    stats = row["stats"] if p["stats"] is None else p["stats"]
    t.sessions.change(p["id"], ended_at=p["now"], stats=stats)
    return 1


def live_sessions(t: Tables, now: Millis, p: P) -> list[_Session]:
    return [
        _Session(*[row[name] for name in _Session._fields])
        for _, row in sorted(t.sessions.items())
        if row["ended_at"] is None and row["lease_until"] > p["now"]
    ]


def forget_sessions(t: Tables, now: Millis, p: P) -> int:
    old = [
        row
        for row in t.sessions.values()
        if row["ended_at"] is not None and row["ended_at"] <= p["before"]
    ]
    old.sort(key=lambda row: row["ended_at"])
    running = {row["session_id"] for row in t.live.values() if row["state"] == "running"}
    gone = [row["id"] for row in old[: p["limit"]] if row["id"] not in running]
    for one in gone:
        t.sessions.take(one)
    return len(gone)


# --- packs


def open_pack(t: Tables, now: Millis, p: P) -> int:
    if p["id"] in t.packs:
        raise Conflict("it exists already", code="already_exists")
    row = {"id": p["id"], "tenant": p["tenant"], "kind": p["kind"], "object_key": p["key"]}
    fresh = {"state": "writing", "entries": 0, "size_bytes": 0, "created_at": now}
    t.packs.put(p["id"], {**row, **fresh})
    return 1


def publish_many(t: Tables, now: Millis, p: P) -> int:
    done = 0
    for said in p["rows"]:
        row = t.packs.get(said["id"])
        young = row and row["created_at"] > now - STALE_AFTER_MS
        if row and young and said["id"] in p["ids"] and row["state"] == "writing":
            t.packs.change(
                said["id"], state="live", entries=said["entries"], size_bytes=said["size_bytes"]
            )
            done += 1
    return done


def get_pack(t: Tables, now: Millis, p: P) -> list[_Pack]:
    return _packs([t.packs[p["id"]]] if p["id"] in t.packs else [])


def doom_stale(t: Tables, now: Millis, p: P) -> list[_Pack]:
    stale = [
        row
        for row in t.packs.values()
        if row["state"] == "writing" and row["created_at"] <= p["before"]
    ]
    stale.sort(key=lambda row: row["created_at"])
    return _packs([t.packs.change(row["id"], state="doomed") for row in stale[: p["limit"]]])


def old_packs(t: Tables, now: Millis, p: P) -> list[_Pack]:
    rows = [row for key, row in sorted(t.packs.items()) if p["after"] < key < p["horizon"]]
    return _packs(rows[: p["limit"]])


def known_packs(t: Tables, now: Millis, p: P) -> list[_Pack]:
    return _packs([t.packs[one] for one in sorted(p["ids"]) if one in t.packs])


def live_packs(t: Tables, now: Millis, p: P) -> list[_Pack]:
    return [row for row in known_packs(t, now, p) if row.state == "live"]


def doom_unused(t: Tables, now: Millis, p: P) -> int:
    used = {row["pack_id"] for row in t.payloads.values() if row.get("pack_id")}
    unused = [r for r in live_packs(t, now, p) if r.kind == "result" or r.id not in used]
    for row in unused:
        t.packs.change(row.id, state="doomed")
    return len(unused)


def doomed(t: Tables, now: Millis, p: P) -> list[_Pack]:
    rows = [row for _, row in sorted(t.packs.items()) if row["state"] == "doomed"]
    return _packs(rows[: p["limit"]])


def forget_packs(t: Tables, now: Millis, p: P) -> int:
    gone = [one for one in p["ids"] if one in t.packs and t.packs[one]["state"] == "doomed"]
    for one in gone:
        t.packs.take(one)
    return len(gone)


def _packs(rows: Iterable[Mapping[str, Any]]) -> list[_Pack]:
    return [_Pack(*[row[name] for name in _Pack._fields]) for row in rows]


# --- models


def next_number(t: Tables, now: Millis, p: P) -> list[tuple[int]]:
    key = (p["tenant"], p["name"])
    number = t.models[key]["latest_version"] + 1 if key in t.models else 1
    t.models.put(key, {"latest_version": number, "created_at": now})
    return [(number,)]


def push(t: Tables, now: Millis, p: P) -> int:
    row = dict(p)
    row["created_at"] = row.pop("now")
    later = dict.fromkeys(("error", "loaded_at", "origin", "deleted_at", "collected_at"))
    t.versions.put(p["id"], {**row, "state": "pending", **later})
    return 1


def by_id(t: Tables, now: Millis, p: P) -> list[_Version]:
    return _versions([t.versions[p["id"]]] if p["id"] in t.versions else [])


def latest(t: Tables, now: Millis, p: P) -> list[_Version]:
    mine = [
        row
        for row in t.versions.values()
        if row["tenant"] == p["tenant"]
        and row["name"] == p["name"]
        and row["state"] in ("pending", "ready")
    ]
    return _versions(sorted(mine, key=lambda row: -row["version"])[:1])


def _versions(rows: Iterable[Mapping[str, Any]]) -> list[_Version]:
    return [_Version(*[row[name] for name in _Version._fields]) for row in rows]


def costs(t: Tables, now: Millis, p: P) -> list[Any]:
    """Nobody measured anything."""
    return []


# --- idempotency keys


def remember(t: Tables, now: Millis, p: P) -> list[_Key]:
    taken = []
    for row in sorted(p["rows"], key=lambda row: (row["tenant"], row["key"])):
        key = (row["tenant"], row["key"])
        known = t.idempotency.get(key)
        if known is None or known["expires_at"] <= now:
            t.idempotency.put(key, {**row, "expires_at": now + p["ttl_ms"]})
            taken.append(_Key(*key))
    return taken


def recall(t: Tables, now: Millis, p: P) -> list[_Known]:
    return _recall(t, p["rows"], unless=-1)


def recall_now(t: Tables, now: Millis, p: P) -> list[_Known]:
    return _recall(t, p["rows"], unless=now)


def _recall(t: Tables, rows: Iterable[Mapping[str, str]], unless: Millis) -> list[_Known]:
    found = []
    for row in rows:
        known = t.idempotency.get((row["tenant"], row["key"]))
        text = None
        if known and known["expires_at"] > unless:
            text = f"{known['fingerprint']} {known['ref']}"
        found.append(_Known(row["tenant"], row["key"], text))
    return found


def forget_keys(t: Tables, now: Millis, p: P) -> int:
    old = [key for key, row in t.idempotency.items() if row["expires_at"] <= p["now"]]
    for key in old[: p["limit"]]:
        t.idempotency.take(key)
    return len(old[: p["limit"]])


# --- bulk runs and trainings: there are none


def reap_shards(t: Tables, now: Millis, p: P) -> list[Any]:
    return []


def looked_after(t: Tables, now: Millis, p: P) -> list[Any]:
    return []


def made(t: Tables, now: Millis, p: P) -> list[Any]:
    return []


def close_runs(t: Tables, now: Millis, p: P) -> int:
    return 0


# --- duties


def note(t: Tables, now: Millis, p: P) -> int:
    before = t.duties.get(p["name"], {"clear_at": now})
    clear_at = now if p["clear"] else before["clear_at"]
    t.duties.put(p["name"], {"every_ms": p["every_ms"], "ran_at": now, "clear_at": clear_at})
    return 1


def notes(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    return [(n, r["every_ms"], r["ran_at"], r["clear_at"]) for n, r in sorted(t.duties.items())]


PLAYED: Sequence[tuple[object, Callable[[Tables, Millis, P], Any]]] = (
    (duties.NOTE, note),
    (duties.NOTES, notes),
    (deaths.REAP, reap_shards),
    (deaths.CLOSE, close_runs),
    (deaths.LOOKED_AFTER, looked_after),
    (ending.MADE, made),
    (groups.CREATE, create_group),
    (groups.COUNTS, counts),
    (groups.ENDED, ended),
    (groups.MEMBERS, members),
    (sessions.OPEN, open_session),
    (sessions.RENEW, renew),
    (sessions.CLOSE, close_session),
    (sessions.LIVE, live_sessions),
    (sessions.FORGET, forget_sessions),
    (packs.OPEN, open_pack),
    (packs.PUBLISH_MANY, publish_many),
    (packs.GET, get_pack),
    (packs.DOOM_STALE, doom_stale),
    (packs.OLD, old_packs),
    (packs.CONDEMN, known_packs),
    (packs.DOOM_UNUSED, doom_unused),
    (packs.HOLD_LIVE, live_packs),
    (packs.DOOMED, doomed),
    (packs.FORGET, forget_packs),
    (models.NEXT_NUMBER, next_number),
    (models.PUSH, push),
    (models.BY_ID, by_id),
    (models.LATEST, latest),
    (latency.COSTS, costs),
    (idempotency.REMEMBER, remember),
    (idempotency.RECALL, recall),
    (idempotency.RECALL_NOW, recall_now),
    (idempotency.FORGET, forget_keys),
)
