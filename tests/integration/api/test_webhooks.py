"""Webhooks over REST: endpoints, secrets, tests and replays; deliveries are played by hand."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.records.webhooks import (
    Attempt,
    AttemptResult,
    Delivery,
    check_secret,
    message_id_of,
    own_endpoint_id,
)
from tests.support.api import new_id

URL = "https://hooks.example.com/forebay"
OWN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


def add(client, **fields) -> dict:
    answer = client.post("/v1/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def due(house, endpoint_id) -> list[Delivery]:
    """What a courier would take now."""
    with house.database.begin() as tx:
        return tx.webhooks.claim_deliveries(endpoint_id, 20_000, 60_000)


def told(house, endpoint_id) -> list[tuple[str, str]]:
    return sorted((one.event.type, one.event.id) for one in due(house, endpoint_id))


def settle(house, delivery, tenant="default", **fields) -> None:
    with house.database.begin() as tx:
        number = delivery.attempts + 1
        one = Attempt(
            new_id(), delivery.event.id, delivery.endpoint_id, tenant, number, 12, **fields
        )
        tx.webhooks.settle([one])


def cancel(house, *ids) -> None:
    for one in ids:
        assert house.http.post(f"/v1/jobs/{one}/cancel").json()["state"] == "cancelled"


def good_secrets(house, endpoint_id=None, tenant="default") -> list[str]:
    with house.database.read() as tx:
        found = tx.webhooks.secrets([tenant])
    return [one.secret for one in found.get((tenant, endpoint_id), [])]


class TestEndpoints:
    def test_one_is_registered_looked_at_changed_and_removed(self, house):
        made = add(house.http, events=["job.failed", "job.failed"], description="night shift")
        secret = made.pop("secret")
        assert check_secret(secret) and good_secrets(house) == [secret]
        assert (made["url"], made["events"]) == (URL, ["job.failed"])
        assert made["enabled"] and made["listed"] and not made["own_secret"]
        here = made["links"]["self"]
        assert house.http.get(here).json() == made
        assert house.http.get("/v1/webhooks").json()["data"] == [made]
        changed = house.http.patch(here, json={"events": ["*"], "description": ""}).json()
        assert (changed["events"], changed["description"]) == (["*"], "")
        off = house.http.patch(here, json={"enabled": False}).json()
        assert (off["enabled"], off["disabled_reason"]) == (False, "by_hand")
        assert off["events"] == ["*"]
        assert house.http.patch(here, json={"enabled": None}).json() == off
        gone = house.http.delete(here)
        assert (gone.status_code, gone.content) == (204, b"")
        assert house.http.delete(here).status_code == 404
        assert house.http.get(here).json()["code"] == "webhook_not_found"
        assert house.http.get("/v1/webhooks").json()["data"] == []

    def test_everything_is_wanted_unless_something_else_is_said(self, house):
        every = add(house.http)
        assert every["events"] == ["*"]
        only = add(house.http, events=["job.cancelled", "group.completed"])
        done, cancelled = house.submit()["id"], house.submit()["id"]
        house.work([done])
        cancel(house, cancelled)
        both = [("job.cancelled", cancelled), ("job.succeeded", done)]
        assert told(house, every["id"]) == both
        assert told(house, only["id"]) == both[:1]

    def test_pages_are_newest_first(self, house):
        made = [add(house.http)["id"] for _ in range(3)]
        first = house.http.get("/v1/webhooks?limit=2").json()
        assert [one["id"] for one in first["data"]] == made[:0:-1] and first["has_more"]
        rest = house.http.get("/v1/webhooks", params={"after": first["next"]}).json()
        assert [one["id"] for one in rest["data"]] == made[:1]
        assert (rest["has_more"], rest["next"]) == (False, None)

    def test_a_tenant_has_so_many_and_no_more_however_fast_it_asks(self, quiet_house):
        quiet_house.start(max_webhooks=3)
        try:
            with ThreadPoolExecutor(8) as pool:
                body = {"url": URL}
                found = list(
                    pool.map(lambda _: quiet_house.http.post("/v1/webhooks", json=body), range(12))
                )
            assert sorted(one.status_code for one in found) == [201] * 3 + [409] * 9
            refused = next(one for one in found if one.status_code == 409)
            assert refused.json()["code"] == "too_many_webhooks"
            assert len({one.json()["secret"] for one in found if one.status_code == 201}) == 1
            other = quiet_house.key_for("acme")
            with quiet_house.client(other) as client:
                add(client)
            last = found[[one.status_code for one in found].index(201)].json()
            assert quiet_house.http.delete(last["links"]["self"]).status_code == 204
            add(quiet_house.http)
        finally:
            quiet_house.stop()

    def test_the_operators_list_opens_what_it_names(self, quiet_house):
        quiet_house.start(webhook_allow=("127.0.0.1:*",))
        try:
            add(quiet_house.http, url="http://127.0.0.1:9876/hook")
            answer = quiet_house.http.post("/v1/webhooks", json={"url": "http://127.0.0.2:9876/"})
            assert answer.json()["code"] == "bad_webhook_url"
        finally:
            quiet_house.stop()

    WRONG = (
        ({}, "missing_field", "url"),
        ({"url": None}, "invalid_type", "url"),
        ({"url": ""}, "invalid_value", "url"),
        ({"url": 7}, "invalid_type", "url"),
        ({"url": "https://a b"}, "invalid_value", "url"),
        ({"url": "https://a\u0000"}, "invalid_value", "url"),
        ({"url": "https://example.com/" + "a" * 2000}, "invalid_value", "url"),
        ({"url": "ftp://example.com"}, "bad_webhook_url", "url"),
        ({"url": "example.com"}, "bad_webhook_url", "url"),
        ({"url": "https://user:pw@example.com"}, "bad_webhook_url", "url"),
        ({"url": "http://127.0.0.1/"}, "bad_webhook_url", "url"),
        ({"url": "http://localhost:8080/"}, "bad_webhook_url", "url"),
        ({"url": "http://[::1]/"}, "bad_webhook_url", "url"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "bad_webhook_url", "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "bad_webhook_url", "url"),
        ({"url": "https://example.com:22/"}, "bad_webhook_url", "url"),
        ({"url": "http://2130706433/"}, "bad_webhook_url", "url"),
        ({"events": []}, "invalid_value", "events"),
        ({"events": "job.failed"}, "invalid_type", "events"),
        ({"events": ["job.started"]}, "unknown_event", "events[0]"),
        ({"events": ["job.failed", 7]}, "unknown_event", "events[1]"),
        ({"events": ["webhook.test"]}, "unknown_event", "events[0]"),
        ({"events": ["*"] * 51}, "too_many", "events"),
        ({"description": "a\nb"}, "invalid_value", "description"),
        ({"description": "a" * 501}, "invalid_value", "description"),
        ({"description": ["a"]}, "invalid_type", "description"),
        ({"secret": "Own"}, "bad_webhook_secret", "secret"),
        ({"secret": ""}, "bad_webhook_secret", "secret"),
        ({"secret": "whsec_c2hvcnQ="}, "bad_webhook_secret", "secret"),
        ({"secret": OWN + "!"}, "bad_webhook_secret", "secret"),
        ({"secret": 7}, "invalid_type", "secret"),
        ({"enabled": True}, "unknown_field", "enabled"),
        ({"evnets": ["*"]}, "unknown_field", "evnets"),
    )

    def test_what_is_wrong_is_named_and_nothing_is_kept(self, house):
        for fields, code, field in self.WRONG:
            body = fields if fields.get("url", URL) != URL or not fields else {"url": URL, **fields}
            answer = house.http.post("/v1/webhooks", json=body)
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem.get("field")) == (
                400,
                code,
                field,
            ), fields
            assert "whsec_MfKQ" not in problem["detail"] and "c2hvcnQ" not in problem["detail"]
        assert house.http.get("/v1/webhooks").json()["data"] == []
        assert good_secrets(house) == []

    def test_a_change_is_checked_as_well(self, house):
        here = add(house.http)["links"]["self"]
        before = house.http.get(here).json()
        for body, code, field in (
            ({"events": []}, "invalid_value", "events"),
            ({"events": ["x"]}, "unknown_event", "events[0]"),
            ({"enabled": "yes"}, "invalid_type", "enabled"),
            ({"enabled": 1}, "invalid_type", "enabled"),
            ({"description": "\u0007"}, "invalid_value", "description"),
            ({"url": URL}, "unknown_field", "url"),
            ({"secret": OWN}, "unknown_field", "secret"),
        ):
            problem = house.http.patch(here, json=body).json()
            assert (problem["code"], problem["field"]) == (code, field)
        assert house.http.patch(here, json=[]).json()["code"] == "invalid_type"
        assert house.http.patch(here, content=b"{").status_code == 415
        assert house.http.get(here).json() == before

    def test_what_is_no_id_is_nobodys_webhook(self, house):
        for path in ("x", "secret", "%00", new_id(), new_id().upper()):
            for method, rest, body in (
                ("GET", "", None),
                ("PATCH", "", {"enabled": False}),
                ("DELETE", "", None),
                ("POST", "/test", None),
                ("POST", "/replay", {"event": new_id()}),
                ("POST", "/replay", {"since": "2026-05-01T00:00:00Z"}),
                ("POST", "/rotate", {}),
                ("GET", "/attempts", None),
            ):
                if path == "secret" and (method, rest) in (("GET", ""), ("POST", "/rotate")):
                    continue
                answer = house.http.request(method, f"/v1/webhooks/{path}{rest}", json=body)
                found = (answer.status_code, answer.json()["code"])
                assert found == (404, "webhook_not_found"), (method, path, rest)


class TestSecrets:
    def test_a_secret_is_shown_when_it_is_made_and_nowhere_else(self, house, caplog):
        caplog.set_level(logging.DEBUG)
        own = add(house.http, secret=OWN)
        assert own["secret"] == OWN and own["own_secret"]
        made = add(house.http, secret="own")
        plain = add(house.http)
        assert len({own["secret"], made["secret"], plain["secret"]}) == 3
        assert plain["secret"] == house.http.get("/v1/webhooks/secret").json()["secret"]
        pages = [
            house.http.get("/v1/webhooks").text,
            house.http.get("/v1/webhooks?url=" + URL).text,
        ]
        pages += [house.http.get(one["links"]["self"]).text for one in (own, made, plain)]
        pages += [
            house.http.patch(one["links"]["self"], json={"enabled": True}).text
            for one in (own, made)
        ]
        house.http.post("/v1/webhooks", json={"url": URL, "secret": OWN + OWN})
        for text in (*pages, caplog.text):
            assert "whsec_" not in text and own["secret"][6:] not in text
            assert made["secret"][6:] not in text and plain["secret"][6:] not in text
        answer = house.http.get("/v1/webhooks/secret")
        assert answer.headers["cache-control"] == "no-store"

    def test_the_tenants_is_made_once_whoever_asks_first(self, house):
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(lambda _: house.http.get("/v1/webhooks/secret").text, range(16)))
        assert len(found) == 1 and len(good_secrets(house)) == 1
        assert json.loads(found.pop())["previous_until"] is None

    def test_two_are_good_while_the_tenants_changes(self, house):
        first = house.http.get("/v1/webhooks/secret").json()["secret"]
        second = house.http.post("/v1/webhooks/secret/rotate", json={"overlap_s": 3600}).json()
        assert good_secrets(house) == [second["secret"], first]
        assert second["created_at"] < second["previous_until"]
        assert house.http.get("/v1/webhooks/secret").json() == second
        third = house.http.post("/v1/webhooks/secret/rotate", json={"secret": OWN}).json()
        assert third["secret"] == OWN
        assert good_secrets(house) == [OWN, second["secret"]]
        fourth = house.http.post("/v1/webhooks/secret/rotate").json()["secret"]
        assert good_secrets(house) == [fourth, OWN]
        last = house.http.post("/v1/webhooks/secret/rotate", json={"overlap_s": 0}).json()
        assert good_secrets(house) == [last["secret"]] and last["previous_until"] is None

    def test_an_endpoints_first_own_secret_lets_the_tenants_sign_on_for_a_while(self, house):
        endpoint = add(house.http)
        here = endpoint["links"]["self"]
        own = house.http.post(f"{here}/rotate").json()
        assert good_secrets(house, endpoint["id"]) == [own["secret"], endpoint["secret"]]
        assert good_secrets(house) == [endpoint["secret"]]
        assert house.http.get(here).json()["own_secret"]
        again = house.http.post(f"{here}/rotate", json={"secret": OWN, "overlap_s": 5}).json()
        assert again["secret"] == OWN
        assert good_secrets(house, endpoint["id"]) == [OWN, own["secret"]]

    def test_a_wrong_rotation_changes_nothing(self, house):
        secret = house.http.get("/v1/webhooks/secret").json()
        for body, code, field in (
            ({"overlap_s": -1}, "out_of_range", "overlap_s"),
            ({"overlap_s": 31 * 86_400}, "out_of_range", "overlap_s"),
            ({"overlap_s": "1"}, "invalid_type", "overlap_s"),
            ({"secret": "own"}, "bad_webhook_secret", "secret"),
            ({"secret": "whsec_"}, "bad_webhook_secret", "secret"),
            ({"more": 1}, "unknown_field", "more"),
        ):
            problem = house.http.post("/v1/webhooks/secret/rotate", json=body).json()
            assert (problem["code"], problem["field"]) == (code, field)
        assert house.http.get("/v1/webhooks/secret").json() == secret


class TestDeliveries:
    def test_a_test_event_goes_to_this_endpoint_alone(self, house):
        one, other = add(house.http, events=["job.failed"]), add(house.http)
        answer = house.http.post(f"{one['links']['self']}/test")
        assert answer.status_code == 202
        (delivery,) = due(house, one["id"])
        assert delivery.event.type == "webhook.test"
        assert answer.json() == {"event": message_id_of(delivery.event.id)}
        assert due(house, other["id"]) == []
        assert house.http.post(f"{one['links']['self']}/test", json={"a": 1}).status_code == 400

    def test_attempts_are_listed_with_the_id_that_the_receiver_saw(self, house):
        here = add(house.http)["links"]["self"]
        ids = [house.submit()["id"] for _ in range(3)]
        cancel(house, *ids)
        for one in due(house, here.rpartition("/")[2]):
            settle(house, one, result=AttemptResult.RETRY, status=500, retry_in_ms=0)
        first = house.http.get(f"{here}/attempts?limit=2").json()
        assert first["has_more"] and len(first["data"]) == 2
        rest = house.http.get(f"{here}/attempts", params={"after": first["next"]}).json()
        rows = first["data"] + rest["data"]
        assert {row["event"] for row in rows} == {message_id_of(one) for one in ids}
        assert {(r["number"], r["result"], r["status"], r["duration_ms"]) for r in rows} == {
            (1, "retry", 500, 12)
        }
        assert house.http.get(here).json()["failures"] == 3
        assert house.http.get(f"{here}/attempts?limit=0").json()["field"] == "limit"
        assert house.http.get(f"{here}/attempts?after=x").json()["field"] == "after"

    def test_one_event_is_replayed_by_either_of_its_names(self, house):
        endpoint = add(house.http)
        here = endpoint["links"]["self"]
        job = house.submit()["id"]
        cancel(house, job)
        (delivery,) = due(house, endpoint["id"])
        settle(house, delivery, result=AttemptResult.DELIVERED, status=200)
        for name in (job, message_id_of(job)):
            answer = house.http.post(f"{here}/replay", json={"event": name})
            assert (answer.status_code, answer.json()) == (
                202,
                {"deliveries": 1, "until": None, "next_since": None},
            )
            assert [one.event.id for one in due(house, endpoint["id"])] == [job]
        for name in ("x", new_id(), "evt_" + "0" * 32, "evt_" + "0" * 31, message_id_of(job) + "0"):
            answer = house.http.post(f"{here}/replay", json={"event": name})
            assert (answer.status_code, answer.json()["code"]) == (404, "event_not_found"), name

    def test_a_time_range_is_replayed_with_what_the_endpoint_wants(self, house):
        endpoint = add(house.http, events=["job.cancelled"])
        here = endpoint["links"]["self"]
        done, cancelled = house.submit()["id"], house.submit()["id"]
        house.work([done])
        cancel(house, cancelled)
        assert len(due(house, endpoint["id"])) == 1
        created = house.http.get(f"/v1/jobs/{cancelled}").json()["created_at"]
        answer = house.http.post(f"{here}/replay", json={"since": created})
        again = answer.json()
        assert (again["deliveries"], again["next_since"]) == (1, None)
        assert again["until"] > created
        assert told(house, endpoint["id"]) == [("job.cancelled", cancelled)]
        for body in (
            {"since": "2020-01-01T00:00:00Z", "until": created},
            {"since": "2099-01-01T00:00:00+02:00"},
            {"since": "2098-01-01T00:00:00Z", "until": "9999-12-31T23:59:59.999999999-23:59"},
            {"since": "1950-01-01T00:00:00Z", "until": "1969-01-02T00:00:00.123456789Z"},
        ):
            answer = house.http.post(f"{here}/replay", json=body)
            assert answer.status_code == 202, answer.text
            assert (answer.json()["deliveries"], answer.json()["next_since"]) == (0, None)

    def test_a_long_range_says_where_to_go_on(self, house, monkeypatch):
        monkeypatch.setattr("producers.webhooks.REPLAYED_AT_ONCE", 2)
        endpoint = add(house.http)
        here = endpoint["links"]["self"]
        ids = []
        for _ in range(5):
            ids.append(house.submit()["id"])
            cancel(house, ids[-1])
        due(house, endpoint["id"])
        body, seen, ends = {"since": "2020-01-01T00:00:00Z"}, [], set()
        while body["since"] is not None:
            answer = house.http.post(f"{here}/replay", json=body).json()
            found = [one.event.id for one in due(house, endpoint["id"])]
            assert len(found) == answer["deliveries"] > 0
            seen += found
            ends.add(answer["until"])
            body = {"since": answer["next_since"], "until": answer["until"]}
        assert sorted(seen) == sorted(ids) and len(ends) == 1

    def test_a_wrong_replay_says_what_is_wrong(self, house):
        here = add(house.http)["links"]["self"]
        for body, code, field in (
            ({}, "missing_field", "since"),
            ({"until": "2026-05-01T00:00:00Z"}, "missing_field", "since"),
            ({"event": new_id(), "since": "2026-05-01T00:00:00Z"}, "invalid_value", "event"),
            ({"event": ""}, "invalid_value", "event"),
            ({"event": 7}, "invalid_type", "event"),
            ({"since": "24h"}, "invalid_value", "since"),
            ({"since": 1_700_000_000}, "invalid_type", "since"),
            ({"since": "2026-05-01"}, "invalid_value", "since"),
            ({"since": "2026-05-01T00:00:00"}, "invalid_value", "since"),
            ({"since": "2026-02-30T00:00:00Z"}, "invalid_value", "since"),
            ({"since": "0000-01-01T00:00:00Z"}, "invalid_value", "since"),
            (
                {"since": "0001-01-01T00:00:00+23:59", "until": "0001-01-01T00:00:00+23:59"},
                "out_of_range",
                "until",
            ),
            ({"since": "2026-05-01T00:00:00+99:99"}, "invalid_value", "since"),
            ({"since": "2026-05-01T00:00:00Z\n"}, "invalid_value", "since"),
            (
                {"since": "2026-05-01T00:00:00Z", "until": "2026-05-01T00:00:00Z"},
                "out_of_range",
                "until",
            ),
            ({"since": "2026-05-01T00:00:00Z", "until": "now"}, "invalid_value", "until"),
            ({"sicne": "2026-05-01T00:00:00Z"}, "unknown_field", "sicne"),
        ):
            answer = house.http.post(f"{here}/replay", json=body)
            problem = answer.json()
            found = (answer.status_code, problem["code"], problem["field"])
            assert found == (400, code, field), body

    def test_one_that_is_switched_off_is_sent_nothing_and_says_so(self, house):
        endpoint = add(house.http)
        here = endpoint["links"]["self"]
        job = house.submit()["id"]
        house.http.patch(here, json={"enabled": False})
        cancel(house, job)
        for path, body in (
            ("test", None),
            ("replay", {"event": job}),
            ("replay", {"since": "2020-01-01T00:00:00Z"}),
        ):
            answer = house.http.post(f"{here}/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (409, "webhook_disabled")
        house.http.patch(here, json={"enabled": True})
        assert due(house, endpoint["id"]) == []
        house.http.post(f"{here}/replay", json={"event": job})
        assert [one.event.id for one in due(house, endpoint["id"])] == [job]


class TestOwnWebhooks:
    def test_a_job_brings_its_own_by_either_spelling(self, house):
        plain = house.submit(webhook=URL)["id"]
        spelled = house.submit(webhook={"url": URL})["id"]
        quiet = house.submit(webhook=None)["id"]
        cancel(house, plain, spelled, quiet)
        own = own_endpoint_id("default", URL)
        assert told(house, own) == [("job.cancelled", one) for one in sorted([plain, spelled])]
        retried = house.http.post(f"/v1/jobs/{plain}/retry").json()["id"]
        house.work([retried])
        assert told(house, own) == [("job.succeeded", retried)]

    def test_a_group_and_its_jobs_have_each_their_own(self, house):
        body = {
            "jobs": [
                JOB,
                JOB | {"webhook": URL + "/job"},
                JOB | {"webhook": {"url": URL + "/job"}},
            ],
            "webhook": URL + "/group",
        }
        made = house.http.post("/v1/jobs/many", json=body).json()
        ids = [one["id"] for one in made["jobs"]]
        house.work(ids)
        with house.database.begin() as tx:
            tx.webhooks.complete_groups(None, 100)
        of_jobs = own_endpoint_id("default", URL + "/job")
        assert told(house, of_jobs) == [("job.succeeded", one) for one in sorted(ids[1:])]
        of_group = own_endpoint_id("default", URL + "/group")
        assert told(house, of_group) == [("group.completed", made["group"])]

    def test_it_can_be_found_by_its_url_and_switched_on_again(self, house):
        job = house.submit(webhook=URL)["id"]
        listed = add(house.http)
        assert [one["id"] for one in house.http.get("/v1/webhooks").json()["data"]] == [
            listed["id"]
        ]
        cancel(house, job)
        own = own_endpoint_id("default", URL)
        (delivery,) = due(house, own)
        settle(house, delivery, result=AttemptResult.GONE, status=410)
        found = house.http.get("/v1/webhooks", params={"url": URL}).json()["data"]
        assert [one["id"] for one in found] == [listed["id"], own]
        assert (found[1]["listed"], found[1]["disabled_reason"]) == (False, "gone")
        assert house.http.get("/v1/webhooks", params={"url": URL + "x"}).json()["data"] == []
        page = house.http.get("/v1/webhooks", params={"url": URL, "limit": 1}).json()
        assert (page["next"], page["has_more"]) == (listed["id"], True)
        after = {"url": URL, "after": page["next"]}
        assert house.http.get("/v1/webhooks", params=after).json()["data"] == [found[1]]
        here = found[1]["links"]["self"]
        assert house.http.get(f"{here}/attempts").json()["data"][0]["result"] == "gone"
        refused = house.http.patch(here, json={"events": ["*"]})
        assert (refused.status_code, refused.json()["field"]) == (409, "events")
        assert house.http.patch(here, json={"enabled": True}).json()["enabled"]
        second = house.submit(webhook=URL)["id"]
        cancel(house, second)
        assert told(house, own) == [("job.cancelled", second)]

    WRONG = (
        ("", "invalid_value", "webhook"),
        (7, "invalid_type", "webhook"),
        ([URL], "invalid_type", "webhook"),
        (True, "invalid_type", "webhook"),
        ({}, "missing_field", "webhook.url"),
        ({"url": None}, "invalid_type", "webhook.url"),
        ({"url": URL, "secret": OWN}, "unknown_field", "webhook.secret"),
        ("https://a b/", "invalid_value", "webhook"),
        ("not a url", "invalid_value", "webhook"),
        ("example.com", "bad_webhook_url", "webhook"),
        ("http://127.0.0.1/", "bad_webhook_url", "webhook"),
        ({"url": "http://10.0.0.1/"}, "bad_webhook_url", "webhook"),
        ("http://example.com:25/", "bad_webhook_url", "webhook"),
    )

    def test_a_wrong_one_is_refused_with_its_place(self, house):
        for wrong, code, field in self.WRONG:
            answer = house.http.post("/v1/jobs", json=JOB | {"webhook": wrong})
            found = (answer.status_code, answer.json()["code"], answer.json()["field"])
            assert found == (400, code, field), wrong
            body = {"jobs": [JOB, JOB, JOB, JOB | {"webhook": wrong}]}
            answer = house.http.post("/v1/jobs/many", json=body)
            (error,) = answer.json()["errors"]
            assert (answer.status_code, error["code"], error["field"]) == (
                400,
                code,
                f"jobs[3].{field}",
            )
            answer = house.http.post("/v1/jobs/many", json={"jobs": [JOB], "webhook": wrong})
            found = (answer.status_code, answer.json()["code"], answer.json()["field"])
            assert found == (400, code, field), wrong
        bad = JOB | {"webhook": "http://10.0.0.1/"}
        answer = house.http.post("/v1/jobs/many", json={"jobs": [bad, JOB, bad]})
        assert [e["field"] for e in answer.json()["errors"]] == [
            "jobs[0].webhook",
            "jobs[2].webhook",
        ]
        assert answer.json()["code"] == "bad_webhook_url"
        mixed = {"jobs": [bad, JOB | {"input": {"text": "a"}}]}
        answer = house.http.post("/v1/jobs/many", json=mixed)
        assert [e["code"] for e in answer.json()["errors"]] == ["bad_webhook_url", "wrong_form"]
        assert house.http.get("/v1/jobs").json()["data"] == []

    def test_it_is_part_of_what_an_idempotency_key_stands_for(self, house):
        key = {"Idempotency-Key": "once"}
        first = house.http.post("/v1/jobs", json=JOB | {"webhook": URL}, headers=key)
        again = house.http.post("/v1/jobs", json=JOB | {"webhook": URL}, headers=key)
        assert first.json()["id"] == again.json()["id"]
        for other in (JOB, JOB | {"webhook": URL + "/other"}):
            answer = house.http.post("/v1/jobs", json=other, headers=key)
            assert answer.json()["code"] == "idempotency_mismatch"
        key = {"Idempotency-Key": "group"}
        body = {"jobs": [JOB], "webhook": URL}
        first = house.http.post("/v1/jobs/many", json=body, headers=key).json()
        assert house.http.post("/v1/jobs/many", json=body, headers=key).json() == first | {
            "estimated_start_at": None
        }
        answer = house.http.post("/v1/jobs/many", json={"jobs": [JOB]}, headers=key)
        assert answer.json()["code"] == "idempotency_mismatch"


class TestTenants:
    @pytest.fixture
    def bob(self, house):
        with house.client(house.key_for("bob")) as client:
            yield client

    def test_nothing_of_another_tenants_webhooks_can_be_seen_or_moved(self, house, bob):
        endpoint = add(house.http)
        here = endpoint["links"]["self"]
        job = house.submit()["id"]
        cancel(house, job)
        before = house.http.get(here).json()
        bobs = add(bob)
        assert bobs["secret"] != endpoint["secret"]
        for method, rest, body in (
            ("GET", "", None),
            ("PATCH", "", {"enabled": False}),
            ("DELETE", "", None),
            ("POST", "/test", None),
            ("POST", "/replay", {"event": job}),
            ("POST", "/replay", {"since": "2020-01-01T00:00:00Z"}),
            ("POST", "/rotate", None),
            ("GET", "/attempts", None),
        ):
            answer = bob.request(method, here + rest, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")
        assert [one["id"] for one in bob.get("/v1/webhooks").json()["data"]] == [bobs["id"]]
        event = bob.post(f"{bobs['links']['self']}/replay", json={"event": job})
        assert event.json()["code"] == "event_not_found"
        since = {"since": "2020-01-01T00:00:00Z"}
        assert bob.post(f"{bobs['links']['self']}/replay", json=since).json()["deliveries"] == 0
        bob.post("/v1/webhooks/secret/rotate")
        assert house.http.get(here).json() == before
        assert good_secrets(house) == [endpoint["secret"]]
        assert told(house, bobs["id"]) == []

    def test_the_same_url_of_two_tenants_is_two_endpoints(self, house, bob):
        house.push(tenant="bob")
        mine, theirs = house.submit(webhook=URL)["id"], house.submit(bob, webhook=URL)["id"]
        cancel(house, mine)
        bob.post(f"/v1/jobs/{theirs}/cancel")
        assert told(house, own_endpoint_id("default", URL)) == [("job.cancelled", mine)]
        assert told(house, own_endpoint_id("bob", URL)) == [("job.cancelled", theirs)]
        found = bob.get("/v1/webhooks", params={"url": URL}).json()["data"]
        assert [one["id"] for one in found] == [own_endpoint_id("bob", URL)]


def test_rotations_at_once_leave_one_newest(house):
    house.http.get("/v1/webhooks/secret")
    gate = threading.Barrier(6)

    def rotate(_):
        gate.wait(20)
        return house.http.post("/v1/webhooks/secret/rotate").json()["secret"]

    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(rotate, range(6)))
    good = good_secrets(house)
    assert len(made) == 6 and len(good) == 2 and set(good) < made
    assert house.http.get("/v1/webhooks/secret").json()["secret"] == good[0]
