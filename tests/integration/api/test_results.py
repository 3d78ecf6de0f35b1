"""Results, lists, groups, cancel and retry over REST."""

from __future__ import annotations

import json

import pytest

from storage.clock import SystemClock
from storage.database import Database
from storage.records.jobs import JobError
from workers.keeper.pack_collection import PackCollection
from workers.keeper.retention import Retention

JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


def test_a_result_is_the_answer_itself(house):
    job = house.submit()
    early = house.http.get(f"/v1/jobs/{job['id']}/result")
    assert (early.status_code, early.json()["code"]) == (409, "not_ready")
    house.work([job["id"]], lambda _: {"outputs": {"y": [0.25, 0.75]}, "label": "b"})
    answer = house.http.get(f"/v1/jobs/{job['id']}/result")
    assert answer.json() == {"outputs": {"y": [0.25, 0.75]}, "label": "b"}
    after = house.http.get(f"/v1/jobs/{job['id']}").json()
    assert after["result"] == {
        "href": f"/v1/jobs/{job['id']}/result",
        "size_bytes": len(answer.content),
    }
    assert after["progress"] == {"done": 1, "total": 1} and after["attempts"] == 1


def test_a_failed_job_says_why(house):
    job = house.submit()
    house.work([job["id"]], lambda _: JobError("bad_item", "the picture is cut off", 1))
    after = house.http.get(f"/v1/jobs/{job['id']}").json()
    assert (after["state"], after["error"]["code"]) == ("failed", "bad_item")
    answer = house.http.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_failed")
    assert "the picture is cut off" in answer.json()["detail"]


def test_an_erased_result_is_gone(house):
    job = house.submit()
    house.work([job["id"]])
    with house.database.read() as tx:
        pack = tx.packs.get(tx.jobs.get("default", job["id"]).result.pack_id)
    house.objects.delete([pack.key])
    answer = house.http.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.json()["code"]) == (410, "result_gone")


def test_group_results_come_in_the_order_of_submission(house):
    jobs = [{**JOB, "custom_id": f"c{n}"} for n in range(30)]
    many = house.http.post("/v1/jobs/many", json={"jobs": jobs}).json()
    ids = [entry["id"] for entry in many["jobs"]]
    house.work(reversed(ids[:10]), lambda job_id: {"outputs": {"y": ids.index(job_id)}})
    house.work(ids[20:10:-1], lambda job_id: {"outputs": {"y": ids.index(job_id)}})
    house.work(ids[25:26], lambda _: JobError("bad_item", "no", 1))
    answer = house.http.get(f"/v1/groups/{many['group']}/results")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"c{n}" for n in range(30)]
    for index, line in enumerate(lines):
        if line["state"] == "succeeded":
            assert line["result"] == {"outputs": {"y": index}}
        elif line["state"] == "failed":
            assert line["error"]["code"] == "bad_item" and line["result"] is None
        else:
            assert line["state"] == "queued" and line["result"] is None
    assert sum(line["state"] == "succeeded" for line in lines) == 20


def test_a_group_of_thousands_is_streamed_whole(house):
    many = house.http.post("/v1/jobs/many", json={"jobs": [JOB] * 2500}).json()
    ids = [entry["id"] for entry in many["jobs"]]
    for start in range(0, 2500, 500):
        house.work(ids[start : start + 500], lambda job_id: {"outputs": {"id": job_id}})
    lines = [
        json.loads(line)
        for line in house.http.get(f"/v1/groups/{many['group']}/results").text.splitlines()
    ]
    assert [line["result"]["outputs"]["id"] for line in lines] == ids


def test_lists_are_pages_newest_first_and_filters_narrow(house):
    jobs = [house.submit(metadata={"n": str(n % 2)}, custom_id=f"c{n}") for n in range(7)]
    house.work([jobs[0]["id"]])
    seen, after = [], None
    while True:
        params = {"limit": 3} | ({"after": after} if after else {})
        page = house.http.get("/v1/jobs", params=params).json()
        seen += [job["id"] for job in page["data"]]
        assert page["has_more"] == (page["next"] is not None)
        if not page["has_more"]:
            break
        after = page["next"]
    assert seen == [job["id"] for job in reversed(jobs)]

    def listed(**params):
        return {j["custom_id"] for j in house.http.get("/v1/jobs", params=params).json()["data"]}

    assert listed(state="succeeded") == {"c0"}
    assert listed(state="queued,succeeded") == {f"c{n}" for n in range(7)}
    assert listed(**{"metadata.n": "1"}) == {"c1", "c3", "c5"}
    assert listed(**{"metadata.n": "1", "state": "succeeded"}) == set()
    assert listed(model="vectors:1", kind="inference") == {f"c{n}" for n in range(7)}
    assert listed(model="vectors:2") == listed(kind="training") == set()
    for params, field in (
        ({"state": "done"}, "state"),
        ({"limit": "0"}, "limit"),
        ({"after": "x"}, "after"),
        ({"stat": "queued"}, "stat"),
        ({"model": "vectors@prod"}, "model"),
        ({"metadata.a b": "1"}, "metadata.a b"),
    ):
        refused = house.http.get("/v1/jobs", params=params)
        assert refused.status_code == 400 and refused.json()["field"] == field


def test_cancel_is_at_once_for_a_queued_job_and_asked_of_a_running_one(house):
    queued, running, over = house.submit(), house.submit(), house.submit()
    house.work([over["id"]])
    house.claim([running["id"]])

    def cancel(job):
        return house.http.post(f"/v1/jobs/{job['id']}/cancel").json()

    assert cancel(queued)["state"] == "cancelled"
    asked = cancel(running)
    assert asked["state"] == "running" and asked["cancel_requested_at"]
    assert cancel(over)["state"] == "succeeded"
    problem = house.http.get(f"/v1/jobs/{queued['id']}/result").json()
    assert problem["code"] == "job_cancelled"
    ignored = house.http.post(f"/v1/jobs/{queued['id']}/cancel", json={"force": True})
    assert (ignored.status_code, ignored.json()["field"]) == (400, "force")


