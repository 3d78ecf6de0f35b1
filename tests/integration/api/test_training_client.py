"""The SDK and the command over trainings, against the service; the trainer is played by hand."""

from __future__ import annotations

import io
import json
import threading

import pytest

from forebay import Forebay
from producers.cli.app import build_app, run
from producers.client import BadArgument, InvalidRequest, Job, JobFailed, Unreachable
from storage.records.jobs import JobFilter
from storage.records.training import spec_of
from tests.support.training_hand import TrainingHand
from tests.support.waiting import wait_until

SPEC = {
    "data": {"uri": "s3://in/a.csv", "label": "y"},
    "network": {"recipe": "dense"},
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
    "epochs": 3,
}
YAML = """\
model: digits
data: {uri: s3://in/a.csv, label: y}
network:
  recipe: dense
loss: sparse_categorical_crossentropy
metrics: [accuracy]
epochs: 3
"""


@pytest.fixture
def house(quiet_house):
    quiet_house.start(ref_prefixes=("s3://in",))
    yield quiet_house
    quiet_house.stop()


@pytest.fixture
def client(house):
    with Forebay(house.url) as made:
        yield made


@pytest.fixture
def forebay(house, monkeypatch, capsys):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.setenv("FOREBAY_API_URL", house.url)
    monkeypatch.delenv("FOREBAY_API_KEY", raising=False)

    def command(*argv):
        code = run(build_app(), [str(word) for word in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return command


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(YAML)
    return path


def spec_in(house, job_id):
    with house.database.read() as tx:
        return spec_of(tx.jobs.payload("default", job_id))


def content_of(house, uri):
    with house.client() as http:
        file_id = uri.removeprefix("forebay://files/")
        found = http.get(f"/v1/files/{file_id}").json()
        return found["filename"], http.get(f"/v1/files/{file_id}/content").content


def newest(house):
    with house.database.read() as tx:
        found = tx.jobs.list("default", JobFilter(), limit=1, after=None)
    return found[0].id if found else None


def in_the_background(house, play):
    """Play a trainer for the next job that comes; join it. If it fails, the job is cancelled, so
    that nobody waits for ever."""
    known = newest(house)

    def go():
        try:
            wait_until(lambda: newest(house) not in (None, known), what="the job")
            play(newest(house))
        except BaseException:
            with house.client() as http:
                http.post(f"/v1/jobs/{newest(house)}/cancel")
            raise

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def trained(house, job_id):
    hand = TrainingHand(house, job_id).start(epochs=3)
    for _ in range(3):
        hand.epoch(checkpoint=True)
    hand.finish()


def test_what_was_said_is_what_is_asked_for(house, client):
    job = client.train("digits", SPEC, priority=1, metadata={"k": "v"}, max_attempts=7)
    spec = spec_in(house, job.id)
    assert (spec.data.uris, spec.epochs, spec.max_deaths) == (("s3://in/a.csv",), 3, 7)
    assert (job.document["priority"], job.metadata, job.model) == (1, {"k": "v"}, "digits:1")
    assert job.training["state"] == "waiting" and not job.done
    assert "id" not in SPEC and SPEC["data"] == {"uri": "s3://in/a.csv", "label": "y"}


def test_files_of_this_machine_are_uploaded_first(house, client, tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"{name},y\n1,0\n")
    (tmp_path / "labels.idx").write_bytes(b"labels")
    data = {"uri": "a.csv", "label": "y", "digests": {"a.csv": "0" * 64}}
    spec = spec_in(house, client.train("digits", SPEC | {"data": data}, folder=tmp_path).id)
    (uri,) = spec.data.uris
    assert content_of(house, uri) == ("a.csv", b"a,y\n1,0\n")
    assert spec.data.digests == {uri: "0" * 64}
    data = {"uri": [f"{tmp_path}/[ab].csv", "s3://in/c.csv"], "label": "y"}
    seen = []
    job = client.train("digits", SPEC | {"data": data}, on_upload=lambda path: seen.append(path))
    uris = spec_in(house, job.id).data.uris
    assert [content_of(house, one)[0] for one in uris[:2]] == ["a.csv", "b.csv"]
    assert uris[2] == "s3://in/c.csv" and [path.name for path in seen] == ["a.csv", "b.csv"]
    data = {"uri": "s3://in/x", "labels_uri": "labels.idx", "format": "idx"}
    spec = spec_in(house, client.train("digits", SPEC | {"data": data}, folder=tmp_path).id)
    assert content_of(house, spec.data.labels_uri) == ("labels.idx", b"labels")


def test_a_file_that_is_named_twice_is_uploaded_once(house, client, tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"{name},y\n1,0\n")
    (tmp_path / "same.csv").symlink_to("b.csv")
    uris = ["b.csv", "s3://in/c.csv", "*.csv", "./b.csv", "same.csv"]
    data = {"uri": uris, "label": "y", "digests": {"./b.csv": "0" * 64}}
    seen = []
    job = client.train(
        "digits",
        SPEC | {"data": data},
        folder=tmp_path,
        on_upload=lambda path: seen.append(path.name),
    )
    read = spec_in(house, job.id).data
    assert seen == ["b.csv", "a.csv"] and len(read.uris) == 3 and read.uris[1] == "s3://in/c.csv"
    assert read.digests == {read.uris[0]: "0" * 64}


def test_what_cannot_be_uploaded_is_refused_before_anything_is_sent(house, client, tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes(b"a picture")
    for name in ("there", "too"):
        (tmp_path / f"{name}.csv").write_text("x,y\n1,0\n")
    for uri, says in (
        ("nowhere.csv", "no file"),
        ("*.nothing", "no file"),
        ("cats", "FOREBAY_REF_PREFIXES"),
        ("cats/*.png", "folder's name"),
        (["there.csv", "nowhere.csv"], "no file"),
    ):
        with pytest.raises(BadArgument, match=says):
            client.train(
                "digits", SPEC | {"data": {"uri": uri}}, folder=tmp_path, on_upload=pytest.fail
            )
    with pytest.raises(BadArgument, match=r"labels_uri is one file, and .* names 2"):
        data = {"uri": "there.csv", "labels_uri": "*.csv"}
        client.train("digits", SPEC | {"data": data}, folder=tmp_path, on_upload=pytest.fail)
    with pytest.raises(InvalidRequest) as caught:
        client.train("digits", SPEC | {"epoch": 1})
    assert (caught.value.code, caught.value.field) == ("unknown_field", "spec.epoch")
    with pytest.raises(InvalidRequest):
        client.train("digits", {"data": 7})
    assert house.http.get("/v1/jobs").json()["data"] == []


def test_wait_tells_how_far_it_is_and_ends(house, client, tmp_path):
    trainer = in_the_background(house, lambda id_: trained(house, id_))
    job = client.train("digits", SPEC)
    assert isinstance(job, Job)
    seen = []
    job.wait(60, on_progress=lambda now: seen.append(now.training["state"]))
    trainer.join(60)
    assert job.state == "succeeded" and seen[-1] == "ended"
    assert job.result["version"] == "digits:1" and job.result["evaluation"]["accuracy"] == 0.875
    curves = job.curves()
    assert len(curves["steps"]["loss"]) == 12 and len(curves["epochs"]) == 3
    assert job.curves(after_step=8)["steps"]["step"] == [9, 10, 11, 12]
    drawn = job.curves_png(tmp_path / "curves.png", width=400, height=300)
    assert drawn.startswith(b"\x89PNG") and (tmp_path / "curves.png").read_bytes() == drawn
    assert [line["number"] for line in job.log()] == [1, 2, 3, 4]
    assert [line["text"] for line in job.log(after=3)] == ["epoch 3: loss 0.083333"]
    version = client.models.show("digits")
    assert version["versions"][0]["state"] == "pending"


def test_pause_resume_cancel_and_retry(house, client):
    job = client.train("digits", SPEC)
    TrainingHand(house, job.id).start()
    assert job.pause().training["state"] == "paused"
    assert job.resume().training["state"] == "training"
    other = client.train("digits", SPEC)
    assert other.cancel().state == "cancelled"
    again = other.retry()
    assert (again.model, again.document["retry_of"]) == ("digits:3", other.id)
    TrainingHand(house, again.id).start().fail()
    with pytest.raises(JobFailed) as caught:
        _ = again.wait(60).result
    assert caught.value.code == "loss_not_a_number"


def test_the_command_trains_waits_and_draws(house, forebay, spec_file, tmp_path):
    trainer = in_the_background(house, lambda id_: trained(house, id_))
    picture = tmp_path / "curves.png"
    code, out, err = forebay(
        *("train", spec_file, "--wait", "--png", picture, "--set", "seed=3"),
        *("--set", "network.units=[8]", "--metadata", "team=x"),
    )
    trainer.join(60)
    assert code == 0, err
    assert "digits:1" in out and "0.875" in out and "8 rows of test" in out
    assert "epoch 3 of 3, step 12 of 12 (100 %)" in err and "forebay submit digits:1" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    (job,) = house.http.get("/v1/jobs").json()["data"]
    spec = spec_in(house, job["id"])
    assert (spec.seed, spec.network.arguments["units"]) == (3, [8])
    assert job["metadata"] == {"team": "x"}


def test_a_picture_that_cannot_be_drawn_hides_no_end(
    house, forebay, spec_file, tmp_path, monkeypatch
):
    folder = tmp_path / "pictures"
    folder.mkdir()

    def ends(job_id):
        folder.rmdir()
        trained(house, job_id)

    trainer = in_the_background(house, ends)
    code, out, err = forebay("train", spec_file, "--wait", "--png", folder / "a.png")
    trainer.join(60)
    assert code == 0 and "digits:1" in out and "0.875" in out
    assert "picture cannot be written" in err and "forebay jobs show" in err

    def gone(*_, **__):
        raise Unreachable("the service is gone")

    monkeypatch.setattr(Job, "curves_png", gone)
    trainer = in_the_background(house, lambda id_: TrainingHand(house, id_).start().fail())
    words = ("train", spec_file, "--wait", "--png", tmp_path / "a.png", "--json")
    code, out, err = forebay(*words)
    trainer.join(60)
    assert code == 1 and json.loads(out)["error"]["code"] == "loss_not_a_number"
    assert "the service is gone" in err


def test_the_command_without_wait_names_the_job(house, forebay, spec_file, monkeypatch):
    code, out, err = forebay("train", spec_file)
    assert code == 0 and spec_in(house, out.strip()).epochs == 3 and "digits:1" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(YAML))
    document = json.loads(forebay("train", "-", "--model", "other", "--json")[1])
    assert (document["model"], document["training"]["state"]) == ("other:1", "waiting")


def test_a_file_beside_the_spec_is_uploaded(house, forebay, spec_file, tmp_path):
    (tmp_path / "rows.csv").write_text("a,y\n1,0\n")
    spec_file.write_text(YAML.replace("s3://in/a.csv", "./rows.csv"))
    code, out, err = forebay("train", spec_file)
    assert code == 0 and f"uploading {tmp_path / 'rows.csv'} (8 B)" in err
    assert content_of(house, spec_in(house, out.strip()).data.uris[0])[0] == "rows.csv"


def test_what_is_refused_is_told_with_its_line(house, forebay, spec_file):
    spec_file.write_text(YAML.replace("recipe: dense", "recipe: dense\n  filters: [3]"))
    code, out, err = forebay("train", spec_file)
    assert code == 2 and out == "" and "an argument of the recipe cnn" in err
    assert "spec.yaml, line 5" in err
    code, _, err = forebay("train", spec_file, "--json")
    error = json.loads(err)["error"]
    assert (error["code"], error["field"], error["line"]) == (
        "unknown_field",
        "spec.network.filters",
        5,
    )


def test_jobs_are_shown_with_their_curves_and_log(house, forebay, spec_file, tmp_path):
    job_id = forebay("train", spec_file)[1].strip()
    hand = TrainingHand(house, job_id).start(epochs=3)
    assert "training 0.25" not in forebay("jobs", "show", job_id)[1]
    hand.epoch(checkpoint=True)
    shown = forebay("jobs", "show", job_id)[1]
    assert "loss by step: training 0.25" in shown and "epoch 1 of 3" in shown
    assert "after step 4" in shown
    hand.epoch()
    shown = forebay("jobs", "show", job_id)[1]
    assert "loss by epoch: training 0.125, validation 0.225" in shown
    assert "accuracy by epoch: training 0.7, validation 0.6" in shown
    assert "*" in shown and "o" in shown
    log = forebay("jobs", "show", job_id, "--log")[1].splitlines()
    assert len(log) == 3 and log[0].endswith("reading s3://in/a.csv")
    picture = tmp_path / "now.png"
    document = json.loads(forebay("jobs", "show", job_id, "--log", "--png", picture, "--json")[1])
    assert document["training"]["epoch"] == 2 and len(document["log"]) == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert forebay("jobs", "pause", job_id)[1].split() == [job_id, "paused"]
    assert forebay("jobs", "resume", job_id)[1].split() == [job_id, "training"]
    hand.finish()
    code, out, _ = forebay("jobs", "wait", job_id)
    assert code == 0 and "digits:1" in out


def test_a_version_is_shown_with_where_it_comes_from(house, forebay, spec_file):
    job_id = forebay("train", spec_file)[1].strip()
    code, out, _ = forebay("models", "show", "digits")
    assert code == 0 and "digits:1  training" in out and "sha256" not in out.splitlines()[-1]
    trained(house, job_id)
    shown = forebay("models", "show", "digits:1")[1]
    assert "digits:1  pending" in shown and job_id in shown
    assert "accuracy 0.875, auc 0.9 on 8 rows of test" in shown


def test_how_it_ends_is_the_exit_code(house, forebay, spec_file):
    def fails(job_id):
        hand = TrainingHand(house, job_id).start()
        hand.epoch()
        hand.fail()

    trainer = in_the_background(house, fails)
    code, out, err = forebay("train", spec_file, "--wait")
    trainer.join(60)
    assert code == 1 and out == "" and "loss_not_a_number: at step 3" in err and "--log" in err
    job_id = forebay("train", spec_file)[1].strip()
    forebay("jobs", "cancel", job_id)
    assert forebay("jobs", "wait", job_id)[0] == 3
    code, _, err = forebay("train", spec_file, "--wait", "--timeout-s", "0.2")
    assert code == 3 and "it goes on" in err


def test_an_interrupted_wait_tells_how_to_come_back(house, forebay, spec_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupted)
    code, out, err = forebay("train", spec_file, "--wait")
    job_id = newest(house)
    assert code == 130 and out == "" and f"forebay jobs wait {job_id}" in err
    assert house.http.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"
