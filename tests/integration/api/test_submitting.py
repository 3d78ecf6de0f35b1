"""Submitting over REST: what is accepted, what is refused and how it is said."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from storage.objects.packs import read_slice
from tests.support.waiting import wait_until

JOB = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}


def test_a_202_is_a_job_in_the_database(house):
    answer = house.http.post("/v1/jobs", json={**JOB, "custom_id": "a", "metadata": {"k": "v"}})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert house.http.get(f"/v1/jobs/{job['id']}").json() == job
    with house.database.read() as tx:
        row = tx.jobs.get("default", job["id"])
        assert tx.jobs.payload("default", job["id"]) == b'{"tensor":[1,2,3,4]}'
    assert (row.state, row.custom_id, dict(row.metadata)) == ("queued", "a", {"k": "v"})


def test_the_answer_to_a_submit_is_what_a_read_says(house):
    many = house.http.post("/v1/jobs/many", json={"jobs": [JOB, {**JOB, "priority": 9}]}).json()
    group = house.http.get(f"/v1/groups/{many['group']}").json()
    assert (group["total"], group["counts"]["queued"], group["done"]) == (2, 2, False)
    for entry in many["jobs"]:
        assert house.http.get(f"/v1/jobs/{entry['id']}").json()["group"] == many["group"]


REFUSED = [
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"model": "vectors:7"}, 404, "version_not_found", "model"),
    ({"model": "vectors@prod"}, 404, "alias_not_found", "model"),
    ({"model": "No Such"}, 400, "invalid_value", "model"),
    ({"model": 7}, 400, "invalid_type", "model"),
    ({"kind": "evaluation"}, 400, "unknown_field", "input.tensor"),
    ({"kind": "magic"}, 400, "invalid_value", "kind"),
    ({"webhook": {"url": "https://10.0.0.1/"}}, 400, "bad_webhook_url", "webhook"),
    ({"output": {"uri": "s3://a/b"}}, 422, "not_built", "output"),
    ({"prority": 3}, 400, "unknown_field", "prority"),
    ({"priority": 10}, 400, "out_of_range", "priority"),
    ({"priority": "high"}, 400, "invalid_type", "priority"),
    ({"priority": True}, 400, "invalid_type", "priority"),
    ({"custom_id": "a\x00b"}, 400, "invalid_value", "custom_id"),
    ({"metadata": {"k": 1}}, 400, "invalid_type", "metadata.k"),
    ({"metadata": {"a b": "v"}}, 400, "invalid_value", "metadata"),
    ({"metadata": {"k": "\x00"}}, 400, "invalid_value", "metadata.k"),
    ({"input": {"tensor": [1, 2, 3]}}, 400, "wrong_shape", "input.tensor"),
    ({"input": {"text": "hello"}}, 400, "wrong_form", "input"),
    ({"input": {}}, 400, "invalid_value", "input"),
    ({"input": {"ref": "file:///etc/passwd"}}, 400, "ref_not_allowed", "input.ref"),
    ({"input": {"ref": "s3://other/x"}}, 400, "ref_not_allowed", "input.ref"),
    (
        {"input": {"items": [{"tensor": [1, 2, 3, 4]}, {"ref": "http://a/"}]}},
        400,
        "ref_not_allowed",
        "input.items[1].ref",
    ),
    (
        {"input": {"ref": "forebay://files/0190aaaa-0000-7000-8000-000000000000"}},
        422,
        "file_not_found",
        "input.ref",
    ),
]


def test_a_wrong_job_is_refused_with_its_field_and_nothing_is_stored(house):
    for change, status, code, field in REFUSED:
        answer = house.http.post("/v1/jobs", json={**JOB, **change})
        problem = answer.json()
        found = (answer.status_code, problem["code"], problem.get("field"))
        assert found == (status, code, field), change
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status and problem["detail"]
    assert house.http.get("/v1/jobs").json()["data"] == []


def test_an_unknown_field_names_the_nearest_known_one(house):
    problem = house.http.post("/v1/jobs", json={**JOB, "custom_if": "a"}).json()
    assert "'custom_id'" in problem["detail"]


NOT_JSON = [
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (b'{"a": NaN}', "invalid_json"),
    (b'{"model":"vectors","input":{"tensor":[1e999]}}', "number_out_of_range"),
    (b'{"model":"vectors","input":{"tensor":[' + b"9" * 5000 + b"]}}", "number_out_of_range"),
    (b'{"model":"vectors","input":{"tensor":' + b"[" * 900 + b"]" * 900 + b"}}", "too_deep"),
    (b"[" * 100_000, "too_deep"),
    (b'"text"', "invalid_type"),
    (b"\xff\xfe", "invalid_json"),
    (b'{"model":"\\ud800","input":{"tensor":[1]}}', "invalid_json"),
]


def test_what_is_not_good_json_is_refused(house):
    for body, code in NOT_JSON:
        answer = house.http.post(
            "/v1/jobs", content=body, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, code), body[:40]


def test_only_json_is_taken(house):
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "",
    ):
        headers = {"content-type": content_type}
        answer = house.http.post("/v1/jobs", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_every_wrong_index_of_many_is_named_and_none_is_stored(house):
    jobs = [JOB, {**JOB, "priority": 99}, {**JOB, "input": {"tensor": [1]}}, JOB, {"model": 1}]
    answer = house.http.post("/v1/jobs/many", json={"jobs": jobs})
    assert answer.status_code == 400
    fields = [error["field"] for error in answer.json()["errors"]]
    assert fields == ["jobs[1].priority", "jobs[4].model"]  # by form first,
    answer = house.http.post("/v1/jobs/many", json={"jobs": [jobs[0], jobs[2], jobs[2]]})
    assert [e["field"] for e in answer.json()["errors"]] == [  # then against the model
        "jobs[1].input.tensor",
        "jobs[2].input.tensor",
    ]
    assert answer.json()["code"] == "wrong_shape"
    assert house.http.get("/v1/jobs").json()["data"] == []


def test_many_have_limits_and_unique_custom_ids(house):
    def post(jobs):
        answer = house.http.post("/v1/jobs/many", json={"jobs": jobs})
        return answer.status_code, answer.json()["code"]

    assert post([JOB] * 10_001) == (413, "too_many_jobs")
    assert post([]) == (400, "invalid_value")
    assert post("no") == (400, "invalid_value")
    twice = {**JOB, "custom_id": "a"}
    assert post([twice, JOB, twice]) == (400, "duplicate_custom_id")


def test_a_repeated_submit_is_one_job(house):
    headers = {"Idempotency-Key": "k-1"}
    first = house.http.post("/v1/jobs", json=JOB, headers=headers)
    again = house.http.post("/v1/jobs", json=dict(reversed(JOB.items())), headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = house.http.post("/v1/jobs", json={**JOB, "priority": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    elsewhere = house.http.post("/v1/jobs/many", json={"jobs": [JOB]}, headers=headers)
    assert elsewhere.status_code == 422
    assert len(house.http.get("/v1/jobs").json()["data"]) == 1


def test_a_repeated_group_is_one_group(house):
    headers = {"Idempotency-Key": "k-many"}
    body = {"jobs": [{**JOB, "custom_id": f"c{n}"} for n in range(50)]}
    first = house.http.post("/v1/jobs/many", json=body, headers=headers)
    again = house.http.post("/v1/jobs/many", json=body, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"


def test_concurrent_duplicates_yield_one_job(house):
    body = {**JOB, "metadata": {"race": "yes"}}

    def post(_):
        return house.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "race"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert len(house.http.get("/v1/jobs").json()["data"]) == 1


def test_a_replay_is_answered_even_when_its_model_broke_since(house):
    headers = {"Idempotency-Key": "then"}
    first = house.http.post("/v1/jobs", json=JOB, headers=headers)
    with house.database.begin() as tx:
        version = tx.models.versions("default", "vectors")[0]
        tx.models.mark_broken(version.id, "it does not load")
    again = house.http.post("/v1/jobs", json=JOB, headers=headers)
    assert again.json()["id"] == first.json()["id"]
    fresh = house.http.post("/v1/jobs", json=JOB)
    assert fresh.status_code in (404, 422)


def test_large_inputs_go_into_one_pack_and_are_read_back(house):
    items = [{"tensor": [n + 0.123456789] * 4} for n in range(1000)]
    many = [JOB, {**JOB, "input": {"items": items}}, {**JOB, "input": {"items": items[::-1]}}]
    answer = house.http.post("/v1/jobs/many", json={"jobs": many}).json()
    with house.database.read() as tx:
        small, *large = [tx.jobs.payload("default", entry["id"]) for entry in answer["jobs"]]
        pack = tx.packs.get(large[0].pack_id)
    assert small == b'{"tensor":[1,2,3,4]}'
    assert (pack.state, pack.kind, pack.entries) == ("live", "input", 2)
    assert {slice_.pack_id for slice_ in large} == {pack.id}
    read = [json.loads(read_slice(house.objects, pack.key, slice_)) for slice_ in large]
    assert read == [{"items": items}, {"items": items[::-1]}]


def test_a_full_backlog_is_429_with_a_time_and_nothing_is_stored(quiet_house):
    house = quiet_house
    house.push()
    house.start(max_backlog_jobs=5)
    try:
        assert house.http.post("/v1/jobs/many", json={"jobs": [JOB] * 4}).status_code == 202
        refused = house.http.post("/v1/jobs/many", json={"jobs": [JOB] * 4})
        assert (refused.status_code, refused.json()["code"]) == (429, "backlog_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert len(house.http.get("/v1/jobs").json()["data"]) == 4
        other = house.key_for("other")
        house.push(tenant="other")
        with house.client(other) as client:
            assert client.post("/v1/jobs", json=JOB).status_code == 202
    finally:
        house.stop()


def test_a_body_over_the_limit_is_413_however_it_is_sent(quiet_house):
    house = quiet_house
    house.push()
    house.start(max_body_bytes=100_000)
    try:
        headers = {"content-type": "application/json"}
        big = b'{"model":"' + b"a" * 300_000 + b'"}'
        told = house.http.post("/v1/jobs", content=big, headers=headers)
        assert (told.status_code, told.json()["code"]) == (413, "too_large")

        def stream():
            for start in range(0, len(big), 10_000):
                yield big[start : start + 10_000]

        untold = house.http.post("/v1/jobs", content=stream(), headers=headers)
        assert untold.status_code == 413
        assert house.http.post("/v1/jobs", json=JOB).status_code == 202
    finally:
        house.stop()


def test_the_answer_tells_when_the_work_may_start_and_later_ones_do_not(house):
    assert house.submit()["estimated_start_at"] is None  # nobody is there to do it
    house.session()
    wait_until(lambda: house.submit()["estimated_start_at"], what="an estimate", every_s=0.1)
    job = house.submit()
    assert job["created_at"][:17] <= job["estimated_start_at"]
    assert house.http.get(f"/v1/jobs/{job['id']}").json()["estimated_start_at"] is None
    many = house.http.post("/v1/jobs/many", json={"jobs": [JOB, {**JOB, "priority": 1}]}).json()
    assert many["estimated_start_at"] is not None
