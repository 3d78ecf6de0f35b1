"""Bulk jobs over REST: what is taken and refused, how far they are said to be, what they give."""

from __future__ import annotations

import hashlib
import json
import threading

import pytest

from storage.objects import open_objects
from storage.records.bulk import spec_of
from storage.records.jobs import JobKind
from tests.support.bulk_hand import BulkHand
from tests.support.waiting import wait_until

BULK = {"kind": "bulk", "model": "vectors", "input": {"uri": "s3://in/rows.csv"}}
ERROR = {"row_id": "0:3", "code": "invalid_value", "message": "no number"}


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def house(quiet_house, out):
    """The service with one prefix to read from, one to write to, one for both."""
    quiet_house.push()
    quiet_house.start(
        ref_prefixes=("s3://in", "s3://both"), output_prefixes=("s3://both", f"file://{out}")
    )
    yield quiet_house
    quiet_house.stop()


def submit(house, http=None, **changes):
    answer = (http or house.http).post("/v1/jobs", json=BULK | changes)
    assert answer.status_code == 202, answer.text
    return answer.json()


def get(house, path, status=200):
    answer = house.http.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def problem(answer):
    document = answer.json()
    return answer.status_code, document["code"], document.get("field")


def test_a_202_is_a_job_and_its_run(house):
    job = submit(
        house,
        input={"uri": ["s3://in/*.csv", "s3://in/more/"], "columns": ["a"]},
        output={"uri": "s3://both/out", "join": True},
        max_attempts=5,
        dry_run=True,
    )
    assert (job["kind"], job["state"], job["priority"]) == ("bulk", "queued", 2)
    assert job["progress"]["state"] == "waiting" and job["progress"]["rows_total"] is None
    assert get(house, f"/v1/jobs/{job['id']}") == job
    with house.database.read() as tx:
        row = tx.jobs.get("default", job["id"])
        spec = spec_of(tx.jobs.payload("default", job["id"]))
        assert tx.bulk.run(job["id"], tenant="default") is not None
        assert tx.bulk.run(job["id"], tenant="other") is None
    assert (row.kind, row.max_attempts, spec.max_attempts) == (JobKind.BULK, 1, 5)
    assert row.expires_at - row.created_at == row.run_timeout_ms == 7 * 86_400_000
    assert spec.input.uris == ("s3://in/*.csv", "s3://in/more/") and spec.dry_run
    assert (spec.output.uri, spec.output.join) == ("s3://both/out", True)
    for name in ("manifest", "parts", "errors", "pause", "resume"):
        assert job["links"][name] == f"/v1/jobs/{job['id']}/{name}"


def test_a_list_shows_the_short_form(house):
    job = submit(house)
    (listed,) = get(house, "/v1/jobs?kind=bulk")["data"]
    assert listed["id"] == job["id"] and listed["progress"] == {"done": 0, "total": 1}


REFUSED = [
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"input": {"uri": "file:///etc/passwd"}}, 400, "ref_not_allowed", "input.uri"),
    ({"input": {"uri": ["s3://in/a", "s3://o/*"]}}, 400, "ref_not_allowed", "input.uri[1]"),
    ({"input": {"uri": "s3://*/a"}}, 400, "ref_not_allowed", "input.uri"),
    (
        {"input": {"uri": "forebay://files/0190aaaa-0000-7000-8000-000000000000"}},
        422,
        "file_not_found",
        "input.uri",
    ),
    ({"output": {"uri": "s3://in/out"}}, 400, "output_not_allowed", "output.uri"),
    (
        {"input": {"uri": "s3://both/a/*.csv"}, "output": {"uri": "s3://both/a/out"}},
        400,
        "output_in_input",
        "output.uri",
    ),
    (
        {"input": {"uri": "s3://both/a/b/x.csv"}, "output": {"uri": "s3://both/a"}},
        400,
        "output_in_input",
        "output.uri",
    ),
    (
        {"input": {"uri": "s3://in/a", "columns": {"z": "a"}}},
        400,
        "unknown_input",
        "input.columns.z",
    ),
    ({"output": {"keep": ["a"], "join": True}}, 400, "invalid_value", "output.keep"),
    ({"input": {"uri": ["s3://in/" + "a" * 2000] * 20}}, 413, "input_too_long", "input"),
    ({"webhook": "https://10.0.0.1/"}, 400, "bad_webhook_url", "webhook"),
    ({"input": {"tensor": [1, 2, 3, 4]}}, 400, "unknown_field", "input.tensor"),
]


