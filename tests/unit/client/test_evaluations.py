"""The SDK's evaluations: what is asked for, what a comparison comes to, what is done again."""

from __future__ import annotations

import pytest

from producers.client import BadArgument, EvaluationJob, Forebay, Job
from tests.unit.client.fake_evaluations import FIRST, SECOND, EvaluatingService


@pytest.fixture
def service():
    return EvaluatingService()


@pytest.fixture
def client(service):
    return Forebay("http://service", transport=service.transport)


def test_what_is_said_is_what_is_asked_for(client, service):
    job = client.evaluate(
        "digits:3",
        "s3://in/a.parquet",
        label="digit",
        slices=("hour",),
        against="j1",
        examples=0,
        tolerance=0.0,
        where=[("split", "=", "test")],
        max_error_share=0.5,
        priority=1,
    )
    assert service.bodies() == [
        {
            "kind": "evaluation",
            "model": "digits:3",
            "input": {"uri": "s3://in/a.parquet", "where": [["split", "=", "test"]]},
            "evaluation": {
                "label": "digit",
                "slices": ["hour"],
                "against": "j1",
                "examples": 0,
                "tolerance": 0.0,
            },
            "on_error": {"max_share": 0.5},
            "priority": 1,
        }
    ]
    assert isinstance(job, EvaluationJob)
    assert isinstance(client.job(job.id), EvaluationJob)
    assert type(job.retry()) is EvaluationJob


def test_the_result_is_at_hand(client):
    job = client.evaluate("digits:4", "s3://in/a.parquet", label="digit").wait(5)
    assert job.metrics["accuracy"] == 0.985 and job.metrics["auc"] == 0.99
    assert job.intervals == {"accuracy": [0.98, 0.99]} and job.slices == []
    assert job.against["disagreed"] == 31
    assert client.evaluate("digits:3", "s3://in/a", label="digit").wait(5).against is None


def test_files_of_this_machine_are_uploaded_but_pictures_would_lose_their_label(client, tmp_path):
    table, picture = tmp_path / "a.parquet", tmp_path / "a.png"
    table.write_bytes(b"p"), picture.write_bytes(b"p")
    told = []
    client.evaluate("digits:3", table, label="digit", on_upload=told.append)
    assert told == [table]
    with pytest.raises(BadArgument, match="folder"):
        client.evaluate("digits:3", picture)
    client.evaluate("digits:3", picture, against="j1")


def test_the_rows_are_said_once(client, service):
    for wrong in ({}, {"inputs": "s3://in/a", "job": "j"}, {"job": "j", "group": "g"}):
        with pytest.raises(BadArgument, match="which rows"):
            client.evaluate("digits:3", **wrong)
    with pytest.raises(BadArgument, match="taken over"):
        client.evaluate("digits:3", job="j", where=[["a", "=", 1]])
    with pytest.raises(BadArgument, match="list of columns"):
        client.evaluate("digits:3", "s3://in/a", label="a", slices="hour")
    assert service.requests == []


def test_a_replay_is_of_a_job_or_else_of_a_group(client, service):
    job = client.evaluate("digits:3", "s3://in/a", label="digit")
    client.replay(job.id, "digits:4")
    client.replay(job, "digits:4", label="digit", examples=3)
    client.replay("0190cccc-0000-7000-8000-000000000000", "digits:4")
    asked = [(body["input"], body.get("evaluation")) for body in service.bodies()[1:]]
    assert asked == [
        ({"job": job.id}, None),
        ({"job": job.id}, {"label": "digit", "examples": 3}),
        ({"group": "0190cccc-0000-7000-8000-000000000000"}, None),
    ]


