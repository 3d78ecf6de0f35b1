"""A database that goes away: a clear 503 in bounded time, and nothing is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.objects import open_objects
from tests.support.api import ApiHouse
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


@pytest.fixture
def behind_proxy(postgres, postgres_database_url, tmp_path):
    """The service on PostgreSQL through a proxy that can be told to misbehave."""
    name = postgres_database_url.rpartition("/")[2]
    upstream = int(postgres_database_url.rpartition("/")[0].rpartition(":")[2])
    with Proxy(upstream) as proxy:
        url = postgres.url_at(proxy.port, name)
        database = Database.open(url)
        database.migrate()
        house = ApiHouse("full", database, open_objects(f"file://{tmp_path}/o"), tmp_path)
        house.push()
        house.start()
        yield house, proxy
        proxy.heal()
        house.stop()
        database.close()


def test_a_database_that_is_gone_is_503_with_a_time_and_comes_back(behind_proxy):
    house, proxy = behind_proxy
    job = house.submit()
    proxy.refuse()
    for method, path, kwargs in (
        ("POST", "/v1/jobs", {"json": JOB}),
        ("POST", "/v1/jobs/many", {"json": {"jobs": [JOB]}}),
        ("GET", f"/v1/jobs/{job['id']}", {}),
        ("GET", "/v1/jobs", {}),
        ("POST", f"/v1/jobs/{job['id']}/cancel", {}),
        ("GET", "/v1/models", {}),
        ("POST", "/v1/files", {"files": {"file": ("a", b"x")}}),
    ):
        began = time.monotonic()
        answer = house.http.request(method, path, **kwargs)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), path
        assert int(answer.headers["retry-after"]) >= 1
        assert str(proxy.port) not in answer.text and "postgresql" not in answer.text
        assert time.monotonic() - began < 15
    assert house.http.get("/healthz").status_code == 200
    ready = house.http.get("/readyz")
    assert ready.status_code == 503 and ready.json()["parts"]["database"]["status"] == "down"
    assert house.http.get("/metrics").status_code == 200
    proxy.heal()
    wait_until(lambda: house.http.post("/v1/jobs", json=JOB).status_code == 202, 10)
    assert house.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_a_long_poll_outlives_a_short_outage(behind_proxy):
    house, proxy = behind_proxy
    job = house.submit()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(house.http.get, f"/v1/jobs/{job['id']}", params={"wait": 25})
        wait_until(lambda: house.service.watcher.waiting == 1, what="the long-poll")
        proxy.reset()
        proxy.refuse()
        wait_until(lambda: house.http.get("/v1/jobs").status_code == 503, 10, what="the outage")
        proxy.heal()
        wait_until(lambda: house.http.get("/v1/jobs").status_code == 200, 10)
        house.work([job["id"]])
        assert poll.result(20).json()["state"] == "succeeded"


def test_a_commit_whose_answer_is_lost_is_one_job_with_a_key(behind_proxy):
    """The client repeats with its key whatever happened to the first try."""
    house, proxy = behind_proxy
    headers = {"Idempotency-Key": "once"}
    tries = []
    for budget in range(0, 4000, 400):
        proxy.cut_after(budget)
        tries.append(house.http.post("/v1/jobs", json=JOB, headers=headers).status_code)
        proxy.heal()
    wait_until(lambda: house.http.get("/v1/jobs").status_code == 200, 10)
    last = house.http.post("/v1/jobs", json=JOB, headers=headers)
    assert last.status_code == 202 and set(tries) <= {202, 503}, tries
    jobs = house.http.get("/v1/jobs").json()["data"]
    assert [job["id"] for job in jobs] == [last.json()["id"]]
