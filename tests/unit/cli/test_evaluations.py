"""``forebay evaluate``, ``replay``, ``models compare`` and ``models evaluations``: words and
tables."""

from __future__ import annotations

import json

import pytest

from producers.cli.evaluation_answers import cell, interval, number, say_against, say_evaluation
from tests.unit.client.fake_evaluations import FIRST, SECOND, EvaluatingService


@pytest.fixture
def service():
    return EvaluatingService()


def lines(text):
    """Its lines, with one space where there were several."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_is_said_is_what_is_asked_for(forebay, service):
    code, out, _ = forebay(
        *("evaluate", "digits:3", "s3://in/a.parquet", "--label", "digit"),
        *("--slice", "hour", "--slice", "place", "--where", "split = test", "--format", "parquet"),
        *("--columns", "a,b", "--against", "j1", "--examples", "3", "--tolerance", "0.5"),
        *("--max-errors", "1%", "--priority", "1", "--metadata", "k=v"),
    )
    (body,) = service.bodies()
    assert code == 0 and out.strip() in service.jobs
    assert body["input"] == {
        "uri": "s3://in/a.parquet",
        "format": "parquet",
        "columns": ["a", "b"],
        "where": [["split", "=", "test"]],
    }
    assert body["evaluation"] == {
        "label": "digit",
        "slices": ["hour", "place"],
        "against": "j1",
        "examples": 3,
        "tolerance": 0.5,
    }
    assert (body["on_error"], body["priority"], body["metadata"]) == (
        {"max_share": 0.01},
        1,
        {"k": "v"},
    )


def test_the_rows_of_a_job_or_a_group_do_as_well(forebay, service):
    assert forebay("evaluate", "digits:4", "--job", "j1")[0] == 0
    assert forebay("evaluate", "digits:4", "--group", "g1")[0] == 0
    assert [body["input"] for body in service.bodies()] == [{"job": "j1"}, {"group": "g1"}]


WRONG = [
    ("evaluate", "digits:3"),
    ("evaluate", "digits:3", "s3://in/a", "--job", "j1"),
    ("evaluate", "digits:3", "--job", "j1", "--group", "g1"),
    ("evaluate", "digits:3", "--job", "j1", "--where", "a = 1"),
    ("evaluate", "digits:3", "/nowhere/a.csv", "--label", "a"),
    ("evaluate", "digits:3", "s3://in/a", "--examples", "101"),
    ("evaluate", "digits:3", "s3://in/a", "--max-errors", "many"),
    ("replay", "j1"),
    ("models", "compare", "digits:3"),
    ("models", "compare", "digits:3", "digits:4", "--where", "a = 1"),
    ("models", "evaluations", "digits:three"),
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage_ends_in_two_and_nothing_is_sent(forebay, service, words):
    code, out, err = forebay(*words)
    assert code == 2 and err.strip() and out == "" and service.requests == []


def test_what_was_measured_is_shown(forebay):
    code, out, err = forebay("evaluate", "digits:3", "s3://in/a", "--label", "digit", "--wait")
    shown = lines(out)
    assert code == 0 and "jobs download" in err
    for line in (
        "model digits:3",
        "label digit",
        "rows 1,000",
        "unlabelled 3",
        "unknown labels 2 (x, y)",
        "METRIC VALUE 95 % INTERVAL",
        "accuracy 0.9700 0.9580 – 0.9790",
        "auc - -",
        "log_loss 5.00e-05 -",
        "LABEL ROWS PRECISION RECALL F1",
        "0 98 0.9900 0.9800 0.9850",
        "1 0 - - -",
        "HOUR ROWS ACCURACY F1 ACCURACY WITHIN",
        "12 60 0.9500 0.9000 0.8600 – 0.9800",
        "- 0 - - -",
    ):
        assert line in shown, (line, out)
    assert "3 further values of hour, 12 rows, are not told apart" in lines(err)


def test_waiting_for_it_later_shows_the_same(forebay, service):
    job_id = service.evaluated("digits:4", "2026-01-01T00:00:00.000Z")
    code, out, _ = forebay("jobs", "wait", job_id)
    assert code == 0 and "accuracy 0.9850 0.9800 – 0.9900" in lines(out)
    code, out, _ = forebay("jobs", "wait", job_id, "--json")
    assert json.loads(out)["result"] == SECOND
    assert "rows" in forebay("jobs", "show", job_id)[1]


def test_a_replay_says_what_changes(forebay, service):
    job_id = service.evaluated("digits:3", "2026-01-01T00:00:00.000Z")
    code, out, _ = forebay("replay", job_id, "digits:4", "--wait")
    shown = lines(out)
    assert code == 0 and service.bodies()[0]["input"] == {"job": job_id}
    for line in (
        "compared with digits:3, job 0190aaaa-0000-7000-8000-000000000000",
        "rows 998",
        "missing 2",
        "disagreed 31 (3.10 %, 2.20 – 4.40 %)",
        "fixed 20",
        "broken 5",
        "BEFORE AFTER ROWS",
        "3 8 7",
        "ROW ID TRUTH BEFORE AFTER SCORE BEFORE SCORE AFTER",
        "0:17 8 3 8 0.5100 0.9700",
    ):
        assert line in shown, (line, out)


def test_numbers_are_told_by_how_far_they_moved(capsys):
    say_against(
        {
            "job": None,
            "group": "g1",
            "model": None,
            "rows": 10,
            "missing": 0,
            "disagreed": 0,
            "share": 0.0,
            "interval": None,
            "transitions": None,
            "fixed": None,
            "broken": None,
            "differences": {"mean": 0.5, "p95": 1234.5, "max": 2.0},
            "metrics": None,
            "examples": [],
        }
    )
    shown = lines(capsys.readouterr().out)
    assert "compared with several versions, group g1" in shown
    assert "difference p95 1,234.5" in shown and "disagreed 0 (0.00 %)" in shown
    assert not any(line.startswith("fixed") for line in shown)


def test_an_evaluation_with_nothing_measured_is_shown_all_the_same(capsys):
    bare = {"model": "m:1", "task": None, "data": {"digest": "d"}, "rows": 0, "metrics": {}}
    say_evaluation(bare)
    assert "rows 0" in lines(capsys.readouterr().out)


def test_more_lines_than_a_screen_has_are_counted(capsys):
    label = FIRST["labels"][0]
    say_evaluation(FIRST | {"labels": [label] * 25, "slices": []})
    out = capsys.readouterr()
    assert "and 5 more labels: --json has them" in out.err
    assert out.out.count("0.9850") == 20


def test_two_versions_stand_side_by_side(forebay, service):
    words = ("models", "compare", "digits:3", "digits:4")
    code, out, err = forebay(*words, "--on", "s3://in/a", "--label", "digit", "--slice", "hour")
    shown = lines(out)
    assert code == 0 and service.bodies()[0]["evaluation"]["slices"] == ["hour"]
    assert "digits:3, job" in err and "succeeded" in err
    for line in (
        "METRIC DIGITS:3 DIGITS:4 DIFFERENCE INTERVALS",
        "accuracy 0.9700 0.9850 +0.0150 apart",
        "f1 0.9641 0.9800 +0.0159 -",
        "auc - 0.9900 - -",
        "disagreed 31 (3.10 %, 2.20 – 4.40 %)",
    ):
        assert line in shown, (line, out)
    code, out, err = forebay(*words, "--on", "s3://in/a", "--label", "digit", "--json")
    told = json.loads(out)
    assert code == 0 and err == "" and told["second"]["document"] == SECOND
    assert told["metrics"][0]["overlap"] is False


def test_nothing_to_compare_on_is_wrong_usage(forebay):
    code, _, err = forebay("models", "compare", "digits:3", "digits:4")
    assert code == 2 and "on what data" in err


def test_a_failed_evaluation_is_exit_one(forebay, service):
    service.jobs["j1"] = {
        "id": "j1",
        "kind": "evaluation",
        "state": "failed",
        "model": "digits:3",
        "error": {"code": "no_labels", "message": "no row has a label", "attempt": 1},
        "_looks": 0,
        "_body": {"input": {}},
    }
    code, out, err = forebay("jobs", "wait", "j1")
    assert (code, out) == (1, "") and "no_labels: no row has a label" in err


def test_evaluations_of_a_version_are_listed(forebay, service):
    assert "no evaluations" in forebay("models", "evaluations", "digits:3")[1]
    job_id = service.evaluated("digits:3", "2026-01-01T00:00:00.000Z")
    code, out, _ = forebay("models", "evaluations", "digits:3")
    assert code == 0 and lines(out)[1] == (
        f"{job_id} 2026-01-01T00:00:00.000Z 1,000 digit d1"
        " accuracy 0.9700 f1 0.9641 log_loss 5.00e-05"
    )
    (one,) = json.loads(forebay("models", "evaluations", "digits:3", "--json")[1])
    assert one["job"] == job_id


def test_figures_fit_their_cells():
    values = (0.97, 0, 5e-5, -1234.56, None, True, "x")
    assert [number(one) for one in values] == [
        *("0.9700", "0.0000", "5.00e-05", "-1,234.6"),
        *(None, None, None),
    ]
    assert interval([0.1, None]) is None and interval(None) is None
    assert len(cell("x" * 100)) == 30 and cell(3) == "3" and cell(None) is None
