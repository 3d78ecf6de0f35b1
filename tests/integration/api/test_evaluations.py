"""Evaluations over REST: what is taken and refused, what is taken over, what is kept of them."""

from __future__ import annotations

import jsonschema_rs
import pytest

from producers.registry import push_version
from storage.records.bulk import BulkFormat, Condition, spec_of
from storage.records.evaluations import Evaluation, EvaluationSpec
from storage.records.jobs import JobKind
from tests.support.archives import archive, input_layer, layer, sequential
from tests.support.bulk_hand import BulkHand

ROWS = {"uri": "s3://in/rows.csv", "where": [["split", "=", "test"]]}
ASKED = {
    "kind": "evaluation",
    "model": "vectors",
    "input": ROWS,
    "evaluation": {"label": "digit", "slices": ["hour"]},
}
VECTOR = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
UNKNOWN = "01890000-0000-7000-8000-000000000000"
DOCUMENT = {
    "model": "vectors:1",
    "task": "classes",
    "data": {"digest": "d1", "uris": ["s3://in/rows.csv"], "files": 1, "label": "digit"},
    "rows": 20,
    "failed": 0,
    "metrics": {"accuracy": 0.75, "auc": None},
    "intervals": {"accuracy": [0.53, 0.89]},
    "slices": [],
    "against": {"job": UNKNOWN, "model": "vectors:1", "rows": 20, "disagreed": 2, "examples": []},
}


@pytest.fixture
def house(quiet_house):
    quiet_house.push()
    quiet_house.start(ref_prefixes=("s3://in",), output_prefixes=("s3://out",))
    yield quiet_house
    quiet_house.stop()


def body_of(changes):
    """What is asked with something changed; None takes a field away."""
    return {name: value for name, value in (ASKED | changes).items() if value is not None}


def submit(house, http=None, status=202, **changes):
    answer = (http or house.http).post("/v1/jobs", json=body_of(changes))
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(house, http=None, **changes):
    answer = (http or house.http).post("/v1/jobs", json=body_of(changes))
    document = answer.json()
    return answer.status_code, document["code"], document.get("field")


def get(house, path, status=200):
    answer = house.http.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def spec_in(house, job_id):
    with house.database.read() as tx:
        return spec_of(tx.jobs.payload("default", job_id))


def push_with_input(house, name, called):
    file = house.folder / f"{name}.keras"
    config = sequential(input_layer(called, (None, 4)), layer("Dense", name="d", units=2))
    file.write_bytes(archive(config).getvalue())
    push_version(house.database, house.objects, "default", name, file, None)


def finished(house, **body):
    """A job over rows that has succeeded."""
    job = house.http.post("/v1/jobs", json=body_of(body)).json()
    hand = BulkHand(house, job["id"]).start()
    hand.part(), hand.part()
    hand.finish(DOCUMENT)
    return job["id"]


def kept(house, job_id, **fields):
    """What a worker's commit writes beside the result."""
    with house.database.begin() as tx:
        job = tx.jobs.get("default", job_id)
        tx.evaluations.record(
            Evaluation(
                job_id=job_id,
                tenant="default",
                version_id=job.version_id,
                model_name=job.model_name,
                version=job.version,
                data_digest="d1",
                rows=20,
                metrics=DOCUMENT["metrics"],
                document=DOCUMENT,
                created_at=0,
                **fields,
            )
        )


def test_a_202_is_a_job_with_a_run_and_all_that_was_asked(house):
    job = submit(house, custom_id="mine", max_attempts=5, on_error={"max_share": 0.5})
    assert (job["kind"], job["state"], job["priority"]) == ("evaluation", "queued", 2)
    assert job["progress"]["state"] == "waiting" and get(house, f"/v1/jobs/{job['id']}") == job
    for name in ("manifest", "parts", "errors", "pause", "resume"):
        assert job["links"][name] == f"/v1/jobs/{job['id']}/{name}"
    spec = spec_in(house, job["id"])
    with house.database.read() as tx:
        row = tx.jobs.get("default", job["id"])
        assert tx.bulk.run(job["id"], tenant="default") is not None
    assert (row.kind, row.max_attempts, spec.max_attempts) == (JobKind.EVALUATION, 1, 5)
    assert spec.evaluation == EvaluationSpec("digit", ("hour",))
    assert spec.input.where == (Condition("split", "=", "test"),) and spec.max_error_share == 0.5
    (listed,) = get(house, "/v1/jobs?kind=evaluation")["data"]
    assert listed["id"] == job["id"] and get(house, "/v1/jobs?kind=bulk")["data"] == []


