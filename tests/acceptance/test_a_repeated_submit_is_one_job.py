"""An ``Idempotency-Key`` makes a repeated request harmless."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.support.caller import Caller, echo_jobs, tensor
from tests.support.stack import Stack


def test_the_same_request_under_the_same_key_is_one_job(caller: Caller) -> None:
    key, mark = uuid.uuid4().hex, uuid.uuid4().hex
    body = {"model": "echo", "input": tensor(1, 2), "metadata": {"mark": mark}}
    first = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    again = caller.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    listed = caller.http.get("/v1/jobs", params={"metadata.mark": mark}).json()["data"]
    assert len(listed) == 1


def test_twenty_at_once_are_one_job(stack: Stack, caller: Caller) -> None:
    key = uuid.uuid4().hex
    with ThreadPoolExecutor(20) as pool:
        found = pool.map(
            lambda _: caller.submit("echo", tensor(4, 4), idempotency_key=key)["id"], range(20)
        )
        assert len(set(found)) == 1


def test_a_group_is_one_group_as_well(caller: Caller) -> None:
    key = uuid.uuid4().hex
    jobs = echo_jobs("echo", range(30))
    first = caller.submit_many(jobs, **{"Idempotency-Key": key})
    again = caller.submit_many(jobs, **{"Idempotency-Key": key})
    assert (again["group"], again["jobs"]) == (first["group"], first["jobs"])
    assert again["estimated_start_at"] is None  # an estimate belongs to the moment of a submit
    assert caller.finish_group(first["group"])["total"] == 30


def test_another_request_under_the_same_key_is_refused(caller: Caller) -> None:
    key = uuid.uuid4().hex
    caller.submit("echo", tensor(1, 1), idempotency_key=key)
    other = caller.http.post(
        "/v1/jobs",
        json={"model": "echo", "input": tensor(2, 2)},
        headers={"Idempotency-Key": key},
    )
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_mismatch"
