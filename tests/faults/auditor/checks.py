"""What has to hold of a service whose callers wrote a book; what it is called if it does not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.faults.auditor.evidence import Evidence, Promise, Row
from tests.faults.auditor.packs import Damaged, Entry, read
from tests.faults.auditor.runs import runs
from tests.faults.auditor.trainings import checkpoints, trainings
from tests.faults.auditor.webhooks import webhooks

LOST, DOUBLED, CROSSED, STUCK, STRAY = "lost", "doubled", "crossed", "stuck", "stray"
KINDS = (LOST, DOUBLED, CROSSED, STUCK, STRAY)
DEAD = "forebay.dead"
Found = Iterator[tuple[str, str]]  # what kind of damage, and a sentence


def audit(evidence: Evidence) -> dict[str, Any]:
    """Everything that is wrong."""
    checks = (answers, jobs, strangers, results, packs, runs, trainings, queues, events, webhooks)
    found = [one for check in checks for one in check(evidence)]
    counts = Counter(kind for kind, _ in found)
    return {
        "accepted": len(evidence.book.promises),
        **{kind: counts[kind] for kind in KINDS},
        "findings": [f"{kind}: {sentence}" for kind, sentence in found],
    }


def answers(evidence: Evidence) -> Found:
    """A repeated request has the same answer, and no two requests have the same job."""
    owner: dict[str, str] = {}
    for request, said in evidence.book.accepted.items():
        if any(ids != said[0] for ids in said):
            yield DOUBLED, f"request {request} was accepted more than once, as other jobs"
        for job_id in said[0]:
            if job_id in owner:
                yield CROSSED, f"job {job_id} is the answer to {owner[job_id]} and to {request}"
            owner[job_id] = request


def jobs(evidence: Evidence) -> Found:
    """Accepted is live or ended, once, and as it was expected to end."""
    asked = defaultdict(list)
    for row in evidence.table("jobs"):
        asked[row["id"]].append(row)
    live = Counter(row["id"] for row in evidence.table("live"))
    ends = defaultdict(list)
    for row in evidence.table("ends"):
        ends[row["id"]].append(row)
    for promise in evidence.book.promises.values():
        rows, ended = asked[promise.id], ends[promise.id]
        if len(rows) != 1:
            yield (DOUBLED if rows else LOST), f"{_name(promise)} is written {len(rows)} times"
        for row in rows:
            if (row["tenant"], row["custom_id"]) != (promise.tenant, promise.custom_id):
                yield CROSSED, f"{_name(promise)} is written as {row['tenant']} {row['custom_id']}"
        if not live[promise.id] and not ended:
            yield LOST, f"{_name(promise)} is neither live nor ended"
        if live[promise.id] + len(ended) > 1:
            yield DOUBLED, f"{_name(promise)} ended {len(ended)} times, live {live[promise.id]}"
        for end in ended:
            yield from _end(promise, end)
    for job_id in live:
        yield STUCK, f"job {job_id} is still live"


def _end(promise: Promise, end: Row) -> Found:
    expect = promise.expect
    said = f"{end['state']} {end.get('error_code') or ''}".strip()
    if end["tenant"] != promise.tenant:
        yield CROSSED, f"{_name(promise)} ended as a job of {end['tenant']}"
    if end["state"] not in expect["states"]:
        yield LOST, f"{_name(promise)} ended as {said}, not as {expect['states']}"
    elif end["state"] == "failed" and end["error_code"] not in expect.get("codes", []):
        yield LOST, f"{_name(promise)} ended as {said}, not as {expect.get('codes')}"
    for name in ("attempts", "losses"):
        most = expect.get(f"most_{name}")
        if most is not None and end[name] > most:
            yield LOST, f"{_name(promise)} spent {end[name]} {name}, more than {most}"


def strangers(evidence: Evidence) -> Found:
    """A job that nobody was told of came of a request that nobody was answered."""
    book = evidence.book
    requests: dict[tuple[str, str], tuple[str, Row]] = {}
    for request, sent in book.sent.items():
        for one in sent["jobs"]:
            requests[sent["tenant"], one["custom_id"]] = (request, sent)
    unanswered: Counter[tuple[str, str]] = Counter()
    for row in evidence.table("jobs"):
        if row["id"] in book.promises:
            continue
        pair = (row["tenant"], row["custom_id"])
        if pair not in requests:
            yield CROSSED, f"job {row['id']} of {row['tenant']} was asked by nobody"
            continue
        request, _ = requests[pair]
        unanswered[pair] += 1
        if request in book.accepted or unanswered[pair] > 1:
            yield DOUBLED, f"job {row['id']} does {request} once more"


def results(evidence: Evidence) -> Found:
    """The pointer of a succeeded job leads to the right bytes, and no other job's does."""
    rows = {row["id"]: row for row in evidence.table("packs")}
    read_packs: dict[str, dict[str, Entry] | str] = {}
    places: dict[tuple[str, int], str] = {}
    for end in evidence.table("ends"):
        promise = evidence.book.promises.get(end["id"])
        if end["state"] != "succeeded":
            continue
        name = _name(promise) if promise else f"job {end['id']}"
        if end["result_pack_id"] is None:
            yield LOST, f"{name} succeeded without a result"
            continue
        pack = rows.get(end["result_pack_id"])
        if pack is None:
            yield LOST, f"{name} points to a pack that has no row"
            continue
        if pack["state"] != "live":
            yield LOST, f"{name} points to a pack that is {pack['state']}"
        if pack["tenant"] != end["tenant"] or _owner(pack["object_key"]) != end["tenant"]:
            yield CROSSED, f"{name} of {end['tenant']} points into {pack['object_key']}"
        place = (pack["id"], end["result_offset_bytes"])
        if place in places:
            yield CROSSED, f"{name} and job {places[place]} point to the same bytes"
        places[place] = end["id"]
        if pack["id"] not in read_packs:
            read_packs[pack["id"]] = _entries(evidence.object(pack["object_key"]))
        entries = read_packs[pack["id"]]
        if isinstance(entries, str):
            yield LOST, f"{name}: its pack {entries}"
        else:
            yield from _answer(name, promise, end, entries)


