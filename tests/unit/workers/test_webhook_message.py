"""What is sent: thin, complete, and with nothing in it that a caller could break out of."""

from __future__ import annotations

import json

import pytest

from storage.records.webhook_guard import Guard
from storage.records.webhooks import BATCH_TYPES, EVENT_TYPES, Event
from workers.webhooks.message import body_of, headers_of, request_of, rfc3339

OURS = [kind for kind in EVENT_TYPES if kind not in BATCH_TYPES]
ID, GROUP = "01970000-0000-7000-8000-000000000001", "01970000-0000-7000-8000-000000000002"
MOMENT = 1_800_000_000_007


def told(kind: str, group: str | None = None, public_url: str = "") -> dict:
    return json.loads(body_of(Event(ID, "t", kind, group, 3, MOMENT), public_url))


@pytest.mark.parametrize("kind", OURS)
def test_every_event_says_type_time_id_state_number_and_links(kind: str):
    found = told(kind, GROUP)
    assert (found["type"], found["timestamp"]) == (kind, "2027-01-15T08:00:00.007Z")
    data = found["data"]
    assert (data["id"], data["seq"]) == (ID, 3)
    assert data["object"] == kind.partition(".")[0]
    assert data["state"] == kind.partition(".")[2]
    assert data["links"]["self"] == f"/v1/{data['object']}s/{ID}"


def test_only_what_succeeded_has_a_result():
    with_result = {kind for kind in OURS if "result" in told(kind)["data"]["links"]}
    assert with_result == {"job.succeeded"}
    assert told("group.completed")["data"]["links"]["results"] == f"/v1/groups/{ID}/results"


def test_links_begin_with_where_callers_reach_the_service():
    data = told("job.succeeded", public_url="https://f.example/base")["data"]
    assert data["links"]["result"] == f"https://f.example/base/v1/jobs/{ID}/result"


def test_a_job_names_its_group():
    assert told("job.failed", GROUP)["data"]["group"] == GROUP
    assert told("job.failed")["data"]["group"] is None


@pytest.mark.parametrize("kind", BATCH_TYPES)
def test_a_batch_is_told_of_in_the_shape_it_came_in(kind: str):
    hex_id = ID.replace("-", "")
    assert told(kind) == {
        "id": f"evt_{hex_id}",
        "object": "event",
        "type": kind,
        "created_at": MOMENT // 1000,
        "data": {"id": f"batch_{hex_id}"},
    }


def test_the_whole_request_is_one_of_http():
    event = Event(ID, "t", "job.failed", None, 3, MOMENT)
    body = body_of(event)
    headers = headers_of(event, body, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], 1_800_000_000)
    target = Guard().target("https://example.com:8443/hook?a=b")
    head, _, sent = request_of(target, headers, body).partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert sent == body
    assert lines[0] == "POST /hook?a=b HTTP/1.1"
    assert "host: example.com:8443" in lines
    assert f"content-length: {len(body)}" in lines
    assert "webhook-timestamp: 1800000000" in lines
    assert f"webhook-id: evt_{ID.replace('-', '')}" in lines
    assert len([line for line in lines if line.startswith("webhook-signature: v1,")]) == 1


def test_moments_are_told_in_utc_with_their_milliseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(MOMENT) == "2027-01-15T08:00:00.007Z"
