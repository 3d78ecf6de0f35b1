"""The SDK and the command over evaluations, against the service; the worker is played by hand."""

from __future__ import annotations

import json
import threading

import pytest

from forebay import Forebay
from producers.cli.app import build_app, run
from producers.client import Conflict, EvaluationJob, JobFailed, NotFound
from storage.records.bulk import spec_of
from storage.records.evaluations import Evaluation, EvaluationSpec
from storage.records.jobs import JobFilter
from tests.support.bulk_hand import BulkHand
from tests.support.waiting import wait_until
from tests.unit.client.fake_evaluations import FIRST, SECOND


@pytest.fixture
def house(quiet_house):
    quiet_house.push("digits")
    quiet_house.push("digits", top_k=None, labels=["a", "b"])
    quiet_house.start(ref_prefixes=("s3://in",), output_prefixes=("s3://out",))
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


def spec_in(house, job_id):
    with house.database.read() as tx:
        return spec_of(tx.jobs.payload("default", job_id))


def jobs_in(house):
    """Newest first."""
    with house.database.read() as tx:
        return tx.jobs.list("default", JobFilter(), limit=10, after=None)


def end(house, job_id, document=FIRST, digest="d1"):
    """What a worker does with it: the document of the version that it is for."""
    hand = BulkHand(house, job_id).start(shards=1)
    hand.part(b"scored")
    with house.database.read() as tx:
        job = tx.jobs.get("default", job_id)
    hand.finish(document | {"model": f"digits:{job.version}"})
    if job.kind == "evaluation":
        told = (job.model_name, job.version, digest, 1000, document["metrics"], document, 0)
        with house.database.begin() as tx:
            tx.evaluations.record(Evaluation(job_id, "default", job.version_id, *told))


def in_the_background(house, documents):
    """End the next jobs as they come, each with its document; join it. If that fails, the jobs are
    cancelled, so that nobody waits for ever."""
    known = len(jobs_in(house))

    def play():
        try:
            for at, document in enumerate(documents):
                wait_until(lambda at=at: len(jobs_in(house)) > known + at, what="a job")
                end(house, jobs_in(house)[0].id, document)
        except BaseException:
            with house.client() as http:
                for job in jobs_in(house):
                    http.post(f"/v1/jobs/{job.id}/cancel")
            raise

    thread = threading.Thread(target=play)
    thread.start()
    return thread


def test_an_evaluation_is_asked_for_waited_for_and_read(house, client):
    job = client.evaluate(
        "digits:1", "s3://in/a.csv", label="digit", slices=["hour"], where=[("n", ">", 1)]
    )
    assert isinstance(job, EvaluationJob) and job.progress["state"] == "waiting"
    spec = spec_in(house, job.id)
    assert spec.evaluation == EvaluationSpec("digit", ("hour",)) and spec.input.where[0].value == 1
    end(house, job.id)
    assert job.wait(20).metrics["accuracy"] == 0.97
    assert [part.rows for part in job.parts()] == [10]
    (known,) = client.models.evaluations("digits:1", full=True)
    assert known["job"] == job.id and known["document"]["labels"] == FIRST["labels"]
    assert [one.id for one in client.jobs(kind="evaluation")] == [job.id]


def test_a_failed_one_raises_why(house, client):
    job = client.evaluate("digits:1", "s3://in/a.csv", label="digit")
    BulkHand(house, job.id).start().fail("no_labels", "no row has a label")
    with pytest.raises(JobFailed, match="no row has a label"):
        _ = job.wait(20).metrics


def test_files_of_this_machine_are_uploaded_first(house, client, tmp_path):
    (tmp_path / "a.csv").write_text("x,digit\n1,2\n")
    spec = spec_in(house, client.evaluate("digits:1", tmp_path / "a.csv", label="digit").id)
    assert spec.input.uris[0].startswith("forebay://files/")


def test_a_replay_takes_over_what_a_job_or_a_group_was_given(house, client):
    bulk = client.bulk("digits:1", "s3://in/a.csv", format="csv")
    with pytest.raises(Conflict, match=r"input\.job"):
        client.replay(bulk, "digits:2")
    end(house, bulk.id)
    spec = spec_in(house, client.replay(bulk.id, "digits:2", label="digit").id)
    assert spec.input.uris == ("s3://in/a.csv",)
    assert spec.evaluation == EvaluationSpec("digit", against=bulk.id)
    group = client.submit_many("digits:1", [{"tensor": [1, 2, 3, 4]}]).cancel()
    spec = spec_in(house, client.replay(group.id, "digits:2").id)
    assert spec.evaluation == EvaluationSpec(against=group.id, of_group=group.id)
    with pytest.raises(NotFound, match=r"input\.group"):
        client.replay("01890000-0000-7000-8000-000000000000", "digits:2")


def test_two_versions_are_compared_and_then_again_on_the_same_data(house, client):
    worker = in_the_background(house, [FIRST, SECOND])
    found = client.models.compare(
        "digits:1", "digits:2", "s3://in/a.csv", label="digit", slices=["hour"], timeout_s=60
    )
    worker.join()
    assert spec_in(house, found.second_job).evaluation == EvaluationSpec(
        "digit", ("hour",), found.first_job
    )
    assert (found.first_model, found.second_model) == ("digits:1", "digits:2")
    assert {one.name: one.overlap for one in found.metrics}["accuracy"] is False
    worker = in_the_background(house, [SECOND])
    again = client.models.compare("digits:1", "digits:2", timeout_s=60)
    worker.join()
    assert again.first_job == found.first_job and again.second_job != found.second_job


def test_the_command_does_the_same(house, forebay):
    words = ("evaluate", "digits:1", "s3://in/a.csv", "--label", "digit", "--format", "csv")
    worker = in_the_background(house, [FIRST])
    code, out, _ = forebay(*words, "--wait", "--json")
    worker.join()
    told = json.loads(out)
    assert code == 0 and told["result"]["metrics"] == FIRST["metrics"]
    worker = in_the_background(house, [SECOND])
    code, out, _ = forebay("replay", told["id"], "digits:2", "--wait")
    worker.join()
    assert code == 0 and "fixed" in out and "0:17" in out
    worker = in_the_background(house, [SECOND])
    code, out, _ = forebay("models", "compare", "digits:1", "digits:2")
    worker.join()
    assert code == 0 and "apart" in out and told["id"] in out
    code, out, _ = forebay("models", "evaluations", "digits@nobody")
    assert code == 2
    code, out, _ = forebay("models", "evaluations", "digits:2", "--json")
    assert code == 0 and len(json.loads(out)) == 2
    code, _, err = forebay("evaluate", "digits:1", "s3://in/a.csv", "--format", "csv")
    assert code == 2 and "evaluation.label" in err
    code, _, err = forebay("replay", "01890000-0000-7000-8000-000000000000", "digits:2")
    assert code == 2 and "input.group" in err