def test_what_is_wrong_is_refused_with_its_field_and_nothing_is_stored(house):
    for change, *expected in REFUSED:
        answer = house.http.post("/v1/jobs", json=BULK | change)
        assert problem(answer) == tuple(expected), (change, answer.text)
    answer = house.http.post("/v1/jobs/many", json={"jobs": [BULK]})
    assert problem(answer) == (400, "invalid_value", "jobs[0].kind")
    assert get(house, "/v1/jobs")["data"] == []


def test_an_uploaded_file_is_an_input_of_its_own_tenant_alone(house):
    file = house.http.post("/v1/files", files={"file": ("rows.csv", b"a\n1\n")}).json()
    job = submit(house, input={"uri": file["uri"], "columns": {"x": ["a"]}})
    assert job["progress"]["state"] == "waiting"
    with house.client(house.key_for("other")) as other:
        house.push(tenant="other")
        answer = other.post("/v1/jobs", json=BULK | {"input": {"uri": file["uri"]}})
        assert problem(answer) == (422, "file_not_found", "input.uri")


def test_a_spec_is_kept_in_sql_whatever_is_kept_there_of_other_inputs(house):
    house.stop()
    house.start(ref_prefixes=("s3://in",), inline_input_bytes=0)
    job = submit(house)
    with house.database.read() as tx:
        assert isinstance(tx.jobs.payload("default", job["id"]), bytes)


def test_a_repeated_submit_is_one_run(house):
    headers = {"Idempotency-Key": "k"}
    first = house.http.post("/v1/jobs", json=BULK, headers=headers).json()
    again = house.http.post("/v1/jobs", json=BULK, headers=headers)
    assert again.json()["id"] == first["id"] and again.headers["idempotency-replayed"] == "true"


def test_progress_is_told_as_it_comes(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}"
    hand = BulkHand(house, job["id"]).start(shards=4)
    planned = get(house, path)["progress"]
    assert (planned["state"], planned["rows_total"]) == ("running", 40)
    assert planned["shards"] == {"total": 4, "done": 0, "running": 0}
    hand.part(errors=[ERROR])
    hand.tell(rows_per_s=3.0)
    seen = get(house, path)["progress"]
    assert (seen["rows_done"], seen["rows_failed"], seen["share"]) == (9, 1, 0.25)
    assert (seen["rows_per_s"], seen["device_s"]) == (3.0, 0.25)
    assert seen["shards"] == {"total": 4, "done": 1, "running": 0}
    assert seen["estimated_end_at"] is not None
    for _ in range(3):
        hand.part()
    hand.tell()
    assert get(house, path)["progress"]["state"] == "finishing"
    hand.finish({"rows": 39})
    ended = get(house, path)
    assert (ended["state"], ended["progress"]["state"]) == ("succeeded", "ended")
    assert ended["progress"]["rows_done"] == 39 and ended["progress"]["share"] == 1
    assert get(house, f"{path}/result") == {"rows": 39}


