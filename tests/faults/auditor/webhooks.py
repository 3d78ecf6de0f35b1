"""What receivers of webhooks were told, by their log: true, their own, signed, and all of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.faults.auditor.evidence import Evidence, Row

LOST, CROSSED, STRAY = "lost", "crossed", "stray"
Found = Iterator[tuple[str, str]]


def webhooks(evidence: Evidence) -> Found:
    """A receiver may be told twice, under one id; never of somebody else's, nor of what is not."""
    events = {_message(row["id"]): row for row in evidence.table("events")}
    ends = {row["id"]: row for row in evidence.table("ends")}
    endpoints = {urlsplit(row["url"]).path: row for row in evidence.table("webhook_endpoints")}
    secrets = defaultdict(list)
    for row in evidence.table("webhook_secrets"):
        secrets[row["tenant"]].append(row["secret"])
    answered: set[tuple[str, str]] = set()  # (path, id)
    for entry in evidence.received:
        path, identity = entry["path"], entry["id"]
        endpoint, event = endpoints.get(path), events.get(identity)
        if endpoint is None or event is None:
            yield STRAY, f"{path} was told {identity}, which nobody asked for"
            continue
        if endpoint["tenant"] != event["tenant"]:
            yield CROSSED, f"{path} of {endpoint['tenant']} was told of {event['tenant']}'s"
        yield from _said(path, entry, event, ends)
        if not _is_signed(entry, secrets[endpoint["tenant"]]):
            yield CROSSED, f"{path} was told {identity} without a signature that is good"
        if 200 <= (entry["says"] or 0) < 300:
            answered.add((path, identity))
    yield from _claims(evidence, answered)
    for path, tenant in evidence.book.told.items():
        for job_id, end in ends.items():
            if end["tenant"] == tenant and (path, _message(job_id)) not in answered:
                yield LOST, f"{path} was never told that job {job_id} is {end['state']}"


def _said(path: str, entry: Row, event: Row, ends: dict[str, Row]) -> Found:
    told = json.loads(entry["body"])
    data = told["data"]
    if (told["type"], data["id"]) != (event["type"], event["id"]):
        yield CROSSED, f"{path} was told {told['type']} of {data['id']} as {entry['id']}"
    end = ends.get(data["id"])
    if end is not None and end["state"] != data["state"]:
        yield CROSSED, f"{path} was told that {data['id']} is {data['state']}: {end['state']}"


def _claims(evidence: Evidence, answered: set[tuple[str, str]]) -> Found:
    """What is written to be delivered was taken by the receiver."""
    paths = {row["id"]: urlsplit(row["url"]).path for row in evidence.table("webhook_endpoints")}
    for row in evidence.table("deliveries"):
        pair = (paths.get(row["endpoint_id"], ""), _message(row["event_id"]))
        if row["state"] == "delivered" and pair not in answered:
            yield LOST, f"{pair[1]} is written as delivered to {pair[0]}, which was not told"


def _is_signed(entry: Row, secrets: list[str]) -> bool:
    headers = entry["headers"]
    signed = ".".join((headers["webhook-id"], headers["webhook-timestamp"], entry["body"]))
    good = set()
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
        good.add("v1," + base64.b64encode(digest).decode())
    return bool(good & set(headers["webhook-signature"].split(" ")))


def _message(event_id: str) -> str:
    return "evt_" + event_id.replace("-", "")
