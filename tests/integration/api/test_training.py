"""Trainings over REST: what is taken and refused, how far they are said to be, what they give."""

from __future__ import annotations

import json
import threading

import pytest

from storage.records.jobs import JobKind
from storage.records.models import VersionState
from storage.records.training import spec_of
from storage.records.training_runs import TrainingControl
from tests.support.training_hand import STEPS, TrainingHand
from tests.support.waiting import wait_until

SPEC = {
    "data": {"uri": "s3://in/a.csv", "label": "y"},
    "network": {"recipe": "dense"},
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
    "epochs": 3,
}
TRAINING = {"kind": "training", "model": "digits", "spec": SPEC}


@pytest.fixture
def house(quiet_house):
    """The service with one prefix to read from, and a model ``vectors``."""
    quiet_house.push()
    quiet_house.start(ref_prefixes=("s3://in",))
    yield quiet_house
    quiet_house.stop()


def submit(house, http=None, headers=None, **changes):
    answer = (http or house.http).post("/v1/jobs", json=TRAINING | changes, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def get(house, path, status=200):
    answer = house.http.get(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def problem(answer):
    document = answer.json()
    return answer.status_code, document["code"], document.get("field")


def test_a_202_is_a_job_a_run_and_a_version_in_training(house):
    job = submit(house, max_attempts=5)
    assert (job["kind"], job["state"], job["priority"]) == ("training", "queued", 5)
    assert job["model"] == "digits:1"
    seen = job["training"]
    assert (seen["state"], seen["step"], seen["checkpoint"]) == ("waiting", 0, None)
    assert get(house, f"/v1/jobs/{job['id']}") == job
    with house.database.read() as tx:
        row = tx.jobs.get("default", job["id"])
        spec = spec_of(tx.jobs.payload("default", job["id"]))
        run = tx.training.run(job["id"], tenant="default")
        version = tx.models.by_id(row.version_id)
        assert tx.training.run(job["id"], tenant="other") is None
    assert (row.kind, row.max_attempts, spec.max_deaths) == (JobKind.TRAINING, 1, 5)
    assert (row.pool, row.version, row.priority) == ("train.default", 1, 5)
    assert row.expires_at - row.created_at == row.run_timeout_ms == 7 * 86_400_000
    assert run.version_id == version.id and version.state is VersionState.TRAINING
    for name in ("curves", "curves.png", "log", "pause", "resume", "cancel", "retry"):
        assert job["links"][name] == f"/v1/jobs/{job['id']}/{name}"
    shown = get(house, "/v1/models/digits/versions/1")
    assert (shown["state"], shown["origin"]) == ("training", None)


def test_each_training_makes_the_next_version(house):
    assert [submit(house)["model"] for _ in range(3)] == ["digits:1", "digits:2", "digits:3"]
    assert submit(house, model="vectors")["model"] == "vectors:2"


def test_those_that_arrive_together_have_a_version_each(house):
    jobs, barrier = [], threading.Barrier(8)

    def go(number):
        names = ("digits", "letters") if number % 2 else ("letters", "digits")
        with house.client() as http:
            barrier.wait(30)
            for name in names:
                jobs.append(submit(house, http, model=name))

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = {f"{name}:{n}" for name in ("digits", "letters") for n in range(1, 9)}
    assert {job["model"] for job in jobs} == expected and len(jobs) == 16
    for job in jobs:
        with house.database.read() as tx:
            row = tx.jobs.get("default", job["id"])
            version = tx.models.by_id(row.version_id)
        assert f"{version.name}:{version.version}" == job["model"]


def test_a_repeated_submit_is_one_run_and_one_version(house):
    first = submit(house, headers={"Idempotency-Key": "k"})
    again = house.http.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == first["id"] and again.headers["idempotency-replayed"] == "true"
    assert again.json()["model"] == "digits:1"
    assert len(get(house, "/v1/models/digits")["versions"]) == 1


REFUSED = [
    ({"model": "digits:3"}, 400, "invalid_value", "model"),
    ({"input": {"text": "a"}}, 400, "unknown_field", "input"),
    ({"spec": SPEC | {"epoch": 1}}, 400, "unknown_field", "spec.epoch"),
    ({"spec": SPEC | {"loss": "crossentropy"}}, 400, "unknown_loss", "spec.loss"),
    (
        {"spec": SPEC | {"data": {"uri": "file:///etc/passwd", "label": "y"}}},
        400,
        "ref_not_allowed",
        "spec.data.uri",
    ),
    (
        {"spec": SPEC | {"data": {"uri": ["s3://in/a", "s3://o/*"], "format": "images"}}},
        400,
        "ref_not_allowed",
        "spec.data.uri[1]",
    ),
    (
        {"spec": SPEC | {"data": {"uri": "s3://in/a", "labels_uri": "s3://o/b"}}},
        400,
        "ref_not_allowed",
        "spec.data.labels_uri",
    ),
    (
        {
            "spec": SPEC
            | {
                "data": {
                    "uri": "forebay://files/0190aaaa-0000-7000-8000-000000000000",
                    "label": "y",
                }
            }
        },
        422,
        "file_not_found",
        "spec.data.uri",
    ),
    (
        {"spec": SPEC | {"network": {"version": "nobody:1"}}},
        404,
        "model_not_found",
        "spec.network.version",
    ),
    (
        {"spec": SPEC | {"network": {"keras": {"class_name": "Odd", "config": {}}}}},
        400,
        "refused_layer",
        "spec.network.keras",
    ),
    ({"webhook": "https://10.0.0.1/"}, 400, "bad_webhook_url", "webhook"),
]


def test_what_is_wrong_is_refused_with_its_field_and_nothing_is_stored(house):
    for change, *expected in REFUSED:
        answer = house.http.post("/v1/jobs", json=TRAINING | change)
        assert problem(answer) == tuple(expected), (change, answer.text)
    answer = house.http.post("/v1/jobs/many", json={"jobs": [TRAINING]})
    assert problem(answer) == (400, "invalid_value", "jobs[0].kind")
    assert get(house, "/v1/jobs")["data"] == []
    assert get(house, "/v1/models/digits", 404)["code"] == "model_not_found"


def test_an_uploaded_file_is_data_of_its_own_tenant_alone(house):
    file = house.http.post("/v1/files", files={"file": ("rows.csv", b"a,y\n1,2\n")}).json()
    spec = SPEC | {"data": {"uri": file["uri"], "label": "y"}}
    submit(house, spec=spec)
    with house.client(house.key_for("other")) as other:
        answer = other.post("/v1/jobs", json=TRAINING | {"spec": spec})
        assert problem(answer) == (422, "file_not_found", "spec.data.uri")


def test_the_version_to_go_on_from_is_resolved_at_submit(house):
    house.http.put("/v1/models/vectors/aliases/prod", json={"version": 1})
    named = ("vectors", "vectors@prod", "vectors:1")
    for name in named:
        job = submit(house, model="vectors", spec=SPEC | {"network": {"version": name}})
        with house.database.read() as tx:
            network = spec_of(tx.jobs.payload("default", job["id"])).network
            assert tx.models.by_id(network.version_id).version == 1
        assert network.version == "vectors:1"
    # Those three are in training themselves: a bare name does not mean them, nor may anybody.
    answer = house.http.post(
        "/v1/jobs", json=TRAINING | {"spec": SPEC | {"network": {"version": "vectors:2"}}}
    )
    assert problem(answer) == (409, "version_in_training", "spec.network.version")
    answer = house.http.post(
        "/v1/jobs", json={"model": "vectors:2", "input": {"tensor": [1, 2, 3, 4]}}
    )
    assert problem(answer) == (409, "version_in_training", "model")


def test_a_list_shows_the_short_form(house):
    job = submit(house)
    (listed,) = get(house, "/v1/jobs?kind=training")["data"]
    assert listed["id"] == job["id"] and listed["training"] is None


def test_how_far_it_is_is_told_as_it_comes(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}"
    hand = TrainingHand(house, job["id"]).start(epochs=3)
    assert get(house, path)["training"]["state"] == "training"
    hand.epoch(checkpoint=True)
    seen = get(house, path)["training"]
    assert (seen["epoch"], seen["epochs"], seen["step"], seen["steps"]) == (1, 3, 4, 12)
    assert (seen["rows_per_s"], seen["share"]) == (200.0, 0.333333)
    assert seen["latest"]["val_accuracy"] == 0.5 and seen["estimated_end_at"] is not None
    assert (seen["checkpoint"]["epoch"], seen["checkpoint"]["step"]) == (1, 4)
    hand.epoch()
    hand.epoch()
    result = hand.finish()
    ended = get(house, path)
    assert (ended["state"], ended["training"]["state"]) == ("succeeded", "ended")
    assert ended["training"]["phase"] == "done" and ended["training"]["share"] == 1
    told = get(house, f"{path}/result")
    assert told == result and told["version"] == "digits:1"
    assert told["evaluation"]["confusion"] == [[3, 1], [0, 4]]
    assert get(house, "/v1/models/digits/versions/1")["state"] == "pending"


def test_the_version_shows_what_it_was_made_from(house):
    job = submit(house)
    hand = TrainingHand(house, job["id"]).start()
    hand.finish()
    shown = get(house, "/v1/models/digits/versions/1")
    assert shown["origin"]["spec"] == {"epochs": 3} and shown["origin"]["job_id"] == job["id"]
    assert shown["origin"]["evaluation"]["confusion"]
    (brief,) = get(house, "/v1/models/digits")["versions"]
    origin = brief["origin"]
    assert (origin["job_id"], origin["parents"]) == (job["id"], ["digits:0"])
    assert origin["evaluation"]["metrics"] == {"loss": 0.1, "accuracy": 0.875}
    assert "spec" not in origin and "confusion" not in origin["evaluation"]


def test_events_carry_how_far_it_is(house):
    job = submit(house)
    hand = TrainingHand(house, job["id"]).start(epochs=2)
    found, listening = [], threading.Event()

    def listen():
        with house.client() as http, http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: "))["training"])
                    listening.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(30)
    hand.epoch()
    wait_until(lambda: found[-1]["epoch"] == 1, what="the event of an epoch")
    hand.epoch()
    hand.finish()
    thread.join(30)
    assert not thread.is_alive()
    assert found[-1]["state"] == "ended" and found[-1]["epoch"] == 2


def test_curves_are_read_while_it_runs_and_after(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}/curves"
    empty = get(house, path)
    assert (empty["steps"], empty["epochs"], empty["state"]) == ({}, [], "waiting")
    hand = TrainingHand(house, job["id"]).start(epochs=2)
    hand.epoch()
    curves = get(house, path)
    assert curves["steps"]["step"] == [1, 2, 3, 4]
    assert curves["steps"]["accuracy"] == [None, None, None, 0.5]
    (epoch,) = curves["epochs"]
    assert (epoch["epoch"], epoch["val_accuracy"], epoch["seconds"]) == (1, 0.5, 0.5)
    hand.epoch()
    later = get(house, f"{path}?after_step={STEPS}")
    assert later["steps"]["step"] == [5, 6, 7, 8] and len(later["epochs"]) == 1
    hand.finish()
    whole = get(house, path)
    assert len(whole["steps"]["loss"]) == 8 and whole["state"] == "ended"
    thin = get(house, f"{path}?points=3")
    assert (thin["every"], thin["steps"]["step"]) == (3, [3, 6])


def test_curves_are_sent_once(house):
    job = submit(house)
    hand = TrainingHand(house, job["id"]).start()
    for path in (f"/v1/jobs/{job['id']}/curves", f"/v1/jobs/{job['id']}/curves.png"):
        hand.epoch()
        tag = house.http.get(path).headers["etag"]
        same = house.http.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        hand.epoch()
        new = house.http.get(path, headers={"If-None-Match": tag})
        assert new.status_code == 200 and new.headers["etag"] != tag


def test_the_picture_is_a_png_of_the_size_asked_for(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}/curves.png"
    for play in (lambda: None, lambda: TrainingHand(house, job["id"]).start().epoch()):
        play()
        answer = house.http.get(f"{path}?width=640&height=400")
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
        size = (answer.content[16:20], answer.content[20:24])
        assert [int.from_bytes(part, "big") for part in size] == [640, 400]
    assert problem(house.http.get(f"{path}?width=9999"))[:2] == (400, "out_of_range")


def test_the_log_is_read_in_pages(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}/log"
    assert get(house, path) == {"data": [], "has_more": False, "next": 0}
    hand = TrainingHand(house, job["id"]).start()
    hand.epoch()
    hand.epoch()
    page = get(house, f"{path}?limit=2")
    assert [line["number"] for line in page["data"]] == [1, 2] and page["has_more"]
    assert page["data"][0]["text"] == "reading s3://in/a.csv"
    rest = get(house, f"{path}?after={page['next']}")
    assert [line["text"] for line in rest["data"]] == ["epoch 2: loss 0.125"]
    assert not rest["has_more"] and get(house, f"{path}?after={rest['next']}")["next"] == 3


def test_pause_and_resume_take_hold_and_are_seen(house):
    job = submit(house)
    path = f"/v1/jobs/{job['id']}"
    hand = TrainingHand(house, job["id"]).start()
    paused = house.http.post(f"{path}/pause").json()["training"]
    assert (paused["state"], paused["paused"]) == ("paused", True)
    assert hand.epoch() is TrainingControl.PAUSE
    assert house.http.post(f"{path}/pause").json()["training"]["state"] == "paused"
    assert house.http.post(f"{path}/resume").json()["training"]["state"] == "training"
    assert hand.epoch() is TrainingControl.GO
    hand.finish()
    for verb in ("pause", "resume"):
        assert problem(house.http.post(f"{path}/{verb}"))[:2] == (409, "not_pausable")


def test_cancel_is_told_to_who_trains(house):
    job = submit(house)
    hand = TrainingHand(house, job["id"]).start()
    house.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert hand.epoch() is TrainingControl.STOP


def test_only_trainings_have_curves_and_a_log(house):
    job = house.submit()
    for below in ("curves", "curves.png", "log"):
        answer = house.http.get(f"/v1/jobs/{job['id']}/{below}")
        assert problem(answer)[:2] == (409, "not_training")
    training = submit(house)
    for below in ("manifest", "parts", "errors"):
        answer = house.http.get(f"/v1/jobs/{training['id']}/{below}")
        assert problem(answer)[:2] == (409, "not_bulk")
    with house.client(house.key_for("other")) as other:
        for below in ("curves", "curves.png", "log"):
            answer = other.get(f"/v1/jobs/{training['id']}/{below}")
            assert problem(answer)[:2] == (404, "job_not_found")


def test_a_retry_is_a_new_job_with_a_version_of_its_own(house):
    job = submit(house, max_attempts=7)
    path = f"/v1/jobs/{job['id']}"
    assert problem(house.http.post(f"{path}/retry"))[:2] == (409, "not_retryable")
    TrainingHand(house, job["id"]).start().fail()
    failed = get(house, path)
    assert failed["error"]["code"] == "loss_not_a_number"
    answer = house.http.post(f"{path}/retry", json={"failed_rows": True})
    assert problem(answer)[:2] == (409, "not_retryable")
    headers = {"Idempotency-Key": "again"}
    again = house.http.post(f"{path}/retry", headers=headers).json()
    assert (again["retry_of"], again["model"]) == (job["id"], "digits:2")
    assert house.http.post(f"{path}/retry", headers=headers).json()["id"] == again["id"]
    with house.database.read() as tx:
        before, after = (tx.jobs.payload("default", one["id"]) for one in (job, again))
        run = tx.training.run(again["id"], tenant="default")
    assert before == after and run.checkpoint is None
    TrainingHand(house, again["id"]).start().finish()
    assert get(house, "/v1/models/digits/versions/2")["state"] == "pending"
    assert problem(house.http.post(f"/v1/jobs/{again['id']}/retry"))[:2] == (409, "not_retryable")


def test_a_version_in_training_can_be_waited_for(house):
    job = submit(house)
    hand = TrainingHand(house, job["id"]).start()
    path = "/v1/models/digits/versions/1"
    assert get(house, f"{path}?wait=0.2")["state"] == "training"
    found = []
    thread = threading.Thread(target=lambda: found.append(get(house, f"{path}?wait=20")))
    thread.start()
    hand.finish()
    with house.database.begin() as tx:
        version = tx.models.pending(10)[-1]
        assert version.name == "digits" and tx.models.mark_ready(version.id, {})
    house.service.watcher.tell([version.id])
    thread.join(30)
    assert found[0]["state"] == "ready"


def test_a_version_that_a_training_is_to_begin_with_is_not_deleted(house):
    vectors = "/v1/models/vectors/versions/1"
    job = submit(house, spec=SPEC | {"network": {"version": "vectors:1"}})
    refused = house.http.delete(vectors)
    assert problem(refused) == (409, "version_in_use", "version")
    assert refused.json()["errors"] == [{"what": "trainings", "count": 1, "names": [job["id"]]}]
    house.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert house.http.delete(vectors).status_code == 200
    again = house.http.post(f"/v1/jobs/{job['id']}/retry")
    assert problem(again)[:2] == (410, "version_deleted")
    body = TRAINING | {"spec": SPEC | {"network": {"version": "vectors:1"}}}
    anew = house.http.post("/v1/jobs", json=body)
    assert problem(anew) == (410, "version_deleted", "spec.network.version")