def _answer(name: str, promise: Promise | None, end: Row, entries: dict[str, Entry]) -> Found:
    entry = entries.get(end["id"])
    if entry is None:
        yield CROSSED, f"{name} points into a pack that holds nothing of it"
        return
    said = (end["result_offset_bytes"], end["result_length_bytes"], end["result_digest"])
    if said != (entry.offset, entry.length, entry.digest):
        yield CROSSED, f"{name} points beside its own entry"
        return
    if hashlib.sha256(entry.data).hexdigest() != end["result_digest"]:
        yield LOST, f"{name}: the bytes are not those of its digest"
    if promise is None or promise.bulk is not None or promise.training is not None:
        return
    try:
        outputs = json.loads(entry.data)["outputs"]
        (answer,) = outputs.values()
    except (ValueError, KeyError, TypeError, AttributeError):
        yield CROSSED, f"{name} has an answer of another shape"
        return
    if answer != promise.question:
        yield CROSSED, f"{name} asked {promise.question} and was answered {answer}"


def packs(evidence: Evidence) -> Found:
    """What is live is there and whole, and nothing is there that no row knows."""
    rows, places = evidence.table("packs"), checkpoints(evidence)
    for row in rows:
        if row["state"] != "live" or row["id"] in places:
            continue
        data = evidence.object(row["object_key"])
        if row["object_key"].startswith("bulk/"):  # a file of a bulk job, known as a pack is
            if data is None or len(data) != row["size_bytes"]:
                yield LOST, f"the live file {row['object_key']} is not there as its row says"
            continue
        entries = _entries(data)
        if isinstance(entries, str):
            yield LOST, f"the live pack {row['object_key']} {entries}"
        elif row["entries"] != len(entries):
            yield LOST, f"the pack {row['object_key']} holds {len(entries)} of {row['entries']}"
    known = {row["object_key"] for row in rows}
    for key in evidence.object_keys():
        if key not in known and not key.startswith("models/"):
            yield STRAY, f"no row knows the object {key}"


def queues(evidence: Evidence) -> Found:
    """Nothing waits for anybody, but dead letters that somebody has written."""
    for queue in evidence.queues:
        name = queue["name"]
        messages = queue["messages_ready"] + queue["messages_unacknowledged"]
        if messages > evidence.book.explained[name]:
            yield STRAY, f"{name} holds {messages} messages that nobody explains"


def events(evidence: Evidence) -> Found:
    """At most one event for each terminal state, and none of another."""
    ends = {row["id"]: row for row in evidence.table("ends")}
    seen: Counter[tuple[str, str]] = Counter()
    for row in evidence.table("events"):
        job_id, kind = row.get("id"), str(row.get("type", ""))
        if not kind.startswith("job.") or job_id not in ends:
            continue
        seen[job_id, kind] += 1
        if kind != f"job.{ends[job_id]['state']}":
            yield CROSSED, f"job {job_id} is {ends[job_id]['state']}, and its event says {kind}"
        if row.get("tenant", ends[job_id]["tenant"]) != ends[job_id]["tenant"]:
            yield CROSSED, f"the event of job {job_id} belongs to {row['tenant']}"
    for (job_id, kind), count in seen.items():
        if count > 1:
            yield DOUBLED, f"job {job_id} has {count} events {kind}"


def _entries(data: bytes | None) -> dict[str, Entry] | str:
    if data is None:
        return "has no object"
    try:
        return read(data)
    except Damaged as damage:
        return f"is damaged: {damage}"


def _owner(key: str) -> str | None:
    """The tenant in ``packs/KIND/TENANT/DAY/ID.pack``."""
    parts = key.split("/")
    return parts[2] if len(parts) == 5 and parts[0] == "packs" else None


def _name(promise: Promise) -> str:
    return f"job {promise.id} ({promise.tenant} {promise.custom_id})"