def test_the_same_key_is_the_same_evaluation(house):
    answers = [
        house.http.post("/v1/jobs", json=ASKED, headers={"Idempotency-Key": "once"})
        for _ in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(get(house, "/v1/jobs")["data"]) == 1


REFUSED = [
    ({"model": "nobody"}, 404, "model_not_found", "model"),
    ({"input": {"uri": "file:///etc/passwd"}}, 400, "ref_not_allowed", "input.uri"),
    (
        {"input": {"uri": f"forebay://files/{UNKNOWN}"}},
        422,
        "file_not_found",
        "input.uri",
    ),
    ({"input": ROWS | {"columns": {"z": "a"}}}, 400, "unknown_input", "input.columns.z"),
    ({"input": ROWS | {"format": "csv"}, "evaluation": {}}, 422, "no_labels", "evaluation.label"),
    ({"evaluation": {"label": "a", "slices": ["a"]}}, 400, "invalid_value", "evaluation.slices[0]"),
    ({"input": {"job": UNKNOWN}}, 404, "job_not_found", "input.job"),
    ({"input": {"group": UNKNOWN}, "evaluation": {}}, 404, "group_not_found", "input.group"),
    ({"evaluation": {"against": UNKNOWN}}, 404, "job_not_found", "evaluation.against"),
    ({"output": {"uri": "s3://out/a"}}, 400, "unknown_field", "output"),
    ({"input": {"uri": ["s3://in/" + "a" * 2000] * 20}}, 413, "input_too_long", "input"),
    ({"webhook": "https://10.0.0.1/"}, 400, "bad_webhook_url", "webhook"),
]


def test_what_is_wrong_is_refused_with_its_field_and_nothing_is_stored(house):
    for change, *expected in REFUSED:
        assert refused(house, **change) == tuple(expected), change
    answer = house.http.post("/v1/jobs/many", json={"jobs": [ASKED]}).json()
    assert (answer["code"], answer["field"]) == ("invalid_value", "jobs[0].kind")
    assert get(house, "/v1/jobs")["data"] == []


def test_the_input_of_a_finished_job_is_taken_over_and_compared_with(house):
    columns = {"x": ["a", "b", "c", "d"]}
    rows = ROWS | {"format": "csv", "columns": columns}
    bulk = finished(house, kind="bulk", input=rows, evaluation=None)
    spec = spec_in(house, submit(house, input={"job": bulk}, evaluation=None)["id"])
    assert spec.input.uris == ("s3://in/rows.csv",) and spec.input.format is BulkFormat.CSV
    assert spec.input.columns == {"x": ("a", "b", "c", "d")} and spec.input.where
    assert spec.evaluation == EvaluationSpec(against=bulk)
    first = finished(house, input=rows)
    spec = spec_in(house, submit(house, input={"job": first}, evaluation={"examples": 3})["id"])
    assert spec.evaluation == EvaluationSpec("digit", ("hour",), first, examples=3)
    own = {"label": "other", "slices": ["place"], "against": bulk}
    spec = spec_in(house, submit(house, input={"job": first}, evaluation=own)["id"])
    assert spec.evaluation == EvaluationSpec("other", ("place",), bulk)


def test_an_uploaded_file_is_taken_over_too(house):
    file = house.http.post("/v1/files", files={"file": ("rows.csv", b"digit\n1\n")}).json()
    first = finished(house, input={"uri": file["uri"]})
    spec = spec_in(house, submit(house, input={"job": first}, evaluation=None)["id"])
    assert spec.input.uris == (file["uri"],)


def test_what_is_taken_over_is_wrong_at_the_job_that_it_came_from(house):
    columns = {"x": ["a", "b", "c", "d"]}
    first = finished(house, input=ROWS | {"columns": columns})
    push_with_input(house, "others", "z")
    assert refused(house, model="others", input={"job": first}, evaluation=None) == (
        400,
        "unknown_input",
        "input.job",
    )


def test_only_what_has_answered_all_can_be_compared_with(house):
    waiting = submit(house)["id"]
    inference = house.http.post("/v1/jobs", json=VECTOR).json()["id"]
    failed = submit(house)["id"]
    BulkHand(house, failed).start().fail()
    dry = finished(house, kind="bulk", evaluation=None, dry_run=True)
    for job_id in (waiting, inference, failed, dry):
        for change in ({"input": {"job": job_id}}, {"evaluation": {"against": job_id}}):
            status, code, _ = refused(house, **change)
            assert (status, code) == (409, "not_comparable"), (job_id, change)


def test_a_retry_of_failed_rows_is_no_basis(house):
    first = submit(house, kind="bulk", evaluation=None)["id"]
    hand = BulkHand(house, first).start()
    hand.part(errors=[{"row_id": "0:3", "code": "bad", "message": "no"}]), hand.part()
    hand.finish()
    again = house.http.post(f"/v1/jobs/{first}/retry", json={"failed_rows": True}).json()["id"]
    hand = BulkHand(house, again).start()
    hand.part(), hand.part()
    hand.finish()
    answer = house.http.post("/v1/jobs", json=ASKED | {"input": {"job": again}})
    assert answer.json()["code"] == "not_comparable" and first in answer.json()["detail"]


def test_a_group_is_replayed_when_it_is_over(house):
    group = house.http.post("/v1/jobs/many", json={"jobs": [VECTOR] * 2}).json()["group"]
    of_group = {"input": {"group": group}, "evaluation": {}}
    assert refused(house, **of_group) == (409, "group_not_over", "input.group")
    house.http.post(f"/v1/groups/{group}/cancel")
    spec = spec_in(house, submit(house, **of_group)["id"])
    assert spec.input.uris == () and spec.evaluation == EvaluationSpec(
        against=group, of_group=group
    )


def test_another_tenants_jobs_and_groups_are_not_there(house):
    first = finished(house)
    group = house.http.post("/v1/jobs/many", json={"jobs": [VECTOR]}).json()["group"]
    house.http.post(f"/v1/groups/{group}/cancel")
    kept(house, first)
    with house.client(house.key_for("other")) as other:
        house.push(tenant="other")
        for change, code in (
            ({"input": {"job": first}}, "job_not_found"),
            ({"evaluation": {"against": first}}, "job_not_found"),
            ({"input": {"group": group}, "evaluation": {}}, "group_not_found"),
        ):
            assert refused(house, other, **change)[:2] == (404, code)
        here = other.get("/v1/models/vectors/versions/1/evaluations").json()
        assert here["data"] == []
        by_job = other.get("/v1/models/vectors/versions/1/evaluations", params={"job": first})
        assert by_job.json()["data"] == []


def test_it_is_paused_read_and_done_again_as_a_bulk_job_is(house):
    job_id = submit(house)["id"]
    paused = house.http.post(f"/v1/jobs/{job_id}/pause").json()
    assert paused["progress"]["state"] == "paused"
    assert house.http.post(f"/v1/jobs/{job_id}/resume").json()["progress"]["state"] == "waiting"
    hand = BulkHand(house, job_id).start()
    name = hand.part(b"scored")
    assert [part["name"] for part in get(house, f"/v1/jobs/{job_id}/parts")["data"]] == [name]
    assert house.http.get(f"/v1/jobs/{job_id}/parts/{name}").content == b"scored"
    assert house.http.get(f"/v1/jobs/{job_id}/errors").content == b""
    assert get(house, f"/v1/jobs/{job_id}/manifest")["complete"] is False
    hand.fail("storage_lost", "half of it")
    wrong = house.http.post(f"/v1/jobs/{job_id}/retry", json={"failed_rows": True})
    assert wrong.json()["code"] == "not_retryable"
    again = house.http.post(f"/v1/jobs/{job_id}/retry").json()
    assert (again["kind"], again["retry_of"]) == ("evaluation", job_id)
    spec = spec_in(house, again["id"])
    assert spec.resume_of == job_id and spec.evaluation == EvaluationSpec("digit", ("hour",))
    twice = house.http.post(f"/v1/jobs/{job_id}/retry")
    assert twice.json()["code"] == "not_retryable" and again["id"] in twice.json()["detail"]


def test_what_was_measured_stays_with_the_version(house):
    ids = [finished(house) for _ in range(3)]
    for job_id in ids:
        kept(house, job_id)
    assert get(house, f"/v1/jobs/{ids[0]}/result") == DOCUMENT
    here = "/v1/models/vectors/versions/1/evaluations"
    page = get(house, f"{here}?limit=2")
    assert len(page["data"]) == 2 and page["has_more"] and page["next"] is None
    everything = get(house, here)
    assert {one["job"] for one in everything["data"]} == set(ids) and not everything["has_more"]
    (one,) = get(house, f"{here}?job={ids[1]}&full=true")["data"]
    assert one["job"] == ids[1] and one["document"] == DOCUMENT
    assert (one["model"], one["data_digest"], one["rows"]) == ("vectors:1", "d1", 20)
    assert one["metrics"] == {"accuracy": 0.75, "auc": None}
    assert one["against"]["disagreed"] == 2 and "examples" not in one["against"]
    assert everything["data"][0]["document"] is None
    assert get(house, f"{here}?job={UNKNOWN}")["data"] == []
    house.push(labels=["a", "b"])
    other = "/v1/models/vectors/versions/2/evaluations"
    assert get(house, other)["data"] == get(house, f"{other}?job={ids[1]}")["data"] == []
    for path, status in (
        ("/v1/models/vectors/versions/9/evaluations", 404),
        ("/v1/models/nobody/versions/1/evaluations", 404),
        (f"{here}?limit=0", 400),
        (f"{here}?full=yes", 400),
    ):
        get(house, path, status)


def test_the_answers_fit_their_schemas(house):
    job_id = finished(house)
    kept(house, job_id)
    api = get(house, "/openapi.json")
    listed = get(house, f"/v1/models/vectors/versions/1/evaluations?job={job_id}&full=true")
    for name, document in (("VersionEvaluation", listed["data"][0]), ("Evaluation", DOCUMENT)):
        root = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
        jsonschema_rs.validator_for(root).validate(document)