def test_what_ended_early_is_counted_whatever_was_noted_last(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start(shards=2)
    hand.tell()
    hand.part(errors=[ERROR])
    hand.fail("too_many_errors", "too many")
    seen = get(house, f"/v1/jobs/{job['id']}")
    assert (seen["state"], seen["error"]["code"]) == ("failed", "too_many_errors")
    assert (seen["progress"]["rows_done"], seen["progress"]["rows_failed"]) == (9, 1)


def test_events_carry_the_progress(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start(shards=2)
    found, listening = [], threading.Event()

    def listen():
        with house.client() as http, http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: "))["progress"])
                    listening.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(30)
    hand.part()
    hand.tell()
    wait_until(lambda: found[-1]["rows_done"] == 10, what="the event of a part")
    hand.part()
    hand.finish()
    thread.join(30)
    assert not thread.is_alive()
    assert found[-1]["state"] == "ended" and found[-1]["rows_done"] == 20


def test_pause_and_resume_take_hold_and_are_seen(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}"
    hand = BulkHand(house, job["id"]).start(shards=2)
    before = get(house, path)
    paused = house.http.post(f"{path}/pause")
    assert paused.status_code == 200 and paused.json()["progress"]["state"] == "paused"
    with house.database.begin() as tx:
        assert tx.bulk.claim(hand.session, "default") is None
    assert house.http.post(f"{path}/pause").json()["progress"]["state"] == "paused"
    resumed = house.http.post(f"{path}/resume").json()
    assert resumed["progress"] == before["progress"]
    hand.part()
    hand.part()
    hand.finish()
    for verb in ("pause", "resume"):
        assert problem(house.http.post(f"{path}/{verb}"))[:2] == (409, "not_pausable")


def test_only_bulk_jobs_are_paused_and_have_parts(house):
    job = house.submit()
    path = f"/v1/jobs/{job['id']}"
    assert problem(house.http.post(f"{path}/pause"))[:2] == (409, "not_pausable")
    for below in ("manifest", "parts", "errors", "parts/a", "parts/a/errors"):
        assert problem(house.http.get(f"{path}/{below}"))[:2] == (409, "not_bulk")


@pytest.mark.parametrize("where", ["own", "listed"])
def test_parts_are_read_while_it_runs_and_after(house, out, where):
    given = {"output": {"uri": f"file://{out}/run1", "format": "csv"}} if where == "listed" else {}
    job = submit(house, **given)
    path = f"/v1/jobs/{job['id']}"
    assert get(house, f"{path}/parts") == {"data": []}
    assert house.http.get(f"{path}/errors").content == b""
    assert get(house, f"{path}/manifest")["parts"] == []
    hand = BulkHand(house, job["id"])
    if where == "listed":
        hand.objects, hand.base = open_objects(f"file://{out}"), "run1"
        hand.extra = {"output": f"file://{out}/"}
    hand.start(shards=3)
    large = b"a row\n" * 500_000
    first = hand.part(large, errors=[ERROR])
    second = hand.part(b"")  # every row of it was left out by the where, say
    third = hand.part(b"", errors=[ERROR | {"row_id": "0:25"}])
    parts = get(house, f"{path}/parts")["data"]
    assert [part["name"] for part in parts] == [first, None, None]
    assert (parts[0]["rows"], parts[0]["failed"], parts[0]["file"]) == (9, 1, "s3://in/rows.csv")
    assert [(part["start"], part["stop"]) for part in parts] == [(0, 10), (10, 20), (20, 30)]
    assert parts[0]["sha256"] == hashlib.sha256(large).hexdigest()
    answer = house.http.get(parts[0]["href"])
    assert answer.content == large and answer.headers["content-length"] == str(len(large))
    assert answer.headers["x-content-type-options"] == "nosniff"
    lines = [json.loads(line) for line in house.http.get(f"{path}/errors").text.splitlines()]
    assert [line["row_id"] for line in lines] == ["0:3", "0:25"]
    assert json.loads(house.http.get(parts[0]["errors_href"]).text) == ERROR
    assert json.loads(house.http.get(parts[2]["errors_href"]).text)["row_id"] == "0:25"
    assert parts[1]["errors_href"] is None and second.endswith("errors.jsonl") and third
    so_far = get(house, f"{path}/manifest")
    assert (so_far["complete"], so_far["parts"]) == (False, parts)
    assert so_far["progress"]["state"] == "running"
    written = {"job": job["id"], "complete": True, "rows": 9}
    hand.finish(manifest=written)
    assert get(house, f"{path}/manifest") == written
    if where == "listed":  # another job has the place by now
        assert hand.objects is not None
        hand.objects.delete(["run1/manifest.json"])
        hand.put("manifest.json", b'{"job": "another", "complete": true}')
        assert get(house, f"{path}/manifest")["complete"] is False
    assert house.http.get(parts[0]["href"]).content == large


def test_a_job_without_a_manifest_of_its_own_tells_what_is_known(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start(shards=2)
    name = hand.part()
    hand.fail()
    so_far = get(house, f"/v1/jobs/{job['id']}/manifest")
    assert (so_far["complete"], so_far["state"]) == (False, "failed")
    assert [part["name"] for part in so_far["parts"]] == [name]


@pytest.mark.parametrize("where", ["own", "listed"])
def test_the_manifest_of_a_job_that_failed_says_why(house, out, where):
    given = {"output": {"uri": f"file://{out}/run1"}} if where == "listed" else {}
    job = submit(house, **given)
    hand = BulkHand(house, job["id"])
    if where == "listed":
        hand.objects, hand.base = open_objects(f"file://{out}"), "run1"
        hand.extra = {"output": f"file://{out}/"}
    hand.start(shards=2)
    hand.part()
    name = "_manifest.partial"
    name = f"{name}.json" if where == "listed" else f"{name}-{hand.claim.epoch}.json"
    written = {"job": job["id"], "complete": False, "error": {"code": "bad_file", "message": "a"}}
    hand.put(name, json.dumps(written).encode())
    hand.fail()
    assert get(house, f"/v1/jobs/{job['id']}/manifest") == written


def test_names_of_parts_are_looked_up_and_never_a_path(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start(shards=2)
    name = hand.part()
    hand.put("part-00001-001-10.csv", b"nobody committed it")
    hand.put("manifest.json", b"{}")
    for wrong in ("part-00001-001-10.csv", "manifest.json", "%2e%2e", "..%2fmanifest.json", "x"):
        answer = house.http.get(f"/v1/jobs/{job['id']}/parts/{wrong}")
        assert answer.status_code == 404, wrong
    for missing in (f"{name}/errors", "x/errors"):
        answer = house.http.get(f"/v1/jobs/{job['id']}/parts/{missing}")
        assert problem(answer)[:2] == (404, "part_not_found")


def test_an_erased_part_is_gone(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start()
    name = hand.part()
    house.objects.delete([f"{hand.base}/{name}"])
    answer = house.http.get(f"/v1/jobs/{job['id']}/parts/{name}")
    assert problem(answer)[:2] == (410, "part_gone")


def test_a_prefix_that_is_not_listed_any_more_is_not_read(house, out):
    job = submit(house)
    hand = BulkHand(house, job["id"], open_objects(f"file://{out}"), "run1")
    hand.extra = {"output": "file:///elsewhere/"}
    name = hand.start().part()
    answer = house.http.get(f"/v1/jobs/{job['id']}/parts/{name}")
    assert problem(answer)[:2] == (422, "output_not_allowed")


def test_tenants_never_see_each_others_runs(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start()
    name = hand.part(errors=[ERROR])
    with house.client(house.key_for("other")) as other:
        for below in ("", "/manifest", "/parts", f"/parts/{name}", f"/parts/{name}/errors"):
            answer = other.get(f"/v1/jobs/{job['id']}{below}")
            assert problem(answer)[:2] == (404, "job_not_found")
        for verb in ("pause", "resume", "retry"):
            assert other.post(f"/v1/jobs/{job['id']}/{verb}").status_code == 404
    with house.database.read() as tx:
        assert tx.bulk.run(job["id"]).paused_at is None


def spec_in(house, job):
    with house.database.read() as tx:
        return spec_of(tx.jobs.payload("default", job["id"]))


def retry(house, job, body=None, status=202, **headers):
    path = f"/v1/jobs/{job['id']}/retry"
    answer = house.http.post(path, **({} if body is None else {"json": body}), headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_what_ended_early_goes_on_as_one_other_job(house):
    job = submit(house, output={"uri": "s3://both/out"}, priority=1, max_attempts=4)
    hand = BulkHand(house, job["id"]).start(shards=2)
    assert retry(house, job, status=409)["code"] == "not_retryable"
    hand.part()
    hand.fail("model_error", "no")
    again = retry(house, job, {})
    assert (again["retry_of"], again["priority"]) == (job["id"], 1)
    assert again["progress"]["state"] == "waiting"
    spec, before = spec_in(house, again), spec_in(house, job)
    assert (spec.resume_of, spec.failed_rows_of) == (job["id"], None)
    assert (spec.output, spec.input, spec.max_attempts) == (before.output, before.input, 4)
    with house.database.read() as tx:
        assert tx.jobs.get("default", again["id"]).max_attempts == 1
    refused = retry(house, job, status=409)
    assert refused["code"] == "not_retryable" and again["id"] in refused["detail"]


def test_a_repeated_retry_with_a_key_is_one_job(house):
    job = submit(house)
    BulkHand(house, job["id"]).start().fail()
    first = retry(house, job, **{"Idempotency-Key": "k"})
    assert retry(house, job, **{"Idempotency-Key": "k"})["id"] == first["id"]


def test_what_never_began_goes_on_from_where_it_was_to(house):
    job = submit(house)
    BulkHand(house, job["id"]).start().fail()
    second = retry(house, job)
    house.http.post(f"/v1/jobs/{second['id']}/cancel")
    third = retry(house, second)
    assert third["retry_of"] == second["id"]
    assert spec_in(house, third).resume_of == job["id"]


def test_a_dry_run_is_done_again_from_the_beginning(house):
    job = submit(house, dry_run=True)
    house.http.post(f"/v1/jobs/{job['id']}/cancel")
    for _ in range(2):
        again = spec_in(house, retry(house, job))
        assert again.dry_run and again.resume_of is None
    assert retry(house, job, {"failed_rows": True}, 409)["code"] == "not_retryable"


def test_failed_rows_alone_are_done_again_into_a_place_of_their_own(house):
    job = submit(house, output={"uri": "s3://both/out", "keep": ["a"], "overwrite": True})
    hand = BulkHand(house, job["id"]).start(shards=2)
    hand.part(errors=[ERROR])
    hand.part()
    assert retry(house, job, {"failed_rows": True}, 409)["code"] == "not_retryable"
    hand.finish()
    first = retry(house, job, {"failed_rows": True})
    spec = spec_in(house, first)
    assert (spec.failed_rows_of, spec.resume_of) == (job["id"], None)
    assert spec.output.uri == f"s3://both/out/retry-{first['id'][-8:]}"
    assert (spec.output.keep, spec.output.overwrite) == (("a",), False)
    assert spec.max_error_share == 1
    other = {"failed_rows": True, "output": {"uri": "s3://both/fixed", "format": "jsonl"}}
    second = retry(house, job, other)
    output = spec_in(house, second).output
    assert (output.uri, output.format, output.keep) == ("s3://both/fixed", "jsonl", ("a",))


def test_failed_rows_of_our_own_store_stay_in_it(house):
    job = submit(house)
    hand = BulkHand(house, job["id"]).start(shards=1)
    hand.part(errors=[ERROR])
    hand.finish()
    assert spec_in(house, retry(house, job, {"failed_rows": True})).output.uri is None


WRONG_RETRIES = [
    ({"failed_rows": True, "output": {"uri": "s3://in/x"}}, 400, "output_not_allowed"),
    ({"failed_rows": True, "output": {"uri": "s3://both/a/x"}}, 400, "output_in_input"),
    ({"output": {"uri": "s3://both/x"}}, 400, "invalid_value"),
    ({"failed_row": True}, 400, "unknown_field"),
    ({"failed_rows": 1}, 400, "invalid_type"),
]


def test_wrong_retries_are_refused(house):
    job = submit(house, input={"uri": "s3://both/a/*.csv"}, output={"uri": "s3://both/out"})
    hand = BulkHand(house, job["id"]).start(shards=2)
    hand.part(errors=[ERROR])
    hand.fail()
    for body, status, code in WRONG_RETRIES:
        assert retry(house, job, body, status)["code"] == code, body
    clean = submit(house)
    hand = BulkHand(house, clean["id"]).start(shards=1)
    hand.part()
    hand.finish()
    assert retry(house, clean, {"failed_rows": True}, 409)["code"] == "not_retryable"
    plain = house.submit()
    house.work([plain["id"]])
    assert retry(house, plain, {"failed_rows": True}, 409)["code"] == "not_retryable"
