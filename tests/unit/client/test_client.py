"""The SDK keeps what its docstrings promise."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from producers.client import (
    BadArgument,
    Forebay,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    NotReady,
    Overloaded,
    ServiceUnavailable,
    Unauthenticated,
    Unreachable,
    WaitTimeout,
)
from tests.unit.client.fake_service import FakeService, problem


class Time:
    """Sleeping moves it; nothing waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def client(service, clock):
    with Forebay("http://127.0.0.1:9", transport=service.transport, patience_s=10) as made:
        made._transport._sleep = clock.sleep
        made._transport._monotonic = lambda: clock.now
        made._transport._chance = lambda: 1.0
        yield made


def test_the_example_of_the_readme(client):
    job = client.submit("digits", text="seven")
    assert job.state == "queued"
    assert job.wait().result == {"outputs": {"text": "seven"}}
    assert job.done and job.model == "digits:1"


def test_environment_names_the_service_and_the_key(monkeypatch, service):
    monkeypatch.setenv("FOREBAY_API_URL", "http://127.0.0.1:7777/")
    monkeypatch.setenv("FOREBAY_API_KEY", "fb_secret")
    client = Forebay(transport=service.transport)
    assert client.url == "http://127.0.0.1:7777"
    client.submit("digits", text="a")
    assert service.requests[-1].headers["Authorization"] == "Bearer fb_secret"
    assert "fb_secret" not in repr(client)


def test_a_submit_repeated_after_a_broken_answer_is_one_job(client, service):
    original = service.handle
    broken = []

    def handle(request):
        response = original(request)
        if not broken:
            broken.append(request)
            raise httpx.ReadError("connection reset", request=request)
        return response

    client._transport._client._transport = httpx.MockTransport(handle)
    job = client.submit("digits", text="once")
    assert list(service.jobs) == [job.id]
    keys = {request.headers["Idempotency-Key"] for request in service.requests}
    assert len(service.requests) == 2 and len(keys) == 1


def test_every_submit_has_a_key_of_its_own_and_yours_is_kept(client, service):
    client.submit("digits", text="a")
    client.submit("digits", text="a")
    client.submit_many("digits", [{"text": "a"}])
    client.submit("digits", text="a", idempotency_key="mine")
    keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert len(set(keys)) == 4 and keys[3] == "mine"


def test_overload_is_waited_out_as_long_as_the_service_asks(client, service, clock):
    service.faults = [problem(429, "overloaded", "full", headers={"Retry-After": "3"})] * 2
    client.submit("digits", text="a")
    assert clock.slept == [3.0, 3.0]


def test_patience_ends(client, service, clock):
    service.faults = [problem(503, "database_unavailable", "down", {"Retry-After": "4"})] * 99
    with pytest.raises(ServiceUnavailable) as caught:
        client.submit("digits", text="a")
    assert caught.value.code == "database_unavailable" and caught.value.retry_after_s == 4
    assert clock.now == 8  # a third pause would pass the ten seconds

    service.faults = [problem(429, "overloaded", "full", {"Retry-After": "60"})]
    with pytest.raises(Overloaded):
        client.submit("digits", text="a")


def test_no_connection_is_tried_again_and_then_told(client, service, clock):
    service.faults = [httpx.ConnectError("refused")] * 3
    client.submit("digits", text="a")
    assert clock.slept == [0.2, 0.4, 0.8]
    service.faults = [httpx.ConnectError("refused")] * 999
    with pytest.raises(Unreachable, match=r"cannot reach Forebay at http://127\.0\.0\.1:9"):
        client.job("x")


def test_what_may_have_happened_is_not_repeated(client, service):
    job = client.submit("digits", text="a")
    service.faults = [httpx.ReadError("reset")]
    with pytest.raises(Unreachable):
        job.retry()
    assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "unknown_field", InvalidRequest),
        (401, "unauthenticated", Unauthenticated),
        (404, "model_not_found", NotFound),
        (422, "not_built", InvalidRequest),
        (500, "internal", ServiceUnavailable),
    ],
)
def test_a_problem_becomes_an_error_of_its_kind(client, service, status, code, kind):
    service.faults = [problem(status, code, "why", field="input", errors=[{"field": "a"}])]
    with pytest.raises(kind) as caught:
        client.submit("digits", text="a")
    error = caught.value
    assert (error.code, error.status, error.field) == (code, status, "input")
    assert error.message == "why" and error.errors == ({"field": "a"},)


def test_an_error_that_is_no_problem_document_is_still_an_error(client, service):
    service.faults = [httpx.Response(404, text="<html>nothing here</html>")]
    with pytest.raises(NotFound) as caught:
        client.job("x")
    assert caught.value.code == "http_404"
    service.faults = [httpx.Response(200, text="<html>a web page</html>")]
    with pytest.raises(Exception, match="is that a Forebay service"):
        client.job("x")


