"""A foreign id answers as one that does not exist: 404, on every route."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.conftest import Tenants
from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.zoo import Zoo

UNKNOWN = "01890000-0000-7000-8000-000000000000"
JOB_ROUTES = [
    ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}?wait=1"),
    ("GET", "/v1/jobs/{id}/result"),
    ("GET", "/v1/jobs/{id}/events"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("POST", "/v1/jobs/{id}/retry"),
    ("POST", "/v1/jobs/{id}/pause"),
    ("POST", "/v1/jobs/{id}/resume"),
    ("GET", "/v1/jobs/{id}/manifest"),
    ("GET", "/v1/jobs/{id}/parts"),
    ("GET", "/v1/jobs/{id}/parts/{id}"),
    ("GET", "/v1/jobs/{id}/parts/{id}/errors"),
    ("GET", "/v1/jobs/{id}/errors"),
    ("GET", "/v1/jobs/{id}/curves"),
    ("GET", "/v1/jobs/{id}/curves.png"),
    ("GET", "/v1/jobs/{id}/log"),
]
GROUP_ROUTES = [
    ("GET", "/v1/groups/{id}"),
    ("GET", "/v1/groups/{id}?wait=1"),
    ("GET", "/v1/groups/{id}/results"),
    ("POST", "/v1/groups/{id}/cancel"),
]
FILE_ROUTES = [("GET", "/v1/files/{id}"), ("GET", "/v1/files/{id}/content")]
WEBHOOK_ROUTES = [
    ("GET", "/v1/webhooks/{id}"),
    ("PATCH", "/v1/webhooks/{id}"),
    ("DELETE", "/v1/webhooks/{id}"),
    ("POST", "/v1/webhooks/{id}/test"),
    ("POST", "/v1/webhooks/{id}/replay"),
    ("POST", "/v1/webhooks/{id}/rotate"),
    ("GET", "/v1/webhooks/{id}/attempts"),
]
BODIES = {  # of routes that take one; the others take none
    ("PATCH", "/v1/webhooks/{id}"): {"enabled": False},
    ("POST", "/v1/webhooks/{id}/replay"): {"since": "2026-01-01T00:00:00Z"},
    ("POST", "/v1/webhooks/{id}/rotate"): {"overlap_s": 0},
}
ROUTES = JOB_ROUTES + GROUP_ROUTES + FILE_ROUTES + WEBHOOK_ROUTES


@pytest.fixture(scope="package")
def belongings(tenants: Tenants, zoo: Zoo) -> dict[str, str]:
    """What tenant A has."""
    job = tenants.a.submit("echo", tensor(1, 2))["id"]
    group = tenants.a.submit_many(echo_jobs("echo", range(3)))["group"]
    stored = tenants.a.http.post("/v1/files", files={"file": ("a.txt", b"secret", "text/plain")})
    tenants.a.push("private", zoo.echo)
    tenants.a.finish(job)
    tenants.a.finish_group(group)
    # An address that webhooks may go to and that nobody listens at.
    webhook = tenants.a.http.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"}).json()["id"]
    return {"jobs": job, "groups": group, "files": stored.json()["id"], "webhooks": webhook}


def test_no_route_that_takes_an_id_is_forgotten_here(caller: Caller) -> None:
    paths = caller.http.get("/openapi.json").json()["paths"]
    taking_ids = {
        (method.upper(), re.sub(r"{[^}]*}", "{id}", path))
        for path, methods in paths.items()
        for method in methods
        if "{" in path and not path.startswith("/v1/models/")  # those take names: below
    }
    assert taking_ids == {(method, route.split("?")[0]) for method, route in ROUTES}


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_foreign_id_is_answered_as_an_unknown_one(
    tenants: Tenants, caller: Caller, belongings: dict[str, str], method: str, route: str
) -> None:
    own, body = belongings[route.split("/")[2]], BODIES.get((method, route))
    for stranger in (tenants.b, caller):
        foreign = stranger.http.request(method, route.format(id=own), json=body)
        unknown = stranger.http.request(method, route.format(id=UNKNOWN), json=body)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.headers["content-type"] == "application/problem+json"
        strip = [answer.text.replace(own, "").replace(UNKNOWN, "") for answer in (foreign, unknown)]
        assert strip[0] == strip[1]


def test_models_are_each_tenants_own(
    tenants: Tenants, caller: Caller, belongings: dict[str, str]
) -> None:
    for stranger in (tenants.b, caller):
        body = {"model": "private", "input": tensor(1, 2)}
        assert stranger.http.post("/v1/jobs", json=body).status_code == 404
        assert stranger.http.get("/v1/models/private").status_code == 404
        assert stranger.http.get("/v1/models/private/versions/1").status_code == 404
        told = stranger.http.get("/v1/models/private/versions/1/evaluations")
        assert told.status_code == 404
        alias = stranger.http.put("/v1/models/private/aliases/x", json={"version": 1})
        assert alias.status_code == 404
        version = "/v1/models/private/versions/1"
        for method, path, asked in (
            ("PATCH", version, {"notes": "x"}),
            ("DELETE", version, None),
            ("GET", f"{version}/card", None),
        ):
            answer = stranger.http.request(method, path, json=asked)
            assert (answer.status_code, path) == (404, path), answer.text
        here = "/v1/models/private/aliases/x"
        for method, path, asked in (
            ("POST", f"{here}/promote", {"version": 1}),
            ("POST", f"{here}/rollback", {}),
            ("GET", f"{here}/history", None),
            ("POST", "/v1/models/private/requeue", {"from": 1, "to": 1}),
            ("POST", f"{here}/trials", {"version": 1, "kind": "canary"}),
            ("GET", f"{here}/trials", None),
            ("GET", f"{here}/trials/{UNKNOWN}", None),
            ("POST", f"{here}/trials/{UNKNOWN}/stop", None),
        ):
            answer = stranger.http.request(method, path, json=asked)
            assert (answer.status_code, path) == (404, path), answer.text
        names = [model["name"] for model in stranger.http.get("/v1/models").json()["data"]]
        assert "private" not in names
    assert "private" in [m["name"] for m in tenants.a.http.get("/v1/models").json()["data"]]


def test_lists_and_references_end_at_the_tenant(
    tenants: Tenants, belongings: dict[str, str]
) -> None:
    listed = tenants.b.http.get("/v1/jobs", params={"limit": "100"}).json()["data"]
    assert belongings["jobs"] not in [job["id"] for job in listed]
    inside = tenants.b.http.get("/v1/jobs", params={"group": belongings["groups"]})
    assert inside.status_code == 404 or inside.json()["data"] == []
    hooks = tenants.b.http.get("/v1/webhooks").json()["data"]
    assert belongings["webhooks"] not in [one["id"] for one in hooks]
    ref = {"model": "echo", "input": {"ref": f"forebay://files/{belongings['files']}"}}
    assert tenants.b.http.post("/v1/jobs", json=ref).status_code == 422


@pytest.mark.parametrize("field", ["input.job", "input.group", "evaluation.against"])
def test_what_another_tenant_did_cannot_be_compared_with(
    tenants: Tenants, belongings: dict[str, str], field: str
) -> None:
    above, name = field.split(".")
    own = belongings["groups" if name == "group" else "jobs"]

    def answer(id_: str) -> tuple[int, str]:
        body = {"kind": "evaluation", "model": "echo", "input": {"uri": "s3://in/a.csv"}}
        found = tenants.b.http.post("/v1/jobs", json=body | {above: {name: id_}})
        assert found.json()["field"] == field
        return found.status_code, found.text.replace(id_, "")

    assert answer(own) == answer(UNKNOWN) and answer(own)[0] == 404


def test_the_same_idempotency_key_is_two_keys(tenants: Tenants) -> None:
    first = tenants.a.submit("echo", tensor(1, 1), idempotency_key="shared")
    other = tenants.b.submit("echo", tensor(2, 2), idempotency_key="shared")
    assert first["id"] != other["id"]
    assert tenants.b.finish(other["id"])["state"] == "succeeded"
    assert only_output(tenants.b.result(other["id"])) == [2, 2]


def test_a_key_nobody_knows_is_refused(tenants: Tenants) -> None:
    with Caller(tenants.a.url, tenants.a_key[:-3] + "xyz") as stranger:
        answer = stranger.http.get("/v1/jobs")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"
