"""What the statements of ``storage.database.jobs`` do, on tables in memory."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from storage.database.jobs import duties, ending, leaving, reading, running, submit
from storage.records.errors import Conflict
from storage.records.jobs import AGEING_MS_PER_PRIORITY, Millis
from tests.simulator.fake_database.tables import Row, Tables

P = Mapping[str, Any]

_JOB_FIELDS = (
    "id", "tenant", "kind", "model_name", "version", "version_id", "pool", "priority",
    "group_id", "group_index", "custom_id", "metadata", "max_attempts", "run_timeout_ms",
    "retry_of", "webhook_id", "shadow_of",
)  # fmt: skip
_HELD = (
    "id", "state", "session_id", "epoch", "attempts", "max_attempts", "losses",
    "cancel_requested_at",
)  # fmt: skip
_CLAIMED = (
    "id", "tenant", "epoch", "version_id", "priority", "attempts", "max_attempts", "created_at",
    "expires_at", "run_deadline_at", "suspicions", "started_at",
)  # fmt: skip
_Job = namedtuple(
    "_Job",
    "id tenant kind state model_name version version_id pool priority group_id custom_id metadata"
    " seq epoch attempts max_attempts losses session_id created_at expires_at not_before"
    " published_at started_at run_deadline_at run_timeout_ms cancel_requested_at finished_at"
    " error_code error_message error_attempt result_pack_id result_offset_bytes"
    " result_length_bytes result_digest retry_of",
)
_Glimpse = namedtuple("_Glimpse", "id state seq")


def _held(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    return [tuple([row[name] for name in _HELD]) for row in rows]


def _known(t: Tables, ids: Iterable[str]) -> list[Row]:
    """Their live rows, each once, in id order."""
    return [t.live[one] for one in sorted(set(ids)) if one in t.live]


# --- submit


def submit_job(t: Tables, now: Millis, p: P) -> int:
    if p["id"] in t.jobs:
        raise Conflict("it exists already", code="already_exists")
    row = {name: p[name] for name in _JOB_FIELDS}
    t.jobs.put(p["id"], {**row, "created_at": now, "expires_at": now + p["expires_in_ms"]})
    return 1


def submit_live(t: Tables, now: Millis, p: P) -> int:
    t.live.put(
        p["id"],
        {
            "id": p["id"],
            "tenant": p["tenant"],
            "pool": p["pool"],
            "version_id": p["version_id"],
            "group_id": p["group_id"],
            "priority": p["priority"],
            "rank": now - p["priority"] * AGEING_MS_PER_PRIORITY,
            "state": "queued",
            "seq": 1,
            "epoch": 0,
            "attempts": 0,
            "max_attempts": p["max_attempts"],
            "losses": 0,
            "suspicions": 0,
            "session_id": None,
            "created_at": now,
            "expires_at": now + p["expires_in_ms"],
            "not_before": now,
            "published_at": now if p["published"] else None,
            "started_at": None,
            "run_deadline_at": None,
            "run_timeout_ms": p["run_timeout_ms"],
            "cancel_requested_at": None,
            "webhook_id": p["webhook_id"],
            "arm_id": p["arm_id"],
            "shadow_of": p["shadow_of"],
        },
    )
    return 1


def inline_payload(t: Tables, now: Millis, p: P) -> int:
    where = dict.fromkeys(("pack_id", "offset_bytes", "length_bytes", "digest"))
    t.payloads.put(p["id"], {"tenant": p["tenant"], "body": p["body"], **where})
    return 1


def packed_payloads(t: Tables, now: Millis, p: P) -> int:
    for row in p["rows"]:
        t.payloads.put(row["id"], {**row, "body": None})
    return len(p["rows"])


def labels(t: Tables, now: Millis, p: P) -> int:
    for row in p["rows"]:
        t.labels.put((row["tenant"], row["key"], row["value"], row["id"]), dict(row))
    return len(p["rows"])


# --- reading


def whole(t: Tables, job_id: str) -> _Job:
    """A job as a reader sees it."""
    j = t.jobs[job_id]
    live, end = t.live.get(job_id), t.ends.get(job_id)
    now = live or end or {}
    started_at = now.get("started_at")
    deadline = live["run_deadline_at"] if live else None
    if deadline is None and end and started_at is not None:
        deadline = started_at + j["run_timeout_ms"]
    e = end or {}
    return _Job(
        job_id, j["tenant"], j["kind"], now["state"], j["model_name"], j["version"],
        j["version_id"], j["pool"], j["priority"], j["group_id"], j["custom_id"], j["metadata"],
        now["seq"], now["epoch"], now["attempts"], j["max_attempts"], now["losses"],
        now["session_id"], j["created_at"], j["expires_at"],
        live["not_before"] if live else j["created_at"], now["published_at"], started_at,
        deadline, j["run_timeout_ms"], now["cancel_requested_at"], e.get("finished_at"),
        e.get("error_code"), e.get("error_message"), e.get("error_attempt"),
        e.get("result_pack_id"), e.get("result_offset_bytes"), e.get("result_length_bytes"),
        e.get("result_digest"), j["retry_of"],
    )  # fmt: skip


def get(t: Tables, now: Millis, p: P) -> list[_Job]:
    tenant = p["tenant"]
    return [
        whole(t, one) for one in set(p["ids"]) if one in t.jobs and t.jobs[one]["tenant"] == tenant
    ]


def payload(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    row = t.payloads.get(p["id"])
    return [_input(row)] if row and row["tenant"] == p["tenant"] else []


def payloads_of_tenant(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    found = ((one, t.payloads.get(one)) for one in p["ids"])
    return [(one, *_input(row)) for one, row in found if row and row["tenant"] == p["tenant"]]


def _input(row: Row) -> tuple[Any, ...]:
    return row["body"], row["pack_id"], row["offset_bytes"], row["length_bytes"], row["digest"]


def glimpse(t: Tables, now: Millis, p: P) -> list[_Glimpse]:
    return [
        _Glimpse(one, row["state"], row["seq"])
        for one in dict.fromkeys(p["ids"])
        if (row := t.live.get(one) or t.ends.get(one))
    ]


# --- running


def claim_here(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    session = t.sessions.get(p["session"])
    if session is None or session["ended_at"] is not None or session["lease_until"] <= now:
        return []
    taken = []
    for row in _known(t, p["ids"]):
        if row["state"] == "queued" and row["not_before"] <= now < row["expires_at"]:
            changed = t.live.change(
                row["id"],
                state="running",
                seq=row["seq"] + 1,
                epoch=row["epoch"] + 1,
                session_id=p["session"],
                started_at=now,
                run_deadline_at=now + row["run_timeout_ms"],
            )
            taken.append(tuple([changed[name] for name in _CLAIMED]))
    return taken


def payloads(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    return [(one, *_input(t.payloads[one])) for one in p["ids"] if one in t.payloads]


def session(t: Tables, now: Millis, p: P) -> list[tuple[str]]:
    return [(p["session"],)] if p["session"] in t.sessions else []


def hold(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    return _held(_known(t, p["ids"]))


def still_runs(row: Row, session_id: str | None, epoch: int | None) -> bool:
    """Whether a session that speaks of an epoch may speak of this row. Without an epoch it is a
    verb that holds the row."""
    return epoch is None or (
        row["state"] == "running" and row["session_id"] == session_id and row["epoch"] == epoch
    )


def end_here(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    ended = []
    for said in p["rows"]:
        row = t.live.get(said["id"])
        if row is None or not still_runs(row, p["session"], said.get("epoch")):
            continue
        asked_at = row["cancel_requested_at"]
        state = said["state"] if asked_at is None else "cancelled"
        attempts = row["attempts"] + said["spends"]
        failed, succeeded = state == "failed", state == "succeeded"
        if row["id"] in t.ends:
            raise Conflict("it exists already", code="already_exists")
        t.ends.put(
            row["id"],
            {
                "id": row["id"],
                "tenant": row["tenant"],
                "group_id": row["group_id"],
                "state": state,
                "seq": row["seq"] + 1,
                "epoch": row["epoch"],
                "attempts": attempts,
                "losses": row["losses"] + said["loses"],
                "session_id": row["session_id"],
                "published_at": row["published_at"],
                "started_at": row["started_at"],
                "cancel_requested_at": (now if asked_at is None else asked_at)
                if state == "cancelled"
                else asked_at,
                "finished_at": now,
                "error_code": said.get("error_code") if failed else None,
                "error_message": said.get("error_message") if failed else None,
                "error_attempt": attempts if failed else None,
                "result_pack_id": said.get("pack_id") if succeeded else None,
                "result_offset_bytes": said.get("offset_bytes") if succeeded else None,
                "result_length_bytes": said.get("length_bytes") if succeeded else None,
                "result_digest": said.get("digest") if succeeded else None,
                "arm_id": row["arm_id"],
                "shadow_of": row["shadow_of"],
            },
        )
        ended.append((row["id"], state, row["tenant"], row["group_id"], row["seq"] + 1))
    return ended


def end_there(t: Tables, now: Millis, p: P) -> int:
    for one in p["ids"]:
        t.live.take(one)
    return len(p["ids"])


def requeue(t: Tables, now: Millis, p: P) -> int:
    for said in p["rows"]:
        row = t.live[said["id"]]
        t.live.change(
            said["id"],
            state="queued",
            seq=row["seq"] + 1,
            attempts=row["attempts"] + said["spends"],
            losses=row["losses"] + said["loses"],
            suspicions=row["suspicions"] + said["suspects"],
            not_before=now + said["in_ms"],
            session_id=None,
            started_at=None,
            run_deadline_at=None,
            published_at=None,
        )
    return len(p["rows"])


def ask(t: Tables, now: Millis, p: P) -> int:
    rows = _known(t, p["ids"])
    for row in rows:
        t.live.change(row["id"], cancel_requested_at=now, seq=row["seq"] + 1)
    return len(rows)


# --- ending, duties


def of_tenant(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    return _held(row for row in _known(t, p["ids"]) if row["tenant"] == p["tenant"])


def of_group(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    group = t.groups.get(p["group"])
    if group is None or group["tenant"] != p["tenant"]:
        return []
    ids = [one for one, row in t.jobs.items() if row["group_id"] == p["group"]]
    return _held(row for row in _known(t, ids) if row["cancel_requested_at"] is None)  # type: ignore[arg-type]


def of_version(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    version = t.versions.get(p["version"])
    rows = [
        row
        for row in t.live.values()
        if version
        and row["tenant"] == version["tenant"]
        and row["state"] == "queued"
        and row["version_id"] == p["version"]
    ]
    return _held(rows[: p["limit"]])


def expired(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    due = [row for row in t.live.values() if row["state"] == "queued" and row["expires_at"] <= now]
    return _held(sorted(due, key=lambda row: row["expires_at"])[: p["limit"]])


def timed_out(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    due = [
        row
        for row in t.live.values()
        if row["state"] == "running" and row["run_deadline_at"] <= now
    ]
    return _held(due[: p["limit"]])


def sweep(t: Tables, now: Millis, p: P) -> int:
    due = [
        row["id"]
        for row in t.live.values()
        if row["state"] == "queued"
        and row["published_at"] is not None
        and row["published_at"] <= now - p["age"]
    ][: p["limit"]]
    for one in due:
        t.live.change(one, published_at=None)
    return len(due)


def end_sessions(t: Tables, now: Millis, p: P) -> int:
    due = [
        key
        for key, row in t.sessions.items()
        if row["ended_at"] is None and row["lease_until"] <= now
    ][: p["limit"]]
    for one in due:
        t.sessions.change(one, ended_at=now)
    return len(due)


def lost(t: Tables, now: Millis, p: P) -> list[tuple[Any, ...]]:
    due = [
        row
        for row in t.live.values()
        if row["state"] == "running"
        and (found := t.sessions.get(row["session_id"]))
        and found["ended_at"] is not None
    ]
    return _held(due[: p["limit"]])


PLAYED: Sequence[tuple[object, Callable[[Tables, Millis, P], Any]]] = (
    (submit.SUBMIT_JOB, submit_job),
    (submit.SUBMIT_LIVE, submit_live),
    (submit.INLINE_PAYLOAD, inline_payload),
    (submit.PACKED_PAYLOADS, packed_payloads),
    (submit.LABELS, labels),
    (reading.GET, get),
    (reading.PAYLOAD, payload),
    (reading.PAYLOADS, payloads_of_tenant),
    (reading.GLIMPSE, glimpse),
    (running.CLAIM_HERE, claim_here),
    (running.PAYLOADS, payloads),
    (running.SESSION, session),
    (leaving.HOLD, hold),
    (leaving.END_HERE, end_here),
    (leaving.END_THERE, end_there),
    (leaving.REQUEUE, requeue),
    (leaving.ASK, ask),
    (ending.OF_TENANT, of_tenant),
    (ending.OF_GROUP, of_group),
    (ending.OF_VERSION, of_version),
    (duties.EXPIRED, expired),
    (duties.TIMED_OUT, timed_out),
    (duties.SWEEP, sweep),
    (duties.END_SESSIONS, end_sessions),
    (duties.LOST, lost),
)