def test_a_group_is_cancelled_as_one(house):
    many = house.http.post("/v1/jobs/many", json={"jobs": [JOB] * 5}).json()
    house.work([many["jobs"][0]["id"]])
    group = house.http.post(f"/v1/groups/{many['group']}/cancel").json()
    assert group["counts"]["cancelled"] == 4 and group["counts"]["succeeded"] == 1
    assert group["done"]


def test_a_retry_is_a_new_job_with_the_same_wishes(house):
    job = house.submit(priority=7, custom_id="c", metadata={"a": "b"}, max_attempts=2)
    refused = house.http.post(f"/v1/jobs/{job['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")
    house.work([job["id"]], lambda _: JobError("bad_item", "no", 1))
    headers = {"Idempotency-Key": "again"}
    answer = house.http.post(f"/v1/jobs/{job['id']}/retry", headers=headers)
    assert answer.status_code == 202
    again = answer.json()
    assert again["retry_of"] == job["id"] and again["id"] != job["id"]
    for name in ("model", "priority", "custom_id", "metadata", "max_attempts"):
        assert again[name] == job[name]
    twice = house.http.post(f"/v1/jobs/{job['id']}/retry", headers=headers)
    assert twice.json()["id"] == again["id"]
    with house.database.read() as tx:
        assert tx.jobs.payload("default", again["id"]) == tx.jobs.payload("default", job["id"])


def test_tenants_never_meet(house):
    mine = house.submit()
    many = house.http.post("/v1/jobs/many", json={"jobs": [JOB] * 2}).json()
    file = house.http.post("/v1/files", files={"file": ("a.txt", b"secret")}).json()
    house.push(tenant="other")
    with house.client(house.key_for("other")) as other:
        for method, path in (
            ("GET", f"/v1/jobs/{mine['id']}"),
            ("GET", f"/v1/jobs/{mine['id']}/result"),
            ("GET", f"/v1/jobs/{mine['id']}/events"),
            ("POST", f"/v1/jobs/{mine['id']}/cancel"),
            ("POST", f"/v1/jobs/{mine['id']}/retry"),
            ("GET", f"/v1/groups/{many['group']}"),
            ("GET", f"/v1/groups/{many['group']}/results"),
            ("POST", f"/v1/groups/{many['group']}/cancel"),
            ("GET", f"/v1/files/{file['id']}"),
            ("GET", f"/v1/files/{file['id']}/content"),
        ):
            assert other.request(method, path).status_code == 404, (method, path)
        assert other.get("/v1/jobs").json()["data"] == []
        assert other.get("/v1/jobs", params={"group": many["group"]}).json()["data"] == []
        refused = other.post("/v1/jobs", json={**JOB, "input": {"ref": file["uri"]}})
        assert refused.json()["code"] == "file_not_found"
    assert house.http.get(f"/v1/jobs/{mine['id']}").json()["state"] == "queued"


@pytest.fixture
def packing(quiet_house):
    """A service that keeps every input in a pack."""
    quiet_house.push()
    quiet_house.start(inline_input_bytes=0)
    yield quiet_house
    quiet_house.stop()


def test_a_retry_whose_input_a_collector_took_meanwhile_is_told_so(packing, monkeypatch):
    """Between the look at the old job and the write of the new one."""
    job = packing.submit()
    packing.http.post(f"/v1/jobs/{job['id']}/cancel")
    retry = f"/v1/jobs/{job['id']}/retry"
    assert packing.http.post(retry).status_code == 202  # it points to the same pack

    singles = packing.service.submission._singles
    write = singles.write

    def late(*arguments):
        with packing.database._engines.writing.begin() as connection:
            connection.exec_driver_sql("UPDATE packs SET state = 'doomed' WHERE kind = 'input'")
        return write(*arguments)

    monkeypatch.setattr(singles, "write", late)
    answer = packing.http.post(retry)
    assert (answer.status_code, answer.json()["code"]) == (410, "input_gone")
    jobs = packing.http.get("/v1/jobs").json()["data"]
    assert len(jobs) == 2  # nothing was written


class InAMonth(SystemClock):
    def now_ms(self) -> int:
        return super().now_ms() + 31 * 86_400_000


def test_a_result_whose_retention_has_passed_is_gone_and_then_its_job(house):
    job = house.submit()
    house.work([job["id"]])
    path = f"/v1/jobs/{job['id']}"
    assert house.http.get(f"{path}/result").status_code == 200
    later = Database(house.database._engines, InAMonth())
    PackCollection().run_once(later, house.objects)
    answer = house.http.get(f"{path}/result")
    assert (answer.status_code, answer.json()["code"]) == (410, "result_gone")
    Retention().run_once(later, house.objects)
    for gone in (path, f"{path}/result"):
        answer = house.http.get(gone)
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_file_that_may_be_deleted_any_moment_is_pointed_to_no_more(house):
    file = house.http.post("/v1/files", files={"file": ("a.txt", b"data")}).json()
    job = {**JOB, "input": {"ref": file["uri"]}}
    assert house.http.post("/v1/jobs", json=job).status_code == 202
    with house.database._engines.writing.begin() as connection:
        connection.exec_driver_sql(f"UPDATE files SET created_at = created_at - {30 * 86_400_000}")
    answer = house.http.post("/v1/jobs", json=job)
    assert (answer.status_code, answer.json()["code"]) == (422, "file_not_found")
