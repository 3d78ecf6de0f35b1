"""The SDK's webhooks: what is asked of the service, and what is shown of a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from producers.client import BadArgument, Forebay, NotFound, Webhook
from tests.unit.client.fake_service import FakeService
from tests.unit.client.fake_webhooks import TENANTS_SECRET, attempt

URL = "https://example.com/hook"


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def client(service):
    with Forebay("http://127.0.0.1:9", transport=service.transport, patience_s=0) as made:
        yield made


def test_an_endpoint_is_added_found_changed_and_removed(client, service):
    made = client.webhooks.add(URL, events=["job.failed"], description="d")
    assert (made.url, made.events, made.enabled) == (URL, ("job.failed",), True)
    assert made.secret == TENANTS_SECRET and TENANTS_SECRET not in repr(made)
    assert "secret" not in made.document
    assert service.webhooks.asked == [
        ("", {"url": URL, "events": ["job.failed"], "description": "d"})
    ]
    assert [one.id for one in client.webhooks.list()] == [made.id]
    assert list(client.webhooks.list(url=URL + "x")) == []
    assert client.webhooks.get(made).secret is None
    assert not client.webhooks.change(made, enabled=False).enabled
    assert client.webhooks.change(made.id, events=["*"], description="").events == ("*",)
    changes = [body for path, body in service.webhooks.asked if path == made.id]
    assert changes == [{"enabled": False}, {"events": ["*"], "description": ""}]
    client.webhooks.remove(made)
    with pytest.raises(NotFound):
        client.webhooks.get(made)


def test_a_secret_of_ones_own(client):
    assert client.webhooks.add(URL, secret="own").secret == "whsec_made"
    assert client.webhooks.add(URL, secret="whsec_mine").secret == "whsec_mine"


def test_secrets_are_read_and_rotated(client, service):
    made = client.webhooks.add(URL)
    found = client.webhooks.secret()
    assert (found.secret, found.previous_until) == (TENANTS_SECRET, None)
    assert TENANTS_SECRET not in repr(found)
    assert client.webhooks.rotate().secret == "whsec_new"
    assert client.webhooks.rotate(made, overlap_s=0).secret == "whsec_own"
    assert client.webhooks.rotate(made, secret="whsec_mine").secret == "whsec_mine"
    assert service.webhooks.asked[1:] == [
        ("secret/rotate", {}),
        (f"{made.id}/rotate", {"overlap_s": 0}),
        (f"{made.id}/rotate", {"secret": "whsec_mine"}),
    ]


def test_one_event_or_a_range_is_replayed_to_its_end(client, service):
    made = client.webhooks.add(URL)
    assert client.webhooks.test(made) == "evt_test"
    assert client.webhooks.replay(made, "evt_1") == 1
    service.webhooks.replays = [
        {"deliveries": 10_000, "until": "T9", "next_since": "T5"},
        {"deliveries": 7, "until": "T9", "next_since": None},
    ]
    since = datetime(2026, 5, 1, tzinfo=UTC)
    assert client.webhooks.replay(made, since=since) == 10_007
    client.webhooks.replay(made, since="T1", until="T2")
    assert [body for path, body in service.webhooks.asked if path.endswith("/replay")] == [
        {"event": "evt_1"},
        {"since": "2026-05-01T00:00:00+00:00"},
        {"since": "T5", "until": "T9"},
        {"since": "T1", "until": "T2"},
    ]


def test_attempts_come_as_the_service_wrote_them(client, service):
    made = client.webhooks.add(URL)
    service.webhooks.attempts = [attempt(n) for n in range(3)]
    assert [one["event"] for one in client.webhooks.attempts(made, limit=2)] == ["evt_0", "evt_1"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda hooks: hooks.replay("a"),
        lambda hooks: hooks.replay("a", "evt_1", since="T"),
        lambda hooks: hooks.replay("a", "evt_1", until="T"),
        lambda hooks: hooks.replay("a", since=datetime(2026, 5, 1)),
        lambda hooks: hooks.get("../jobs"),
        lambda hooks: hooks.get(""),
        lambda hooks: hooks.get(None),
        lambda hooks: hooks.add(URL, description=object()),
    ],
)
def test_what_makes_no_sense_is_not_sent(client, service, wrong):
    with pytest.raises(BadArgument):
        wrong(client.webhooks)
    assert service.requests == []


def test_a_submit_brings_its_webhook(client, service):
    client.submit("m", text="a", webhook=URL)
    client.submit("m", text="a")
    items = [{"text": "a"}, {"text": "b", "webhook": URL + "/b"}]
    client.submit_many("m", items, webhook=URL + "/group")
    client.submit_many("m", items)
    groups = list(client.submit_in_groups("m", items, webhook=URL + "/groups"))
    bodies = [json.loads(request.content) for request in service.requests]
    assert [body.get("webhook") for body in bodies] == [
        URL,
        None,
        URL + "/group",
        None,
        URL + "/groups",
    ]
    assert [job.get("webhook") for job in bodies[2]["jobs"]] == [None, URL + "/b"]
    assert len(groups) == 1


def test_an_endpoint_says_what_it_is():
    assert repr(Webhook({"id": "a", "url": URL, "events": []})) == f"Webhook('a', '{URL}')"