def test_two_are_compared_on_the_same_rows(client, service):
    seen = []
    found = client.models.compare(
        "digits:3",
        "digits:4",
        "s3://in/a.parquet",
        label="digit",
        slices=["hour"],
        timeout_s=20,
        on_progress=lambda job: seen.append(job.model),
    )
    first, second = service.bodies()
    assert first["evaluation"] == {"label": "digit", "slices": ["hour"]}
    assert (second["model"], second["input"]) == ("digits:4", {"job": found.first_job})
    assert "evaluation" not in second  # label and slices are the first's
    assert (found.first, found.second) == (FIRST, SECOND) and set(seen) == {"digits:3", "digits:4"}
    rows = {one.name: one for one in found.metrics}
    assert rows["accuracy"].difference == pytest.approx(0.015)
    assert rows["accuracy"].overlap is False and rows["f1"].overlap is None
    assert rows["auc"].first is None and rows["auc"].difference is None
    assert "rows" not in rows and "disagreement" not in rows
    assert found.as_json()["against"]["fixed"] == 20


def test_without_a_label_the_first_only_answers(client, service):
    found = client.models.compare("digits:3", "digits:4", "s3://in/a.parquet", timeout_s=20)
    kinds = [(body["kind"], body["model"]) for body in service.bodies()]
    assert kinds == [("bulk", "digits:3"), ("evaluation", "digits:4")]
    assert service.bodies()[1]["input"] == {"job": found.first_job}
    # What the first is worth on the second's labels is told by the second's document.
    assert {one.name: one.first for one in found.metrics}["brier"] == 0.06


def test_without_data_those_of_the_newest_evaluation_are_taken(client, service):
    known = service.evaluated("digits:3", "2026-01-02T00:00:00.000Z")
    found = client.models.compare("digits:3", "digits:4", timeout_s=20)
    (only,) = service.bodies()
    assert (only["model"], only["input"]) == ("digits:4", {"job": known})
    assert found.first_job == known and found.first == FIRST


def test_what_the_second_saw_last_the_first_sees_too(client, service):
    old = service.evaluated("digits:3", "2026-01-01T00:00:00.000Z", digest="d0")
    last = service.evaluated("digits:4", "2026-01-03T00:00:00.000Z", digest="d1")
    found = client.models.compare("digits:3", "digits:4", timeout_s=20)
    first, second = service.bodies()
    assert (first["model"], first["input"]) == ("digits:3", {"job": last})
    assert second["input"] == {"job": found.first_job} and found.first_job not in (old, last)


def test_an_evaluation_of_the_same_data_is_not_made_twice(client, service):
    own = service.evaluated("digits:3", "2026-01-01T00:00:00.000Z", digest="d1")
    service.evaluated("digits:4", "2026-01-03T00:00:00.000Z", digest="d1")
    assert client.models.compare("digits:3", "digits:4", timeout_s=20).first_job == own
    assert [body["model"] for body in service.bodies()] == ["digits:4"]
    asked = client.models.compare("digits:3", "digits:4", label="other", timeout_s=20)
    assert asked.first_job != own  # another label: other metrics


def test_data_that_are_gone_have_to_be_named(client, service):
    with pytest.raises(BadArgument, match="on what data"):
        client.models.compare("digits:3", "digits:4")
    service.gone.add(service.evaluated("digits:3", "2026-01-01T00:00:00.000Z"))
    with pytest.raises(BadArgument, match="past their retention"):
        client.models.compare("digits:3", "digits:4")
    with pytest.raises(BadArgument, match="go with data"):
        client.models.compare("digits:3", "digits:4", format="csv")


def test_evaluations_are_found_by_any_name_of_a_version(client, service):
    service.evaluated("digits:3", "2026-01-01T00:00:00.000Z")
    service.models["digits"] = {
        "name": "digits",
        "latest_version": 4,
        "aliases": {"prod": 3},
        "versions": [{"version": 4, "state": "deprecated"}, {"version": 3, "state": "ready"}],
    }
    for ref in ("digits:3", "digits@prod", "digits"):
        (one,) = client.models.evaluations(ref, limit=5, full=True)
        assert one["model"] == "digits:3"
    assert service.requests[-1].url.params["full"] == "true"
    for wrong in ("digits:three", "digits@nobody"):
        with pytest.raises(BadArgument):
            client.models.evaluations(wrong)


def test_other_jobs_stay_what_they_are(client):
    assert type(client.submit("digits", text="a")) is Job
