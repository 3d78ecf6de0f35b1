"""Webhooks on their way to a real receiver: signed, tried again, given up, never led astray."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from openai import OpenAI
from openai.types.webhooks import BatchCancelledWebhookEvent
from standardwebhooks import Webhook

from storage.records.jobs import BULK_PRIORITY
from storage.records.webhook_guard import Guard
from storage.records.webhooks import (
    BATCH_LABEL,
    BREAKS_AFTER,
    JITTER,
    LONGEST_PAUSE_MS,
    RETRY_AFTER_MS,
    AttemptResult,
    batch_id,
    message_id,
)
from tests.integration.webhooks.post import HOUR_MS, add, over, secret_of
from tests.support.database import ALICE, BOB, new_id, new_jobs, submit
from tests.support.receiver import entries, receiving
from tests.support.waiting import wait_until


class TestWhatArrives:
    def test_both_reference_libraries_verify_it(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        (job,) = over(database)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.result, attempt.status, attempt.number) == ("delivered", 200, 1)
        (got,) = receiver.requests
        secret = secret_of(database)
        told = Webhook(secret).verify(got["body"], got["headers"])
        assert told == {
            "type": "job.cancelled",
            "timestamp": told["timestamp"],
            "data": {
                "id": job,
                "object": "job",
                "state": "cancelled",
                "seq": told["data"]["seq"],
                "group": None,
                "links": {"self": f"https://f.example/v1/jobs/{job}"},
            },
        }
        assert told["data"]["seq"] >= 2 and told["timestamp"].endswith("Z")
        client = OpenAI(api_key="none", webhook_secret=secret)
        event = client.webhooks.unwrap(got["body"], got["headers"])
        assert (event.type, event.data.id) == ("job.cancelled", job)
        assert got["headers"]["user-agent"].startswith("Forebay")
        assert got["headers"]["content-type"] == "application/json"
        assert not {"cookie", "authorization"} & set(got["headers"])

    def test_the_openai_client_unwraps_the_end_of_a_batch(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"), "batch.cancelled")
        (job,) = submit(database, priority=BULK_PRIORITY, metadata=dict([BATCH_LABEL]))
        with database.begin() as tx:
            tx.jobs.request_cancel(ALICE, job)
        post.settle(endpoint, 1)
        (got,) = receiver.requests
        client = OpenAI(api_key="none", webhook_secret=secret_of(database))
        event = client.webhooks.unwrap(got["body"], got["headers"])
        assert isinstance(event, BatchCancelledWebhookEvent)
        assert event.data.id == batch_id(job) and event.id == got["headers"]["webhook-id"]

    def test_a_changed_body_or_another_secret_does_not_verify(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        over(database)
        post.settle(endpoint, 1)
        (got,) = receiver.requests
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret_of(database)).verify(got["body"] + " ", got["headers"])
        with database.begin() as tx:
            tx.webhooks.ensure_secret(BOB, new_id(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret_of(database, BOB)).verify(got["body"], got["headers"])

    def test_an_endpoints_own_secret_counts_and_during_a_rotation_both(
        self, database, post, receiver
    ):
        endpoint = add(database, receiver.url("/ok"))
        first, second = (f"whsec_{'A' * 30}{one}A==" for one in ("B", "C"))
        with database.begin() as tx:
            tx.webhooks.ensure_secret(ALICE, new_id(), f"whsec_{'A' * 30}DA==")
            tx.webhooks.rotate(ALICE, endpoint, new_id(), first, HOUR_MS)
            tx.webhooks.rotate(ALICE, endpoint, new_id(), second, HOUR_MS)
        over(database)
        post.settle(endpoint, 1)
        (got,) = receiver.requests
        assert len(got["headers"]["webhook-signature"].split(" ")) == 2
        for secret in (first, second):
            assert Webhook(secret).verify(got["body"], got["headers"])
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret_of(database)).verify(got["body"], got["headers"])

    def test_a_job_that_brings_its_webhook_is_told_under_a_secret_made_for_its_tenant(
        self, database, post, receiver
    ):
        url = receiver.url("/ok/own")
        (job,) = new_jobs(1, webhook=url)
        with database.begin() as tx:
            tx.jobs.submit(ALICE, [job])
            tx.jobs.request_cancel(ALICE, job.id)
        post.run_until(lambda: receiver.requests, "the webhook")
        (got,) = receiver.requests
        assert Webhook(secret_of(database)).verify(got["body"], got["headers"])

    def test_every_kind_of_event_has_its_links(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        group = new_id()
        with database.begin() as tx:
            tx.groups.create(ALICE, group, 1)
            jobs = new_jobs(1)
            tx.jobs.submit(ALICE, jobs, group_id=group)
            tx.jobs.request_cancel(ALICE, jobs[0].id)
        with database.begin() as tx:
            tx.webhooks.complete_groups(None, 100)
            ping = new_id()
            tx.webhooks.send_test(ALICE, endpoint, ping)
        post.settle(endpoint, 3)
        told = {one["type"]: one for one in (json.loads(r["body"]) for r in receiver.requests)}
        assert told["job.cancelled"]["data"]["group"] == group
        data = told["group.completed"]["data"]
        assert data["links"] == {
            "self": f"https://f.example/v1/groups/{group}",
            "results": f"https://f.example/v1/groups/{group}/results",
        }
        assert (data["object"], data["state"], data["id"]) == ("group", "completed", group)
        assert told["webhook.test"]["data"] == {"id": ping, "seq": 1, "object": "test"}

    def test_each_event_arrives_once_at_each_endpoint_over_few_connections(
        self, database, post, receiver
    ):
        endpoints = [add(database, receiver.url(f"/ok/{n}")) for n in range(3)]
        jobs = over(database, 200)
        for endpoint in endpoints:
            post.settle(endpoint, 200)
        wanted = sorted("evt_" + job.replace("-", "") for job in jobs)
        for number in range(3):
            assert sorted(receiver.ids(f"/ok/{number}")) == wanted
        assert receiver.connections <= 30

    def test_the_log_of_a_receiver_can_be_read_by_others(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        over(database)
        post.settle(endpoint, 1)
        (entry,) = entries(receiver.log)
        assert entry["id"] == receiver.requests[0]["id"]


class TestWhatIsAnswered:
    @pytest.mark.parametrize(
        ("path", "status", "error"),
        [
            ("/status/500", 500, "answered 500"),
            ("/status/404", 404, "answered 404"),
            ("/status/304", 304, "redirects are not followed"),
            ("/redirect", 302, "redirects are not followed"),
            ("/reset", None, "before an answer"),
            ("/hang", None, "no answer within 2 s"),
            ("/drip", None, "no answer within 2 s"),
            ("/big", None, "the head of its answer is too long"),
            ("/garbage", None, "its answer is not HTTP"),
        ],
    )
    def test_a_failure_is_recorded_and_tried_again(
        self, database, clock, post, receiver, path, status, error
    ):
        endpoint = add(database, receiver.url(path))
        over(database)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.result, attempt.status) == ("retry", status)
        assert error in (attempt.error or "")
        assert receiver.ids("/ok/redirected") == []
        clock.pass_ms(7_000)
        attempts = post.settle(endpoint, 2)
        assert [one.number for one in attempts] == [1, 2]
        assert len(set(receiver.ids(path))) == 1  # the same id each time
        times = [int(one["headers"]["webhook-timestamp"]) for one in receiver.requests]
        assert times[-1] >= times[0] + 7  # but the time of the attempt

    @pytest.mark.parametrize("path", ["/ok", "/status/204", "/status/299", "/close", "/endless"])
    def test_any_2xx_is_delivered_however_long_its_body(self, database, post, receiver, path):
        endpoint = add(database, receiver.url(path))
        over(database, 3)
        attempts = post.settle(endpoint, 3)
        assert {one.result for one in attempts} == {AttemptResult.DELIVERED}
        assert max(one.duration_ms for one in attempts) < 2_000
        assert len(receiver.ids(path)) == 3

    def test_one_that_fails_twice_is_delivered_the_third_time(
        self, database, clock, post, receiver
    ):
        endpoint = add(database, receiver.url("/until/3"))
        over(database)
        for number, pass_ms in ((1, 0), (2, 7_000), (3, 400_000)):
            clock.pass_ms(pass_ms)
            attempts = post.settle(endpoint, number)
        assert [one.result for one in attempts] == ["retry", "retry", "delivered"]

    def test_410_switches_the_endpoint_off(self, database, clock, post, receiver):
        endpoint = add(database, receiver.url("/status/410"))
        over(database)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.result, attempt.status) == ("gone", 410)
        over(database)
        clock.pass_ms(HOUR_MS)
        other = add(database, receiver.url("/ok"))
        over(database)
        post.settle(other, 1)
        assert len(receiver.ids("/status/410")) == 1
        with database.read() as tx:
            seen = tx.webhooks.endpoint(ALICE, endpoint)
        assert (seen.enabled, seen.disabled_reason) == (False, "gone")

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_retry_after_is_honoured(self, database, clock, post, receiver, status, form):
        at = formatdate(time.time() + 120, usegmt=True).replace(" ", "_")
        after = "120" if form == "seconds" else at
        endpoint = add(database, receiver.url(f"/retry-after/{status}/{after}"))
        over(database)
        post.settle(endpoint, 1)
        clock.pass_ms(110_000)
        other = add(database, receiver.url("/ok"))
        over(database)
        assert post.settle(other, 1)
        assert {one.number for one in post.attempts(endpoint)} == {1}
        clock.pass_ms(15_000)
        attempts = post.settle(endpoint, 3)
        assert 2 in {one.number for one in attempts}

    def test_after_ten_attempts_it_is_given_up(self, database, clock, post, receiver):
        endpoint = add(database, receiver.url("/status/500"))
        over(database)
        for number in range(1, 11):
            attempts = post.settle(endpoint, number)
            if number < 10:
                clock.pass_ms(int(RETRY_AFTER_MS[number - 1] * (1 + JITTER)) + 1)
                clock.pass_ms(LONGEST_PAUSE_MS)  # it is left alone for a while besides
        assert [one.result for one in attempts] == ["retry"] * 9 + ["given_up"]
        with database.read() as tx:
            assert tx.webhooks.delivery_load().pending == 0

    def test_one_that_keeps_failing_is_left_alone_then_tried_with_one(
        self, database, clock, post, receiver
    ):
        endpoint = add(database, receiver.url("/status/500"))
        over(database, 40)
        post.settle(endpoint, BREAKS_AFTER)
        seen = 0
        for _ in range(20):  # nothing more comes: it is left alone
            post.duty.run_once(database, post.objects)
        seen = len(receiver.requests)
        assert BREAKS_AFTER <= seen < 10
        clock.pass_ms(HOUR_MS // 6)
        post.settle(endpoint, seen + 1)
        for _ in range(20):
            post.duty.run_once(database, post.objects)
        assert len(receiver.requests) == seen + 1


class TestOthers:
    def test_an_endpoint_is_asked_a_bounded_number_of_things_at_a_time(
        self, database, post, receiver
    ):
        endpoint = add(database, receiver.url("/slow/0.05"))
        over(database, 150)
        post.settle(endpoint, 150)
        assert 2 < receiver.busiest["/slow/0.05"] <= post.duty.config.each

    def test_a_receiver_that_hangs_or_resets_holds_nobody_up(self, database, post, receiver):
        bad = [add(database, receiver.url(path)) for path in ("/hang", "/reset", "/drip")]
        good = add(database, receiver.url("/ok"))
        jobs = over(database, 100)
        began = time.monotonic()
        post.settle(good, 100)
        assert time.monotonic() - began < 30
        assert len(receiver.ids("/ok")) == len(jobs)
        for endpoint in bad:
            assert len(receiver.ids()) < 200, endpoint

    def test_a_tenant_whose_jobs_bring_hundreds_that_hang_holds_no_other_up(
        self, database, post, receiver
    ):
        jobs = [job for n in range(300) for job in new_jobs(1, webhook=receiver.url(f"/hang/{n}"))]
        with database.begin() as tx:
            tx.jobs.submit(ALICE, jobs)
        with database.begin() as tx:
            for job in jobs:
                tx.jobs.request_cancel(ALICE, job.id)
        duty = post.new(timeout_s=15.0)
        post.run_until(lambda: len(receiver.requests) >= 48, "48 that hang", duty)
        with receiving() as bobs:
            endpoint = add(database, bobs.url("/ok"), tenant=BOB)
            over(database, 50, tenant=BOB)
            began = time.monotonic()
            post.run_until(lambda: len(post.attempts(endpoint, BOB)) == 50, "what is Bob's", duty)
            assert time.monotonic() - began < 14  # none of Alice's has ended meanwhile
            assert len(bobs.requests) == 50

    def test_a_killed_keepers_deliveries_are_due_again_after_their_lease(
        self, database, clock, post, receiver
    ):
        endpoint = add(database, receiver.url("/slow/1"))
        (job,) = over(database)
        dying = post.new()
        dying.run_once(database, post.objects)
        wait_until(lambda: receiver.requests, 30, what="the first attempt")
        dying._courier.close()  # in the middle of it; nothing is recorded
        assert post.attempts(endpoint) == []
        post.duty.run_once(database, post.objects)
        assert len(receiver.requests) == 1
        clock.pass_ms(20_000)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.number, attempt.result) == (1, "delivered")
        wanted = "evt_" + job.replace("-", "")
        assert receiver.ids() == [wanted, wanted]

    def test_of_two_keepers_each_delivers_what_it_claimed(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        jobs = over(database, 300)
        other = post.new()

        def both() -> bool:
            other.run_once(database, post.objects)
            return len(post.attempts(endpoint)) >= 300

        post.run_until(both, "300 attempts")
        assert len(receiver.requests) == len(set(receiver.ids())) == len(jobs)
        assert {one.number for one in post.attempts(endpoint)} == {1}

    def test_a_graceful_end_waits_for_what_is_under_way_and_records_it(
        self, database, post, receiver
    ):
        endpoint = add(database, receiver.url("/slow/0.5"))
        over(database)
        duty = post.new(drain_s=20.0)
        duty.run_once(database, post.objects)
        duty.close(database)
        (attempt,) = post.attempts(endpoint)
        assert attempt.result == "delivered"

    def test_what_a_graceful_end_breaks_off_is_no_attempt(self, database, clock, post, receiver):
        endpoint = add(database, receiver.url("/slow/1"))
        over(database)
        duty = post.new(drain_s=0.1)
        duty.run_once(database, post.objects)
        duty.close(database)
        assert post.attempts(endpoint) == []
        clock.pass_ms(20_000)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.number, attempt.result) == (1, "delivered")

    def test_tenants_are_told_of_their_own_under_their_own_secrets(self, database, post, receiver):
        alices = add(database, receiver.url("/ok/a"))
        add(database, receiver.url("/ok/b"), tenant=BOB)
        jobs = {ALICE: over(database), BOB: over(database, tenant=BOB)}
        post.settle(alices, 1)
        post.run_until(lambda: len(receiver.requests) == 2, "both")
        for path, tenant, other in (("/ok/a", ALICE, BOB), ("/ok/b", BOB, ALICE)):
            (got,) = (one for one in receiver.requests if one["path"] == path)
            told = Webhook(secret_of(database, tenant)).verify(got["body"], got["headers"])
            assert [told["data"]["id"]] == jobs[tenant]
            with pytest.raises(Exception, match="No matching signature"):
                Webhook(secret_of(database, other)).verify(got["body"], got["headers"])


class TestNothingIsSentInside:
    def test_loopback_is_refused_where_it_is_not_opened(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok"))
        over(database)
        (attempt,) = post.settle(endpoint, 1, post.new(guard=Guard()))
        assert attempt.result == "retry" and attempt.status is None
        assert "not sent" in attempt.error and "FOREBAY_WEBHOOK_ALLOW" in attempt.error
        assert receiver.connections == 0

    def test_a_name_that_leads_inside_is_refused(self, database, post, receiver):
        endpoint = add(database, receiver.url("/ok", host="localhost"))
        over(database)
        closed = Guard((f"127.0.0.2:{receiver.port}",))
        (attempt,) = post.settle(endpoint, 1, post.new(guard=closed))
        assert "leads to" in attempt.error
        assert receiver.connections == 0

    def test_a_name_that_does_not_resolve_is_a_failure_like_others(self, database, post):
        endpoint = add(database, "https://nowhere.invalid/hook")
        over(database)
        (attempt,) = post.settle(endpoint, 1)
        assert (attempt.result, attempt.error) == ("retry", "nowhere.invalid does not resolve")

    def test_proxies_of_the_environment_are_not_asked(self, database, post, receiver, monkeypatch):
        with receiving() as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url(""))
            endpoint = add(database, receiver.url("/ok"))
            over(database)
            (attempt,) = post.settle(endpoint, 1)
            assert attempt.result == "delivered" and len(receiver.requests) == 1
            assert proxy.connections == 0


def test_the_id_of_a_message_is_on_the_wire(database, post, receiver):
    endpoint = add(database, receiver.url("/ok"))
    (job,) = over(database)
    post.settle(endpoint, 1)
    with database.read() as tx:
        (event,) = tx.webhooks.events([job]).values()
    assert receiver.ids() == [message_id(event)]
