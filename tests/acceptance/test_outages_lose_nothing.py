"""A service that goes away is answered clearly, and everything is finished when it is back."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.postgres import Postgres
from tests.support.rabbitmq import RabbitMQ
from tests.support.s3 import S3
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.parametrize("stack", ["full"], indirect=True)


def test_without_the_broker_a_submit_is_still_accepted(
    stack: FullStack, caller: Caller, rabbitmq: RabbitMQ
) -> None:
    rabbitmq.kill()
    try:
        began = time.monotonic()
        jobs = [caller.submit("echo", tensor(n, -n))["id"] for n in range(5)]
        group = caller.submit_many(echo_jobs("echo", range(200)))["group"]
        assert time.monotonic() - began < 5, "a submit waited for the broker"
        ready = httpx.get(f"{stack.url}/readyz", trust_env=False)
        assert ready.status_code == 200, "work is still taken"
        assert ready.json()["parts"]["broker"]["status"] != "ok"
    finally:
        rabbitmq.start()
    assert caller.finish_group(group)["counts"]["succeeded"] == 200
    for n, job_id in enumerate(jobs):
        assert caller.finish(job_id)["state"] == "succeeded"
        assert only_output(caller.result(job_id)) == [n, -n]


def test_without_the_database_a_caller_is_told_when_to_come_back(
    stack: FullStack, caller: Caller, postgres: Postgres
) -> None:
    group = caller.submit_many(echo_jobs("slow_echo", range(400)))["group"]
    postgres.kill()
    try:
        body = {"model": "echo", "input": tensor(1, 2)}
        for answer in (
            caller.http.post("/v1/jobs", json=body),
            caller.http.get(f"/v1/groups/{group}"),
        ):
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            problem = answer.json()
            assert problem["code"] == "database_unavailable"
            assert stack.services.database_url not in answer.text
            assert postgres.password not in answer.text
    finally:
        postgres.start()
    wait_until(
        lambda: caller.http.get(f"/v1/groups/{group}").status_code == 200,
        30,
        what="the API to find the database again",
    )
    assert caller.finish_group(group)["counts"]["succeeded"] == 400
    assert only_output(caller.ask("echo", tensor(1, 2))) == [1, 2]


def test_without_object_storage_jobs_wait_and_are_done_when_it_is_back(
    stack: FullStack, caller: Caller, s3: S3
) -> None:
    s3.kill()
    try:
        jobs = [caller.submit("echo", tensor(n, -n))["id"] for n in range(20)]
        seen = caller.job(jobs[0], wait_s=2)
        assert seen["state"] in ("queued", "running")
    finally:
        s3.start()
    for n, job_id in enumerate(jobs):
        assert caller.finish(job_id)["state"] == "succeeded"
        assert only_output(caller.result(job_id)) == [n, -n]


def test_no_log_holds_a_secret(
    stack: FullStack, caller: Caller, rabbitmq: RabbitMQ, postgres: Postgres, s3: S3
) -> None:
    """After outages, whose errors love to quote addresses."""
    secrets = (rabbitmq.password, postgres.password, s3.buckets.secret_key)
    for log in stack.folder.glob("*.log"):
        text = log.read_text(errors="replace")
        for secret in secrets:
            assert secret not in text, f"{log.name} holds a secret"
