"""The SDK moves aliases: what is sent, what comes back, and what is never done twice."""

from __future__ import annotations

import json

import httpx
import pytest

from forebay import Forebay
from producers.client import BadArgument, Conflict, GateFailed, Unreachable
from tests.unit.client.fake_service import FakeService, problem

COMPARISONS = [
    {"comparison": "accuracy >= 0.97", "left": 0.98, "right": 0.97, "holds": True},
    {"comparison": "recall >= @prod.recall", "left": 0.8, "right": 0.9, "holds": False},
]


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def client(service):
    return Forebay("http://forebay.test", key="", patience_s=5.0, transport=service.transport)


def answers(service, **document):
    service.faults = [httpx.Response(200, json=document)]


def sent(service):
    request = service.requests[-1]
    return request.method, request.url.path, json.loads(request.content)


def test_only_what_was_asked_for_is_sent(client, service):
    answers(service, version=4)
    assert client.models.promote("digits:4", "prod")["version"] == 4
    here = "/v1/models/digits/aliases/prod"
    assert sent(service) == ("POST", f"{here}/promote", {"version": 4})
    answers(service)
    client.models.promote(
        "digits:4", "prod", gate="a > 1", expected=3, note="ä", requeue=True, dry_run=True
    )
    wanted = {"version": 4, "if": "a > 1", "expected": 3, "note": "ä"}
    assert sent(service)[2] == wanted | {"requeue": True, "dry_run": True}
    answers(service)
    client.models.promote("digits:4", "prod", allow_other_signature=True)
    assert sent(service)[2] == {"version": 4, "allow_other_signature": True}
    answers(service)
    client.models.rollback("digits", "prod")
    assert sent(service) == ("POST", f"{here}/rollback", {})
    answers(service)
    client.models.rollback("digits", "prod", expected=4, note="slow", requeue=True)
    assert sent(service)[2] == {"expected": 4, "note": "slow", "requeue": True}


def test_queued_jobs_are_given_away(client, service):
    answers(service, requeued=12)
    assert client.models.requeue("digits", 4, 3) == 12
    assert sent(service) == ("POST", "/v1/models/digits/requeue", {"from": 4, "to": 3})


def test_a_gate_that_does_not_hold_is_an_error_of_its_own(client, service):
    says = "digits:4 does not become 'prod'"
    service.faults = [problem(409, "gate_failed", says, field="if", errors=COMPARISONS)]
    with pytest.raises(GateFailed, match=says) as refused:
        client.models.promote("digits:4", "prod", gate="…")
    assert isinstance(refused.value, Conflict) and refused.value.field == "if"
    assert [one["holds"] for one in refused.value.comparisons] == [True, False]
    service.faults = [problem(409, "alias_moved", "it moved", field="expected")]
    with pytest.raises(Conflict) as moved:
        client.models.promote("digits:4", "prod", expected=3)
    assert type(moved.value) is Conflict and moved.value.code == "alias_moved"


@pytest.mark.parametrize("ref", ["digits", "digits@prod", "digits:", "digits:x", ":4"])
def test_what_names_no_version_is_refused_before_anything_is_sent(client, service, ref):
    with pytest.raises(BadArgument, match="name:number"):
        client.models.promote(ref, "prod")
    assert service.requests == []


def test_an_alias_is_not_moved_twice_when_the_connection_breaks(client, service):
    """A second rollback would go one step further; a dry run and a requeue may be repeated."""
    for move in (
        lambda: client.models.promote("digits:4", "prod", gate="a > @prod.a"),
        lambda: client.models.rollback("digits", "prod"),
    ):
        service.requests.clear()
        service.faults = [httpx.ReadError("broken")]
        with pytest.raises(Unreachable):
            move()
        assert len(service.requests) == 1
    for harmless in (
        lambda: client.models.promote("digits:4", "prod", dry_run=True),
        lambda: client.models.requeue("digits", 4, 3),
    ):
        service.requests.clear()
        service.faults = [
            httpx.ReadError("broken"),
            httpx.Response(200, json={"requeued": 0}),
        ]
        harmless()
        assert len(service.requests) == 2


def test_a_history_follows_its_pages(client, service):
    def page(generations, after):
        rows = [{"generation": one} for one in generations]
        document = {"data": rows, "has_more": after is not None, "next": after}
        return httpx.Response(200, json=document)

    service.faults = [page([5, 4], "4"), page([3, 2], "2"), page([1], None)]
    found = [move["generation"] for move in client.models.history("digits", "prod")]
    assert found == [5, 4, 3, 2, 1]
    asked = [str(request.url.query, "ascii") for request in service.requests]
    assert asked == ["", "after=4", "after=2"]
    service.requests.clear()
    service.faults = [page([5, 4], "4"), page([3, 2], "2")]
    found = [move["generation"] for move in client.models.history("digits", "prod", limit=3)]
    assert found == [5, 4, 3]
    assert [dict(one.url.params)["limit"] for one in service.requests] == ["3", "1"]