@pytest.mark.parametrize(
    ("end", "error"), [("failed", JobFailed), ("cancelled", JobCancelled), ("expired", JobExpired)]
)
def test_wait_returns_and_result_raises_how_it_ended(client, end, error):
    job = client.submit("digits", text=end).wait()
    assert job.state == end
    with pytest.raises(error) as caught:
        _ = job.result
    assert caught.value.job is job
    if end == "failed":
        assert caught.value.code == "bad_item" and "it is bad" in str(caught.value)


def test_a_result_asked_for_too_early_is_not_ready(client, service):
    service.looks_until_done = 99
    with pytest.raises(NotReady):
        _ = client.submit("digits", text="a").result


def test_waiting_ends_at_the_time_given(client, service):
    service.looks_until_done = 10**9
    with pytest.raises(WaitTimeout, match="wait again"):
        client.submit("digits", text="a").wait(timeout_s=0.05)
    assert service.requests[-1].url.params["wait"]


def test_a_group_is_waited_for_and_read_in_order(client, service):
    service.looks_until_done = 3
    items = [{"text": text, "custom_id": text} for text in ("b", "failed", "a")]
    group = client.submit_many("digits", items, priority=7)
    assert [member.custom_id for member in group.members] == ["b", "failed", "a"]
    seen = []
    group.wait(progress=lambda now: seen.append((now.finished, now.total)))
    assert seen[-1] == (3, 3) and group.done
    rows = list(group.results())
    assert [row.custom_id for row in rows] == ["b", "failed", "a"]
    assert rows[0].result == {"text": "b"} and rows[1].error["code"] == "bad_item"
    assert all(job["_body"]["priority"] == 7 for job in service.jobs.values())


def test_too_many_for_one_group_is_refused_before_anything_is_sent(client, service):
    with pytest.raises(BadArgument, match="submit_in_groups"):
        client.submit_many("digits", ({"text": "a"} for _ in range(10_001)))
    assert service.requests == []


def test_any_number_goes_in_as_many_groups_as_it_takes(client, service):
    groups = list(client.submit_in_groups("digits", ({"text": "a"} for _ in range(20_001))))
    assert [len(group.members) for group in groups] == [10_000, 10_000, 1]
    service.requests.clear()
    big = {"text": "x" * 6_000_000}
    assert [len(group.members) for group in client.submit_in_groups("digits", [big] * 5)] == [
        2,
        2,
        1,
    ]
    assert all(len(request.content) <= 16 * 1024 * 1024 for request in service.requests)


def test_a_misspelt_option_is_named(client):
    with pytest.raises(BadArgument, match="prioritty"):
        client.submit_many("digits", [{"text": "a"}], prioritty=3)
    with pytest.raises(BadArgument, match="unknown txt"):
        client.submit_many("digits", [{"txt": "a"}])


def test_lists_follow_their_pages(client):
    made = [client.submit("digits", text=str(number)).id for number in range(250)]
    assert [job.id for job in client.jobs(limit=240)] == made[::-1][:240]
    assert [job.id for job in client.jobs()] == made[::-1]


def test_a_model_is_pushed_with_its_labels(client, service, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"zip")
    (tmp_path / "labels.txt").write_text("zero\none\n\n")
    version = client.models.push(
        "digits", tmp_path / "model.keras", input="image", labels=tmp_path / "labels.txt", top_k=2
    )
    assert version.ref == "digits:1" and version.state == "pending"
    body = service.requests[-1].content
    options = body.split(b'name="options"\r\n\r\n')[1].split(b"\r\n--")[0]
    assert json.loads(options) == {"input": "image", "top_k": 2, "labels": ["zero", "one"]}
    assert b'filename="model.keras"' in body


def test_a_model_is_pushed_with_its_serving_knobs(client, service, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"zip")
    client.models.push("m", tmp_path / "m.keras", serving={"pad": {"tokens": {"sizes": [8]}}})
    assert b'{"serving": {"pad": {"tokens": {"sizes": [8]}}}}' in service.requests[-1].content


def test_an_upload_is_whole_again_when_it_is_repeated(client, service, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"0123456789")
    service.faults = [problem(503, "unavailable", "down", headers={"Retry-After": "0"})]
    client.models.push("digits", tmp_path / "m.keras")
    assert [b"0123456789" in request.content for request in service.requests] == [True, True]


def test_an_alias_is_moved_only_from_where_it_is_expected(client, service):
    assert client.models.alias("digits", "prod", 2, expected=1)["version"] == 2
    assert json.loads(service.requests[-1].content) == {"version": 2, "expected": 1}


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://user:pw@host"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(BadArgument):
        Forebay(url)


def test_a_secret_in_the_address_is_not_repeated_in_the_message():
    with pytest.raises(BadArgument) as caught:
        Forebay("http://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_bytes_of_a_picture_are_sent_as_they_are(client, service):
    client.submit("digits", image=b"\x89PNG")
    sent = json.loads(service.requests[-1].content)["input"]["image"]
    assert base64.b64decode(sent) == b"\x89PNG"
