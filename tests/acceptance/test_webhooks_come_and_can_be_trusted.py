"""Whoever hands over work and walks away is told when it is over: once for each end, signed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forebay import Forebay, WebhookVerificationError, verify
from tests.acceptance.conftest import Tenants
from tests.support.caller import Caller, echo_jobs, tensor
from tests.support.receiver import Receiver, receiving
from tests.support.stack import Stack
from tests.support.waiting import wait_until

COMES_WITHIN_S = 90.0
NO_PICTURE = {"image": base64.b64encode(b"hello").decode()}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def client(stack: Stack, models: None) -> Iterator[Forebay]:
    with Forebay(stack.url, key="") as client:
        yield client
        for webhook in client.webhooks.list():
            client.webhooks.remove(webhook)


def arrived(receiver: Receiver, path: str, count: int) -> list[Mapping[str, Any]]:
    """What came at a path, once so many have come."""

    def found() -> list[Mapping[str, Any]]:
        return [one for one in list(receiver.requests) if one["path"] == path]

    wait_until(lambda: len(found()) >= count, COMES_WITHIN_S, what=f"{count} webhooks at {path}")
    return found()


def event_of(request: Mapping[str, Any], secret: str | list[str]) -> dict[str, Any]:
    """The event, verified as a receiver does."""
    return verify(request["headers"], request["body"].encode("latin-1"), secret)


def a_cancelled_job(caller: Caller) -> str:
    """Of a few, one that a cancel met before its answer did."""
    for n in range(20):
        job_id = str(caller.submit("slow_echo", tensor(6, n), priority=9)["id"])
        caller.http.post(f"/v1/jobs/{job_id}/cancel")
        if caller.finish(job_id)["state"] == "cancelled":
            return job_id
    raise AssertionError("of twenty jobs none could be cancelled")


def test_each_end_is_told_once_with_what_is_needed_to_fetch_it(
    caller: Caller, client: Forebay, receiver: Receiver
) -> None:
    webhook = client.webhooks.add(receiver.url("/ok/all"))
    flood = caller.submit_many(echo_jobs("slow_echo", range(600), priority=9))["group"]
    waiting = a_cancelled_job(caller)
    late = caller.submit("slow_echo", tensor(1, 1), priority=0, expires_in_s=0.001)["id"]
    done = caller.submit("echo", tensor(1, 2), priority=9)["id"]
    bad = caller.submit("picture", NO_PICTURE)["id"]
    ends = {waiting: "cancelled", late: "expired", done: "succeeded", bad: "failed"}
    for job_id in ends:
        ends[job_id] = caller.finish(job_id)["state"]
    assert list(ends.values()) == ["cancelled", "expired", "succeeded", "failed"]
    caller.http.post(f"/v1/groups/{flood}/cancel")
    caller.finish_group(flood)

    assert webhook.secret is not None
    secret = webhook.secret

    def told() -> dict[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for one in list(receiver.requests):
            found.setdefault(event_of(one, secret)["data"]["id"], []).append(one)
        return found

    wait_until(lambda: len(told()) >= 604, COMES_WITHIN_S, what="every end is told")
    for job_id, state in ends.items():
        (request,) = told()[job_id]
        event = event_of(request, secret)
        job = caller.job(job_id)
        assert event["type"] == f"job.{state}" and event["data"]["state"] == state == job["state"]
        assert event["data"]["object"] == "job" and event["data"]["group"] is None
        assert request["id"] == "evt_" + job_id.replace("-", "")
        links = event["data"]["links"]
        assert caller.http.get(links["self"]).json() == job
        assert ("result" in links) == (state == "succeeded")
    answer = caller.http.get(event_of(told()[done][0], secret)["data"]["links"]["result"])
    assert answer.json() == caller.result(done)
    assert {row["id"] for row in caller.results(flood)} <= set(told())
    assert all(len(requests) == 1 for requests in told().values())


def test_a_group_and_a_job_are_told_at_their_own_webhooks(
    caller: Caller, client: Forebay, receiver: Receiver
) -> None:
    items = [{"tensor": [n, -n]} for n in range(20)]
    items[7]["webhook"] = receiver.url("/ok/job")
    group = client.submit_many("echo", items, webhook=receiver.url("/ok/group"))
    single = client.submit("echo", tensor=[1, 1], webhook=receiver.url("/ok/single"))
    secret = client.webhooks.secret().secret
    (request,) = arrived(receiver, "/ok/job", 1)
    assert event_of(request, secret)["data"]["id"] == group.members[7].id
    (request,) = arrived(receiver, "/ok/single", 1)
    assert event_of(request, secret)["data"]["id"] == single.id
    (request,) = arrived(receiver, "/ok/group", 1)
    event = event_of(request, secret)
    assert (event["type"], event["data"]["id"]) == ("group.completed", group.id)
    lines = caller.http.get(event["data"]["links"]["results"]).text.splitlines()
    assert len(lines) == 20 and caller.group(group.id)["done"]
    assert list(client.webhooks.list()) == []
    assert len(receiver.requests) == 3


def test_what_is_not_taken_comes_again_under_the_same_id_and_the_log_says_so(
    caller: Caller, client: Forebay, receiver: Receiver
) -> None:
    webhook = client.webhooks.add(receiver.url("/until/2"), events=["job.succeeded"])
    job = client.submit("echo", tensor=[3, 3])
    first, second = arrived(receiver, "/until/2", 2)
    assert first["id"] == second["id"] == "evt_" + job.id.replace("-", "")
    assert webhook.secret is not None
    assert event_of(first, webhook.secret) == event_of(second, webhook.secret)
    assert 5 <= second["time"] - first["time"] < 30

    def log() -> list[Mapping[str, Any]]:
        return list(client.webhooks.attempts(webhook))

    wait_until(lambda: len(log()) == 2, COMES_WITHIN_S, what="both attempts are logged")
    assert [(one["number"], one["result"], one["status"]) for one in log()] == [
        (2, "delivered", 200),
        (1, "retry", 500),
    ]
    assert {one["event"] for one in log()} == {first["id"]}


def test_both_secrets_verify_while_one_takes_the_others_place(
    client: Forebay, receiver: Receiver
) -> None:
    webhook = client.webhooks.add(receiver.url("/ok/rotation"), secret="own")
    assert webhook.secret is not None
    new = client.webhooks.rotate(webhook, overlap_s=3600).secret
    event_id = client.webhooks.test(webhook)
    (request,) = arrived(receiver, "/ok/rotation", 1)
    assert request["id"] == event_id
    assert event_of(request, webhook.secret) == event_of(request, new)
    assert event_of(request, new)["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        event_of(request, client.webhooks.secret().secret)
    last = client.webhooks.rotate(webhook, overlap_s=0).secret
    client.webhooks.test(webhook)
    _, request = arrived(receiver, "/ok/rotation", 2)
    assert event_of(request, last)
    for old in (webhook.secret, new):
        with pytest.raises(WebhookVerificationError):
            event_of(request, old)


def test_one_that_is_gone_is_left_alone_and_catches_up_when_it_is_back(
    caller: Caller, client: Forebay, receiver: Receiver
) -> None:
    webhook = client.webhooks.add(receiver.url("/status/410"))
    before = client.submit("echo", tensor=[4, 4]).wait(60)
    arrived(receiver, "/status/410", 1)
    wait_until(
        lambda: not client.webhooks.get(webhook).enabled, COMES_WITHIN_S, what="it is switched off"
    )
    assert client.webhooks.get(webhook).document["disabled_reason"] == "gone"
    missed = client.submit("echo", tensor=[5, 5]).wait(60)
    back = client.webhooks.add(receiver.url("/ok/back"))
    assert client.webhooks.replay(back, since=before.document["created_at"]) >= 2
    wait_until(
        lambda: (
            {before.id, missed.id}
            <= {
                event_of(one, str(back.secret))["data"]["id"]
                for one in list(receiver.requests)
                if one["path"] == "/ok/back"
            }
        ),
        COMES_WITHIN_S,
        what="what was missed comes",
    )
    assert len(arrived(receiver, "/status/410", 1)) == 1


def test_tenants_are_told_of_their_own_with_secrets_of_their_own(
    tenants: Tenants, stack: Stack, receiver: Receiver
) -> None:
    secrets, jobs = {}, {}
    for name, key in (("a", tenants.a_key), ("b", tenants.b_key)):
        with Forebay(stack.url, key=key) as client:
            webhook = client.webhooks.add(receiver.url(f"/ok/{name}"))
            secrets[name] = str(webhook.secret)
            # The same URL from both: still each hears of its own alone.
            jobs[name] = client.submit("echo", tensor=[1, 1], webhook=receiver.url("/ok/both")).id
            (request,) = arrived(receiver, f"/ok/{name}", 1)
            assert event_of(request, secrets[name])["data"]["id"] == jobs[name]
            client.webhooks.remove(webhook)
    assert secrets["a"] != secrets["b"]
    for request in arrived(receiver, "/ok/both", 2):
        ((name, event),) = _verified_by(request, secrets).items()
        assert event["data"]["id"] == jobs[name]
    assert len(arrived(receiver, "/ok/both", 2)) == 2


def _verified_by(request: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, secret in secrets.items():
        try:
            found[name] = event_of(request, secret)
        except WebhookVerificationError as error:
            assert error.code == "signature_mismatch"
    return found


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "http://0x7f000001/",
        "http://[::1]:5672/",
        "gopher://example.com/",
        "http://user:password@example.com/",
    ],
)
def test_nothing_is_sent_inside(caller: Caller, client: Forebay, url: str) -> None:
    body = {"url": url}
    for answer in (
        caller.http.post("/v1/webhooks", json=body),
        caller.http.post("/v1/jobs", json={"model": "echo", "input": tensor(1), "webhook": url}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_webhook_url")
        assert re.search("FOREBAY_WEBHOOK_ALLOW|internet", answer.json()["detail"])
    assert list(client.webhooks.list()) == []


def test_the_command_does_it_all(
    stack: Stack, models: None, receiver: Receiver, tmp_path: Path
) -> None:
    def forebay(*argv: str) -> str:
        done = stack.run(*argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    added = forebay("webhooks", "add", receiver.url("/ok/command"), "--event", "job.failed")
    webhook, secret = added.split()[1], added.split()[3]
    try:
        event = forebay("webhooks", "test", webhook).strip()
        (request,) = arrived(receiver, "/ok/command", 1)
        assert request["id"] == event and event_of(request, secret)
        wait_until(
            lambda: event in forebay("webhooks", "attempts", webhook),
            COMES_WITHIN_S,
            what="the attempt is shown",
        )
        forebay("webhooks", "replay", webhook, event)
        arrived(receiver, "/ok/command", 2)
        (tmp_path / "vector.json").write_text("[1, 2]")
        url = receiver.url("/ok/submitted")
        job = forebay("submit", "echo", "--json", f"{tmp_path}/vector.json", "--webhook", url)
        (request,) = arrived(receiver, "/ok/submitted", 1)
        assert event_of(request, secret)["data"]["id"] == job.strip()
        assert webhook in forebay("webhooks", "list") and url not in forebay("webhooks", "list")
        assert url in forebay("webhooks", "list", "--url", url)
    finally:
        forebay("webhooks", "remove", webhook)
