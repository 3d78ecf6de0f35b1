"""The command and the SDK measure versions: what they print is what a plain count comes to, and
what was answered before is compared with row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay import Forebay
from producers.client import Conflict, JobFailed, Refused
from tests.support.bulk_desk import Desk
from tests.support.bulk_files import csv_lines, parquet, vectors
from tests.support.caller import Caller, tensor
from tests.support.stack import Stack
from tests.support.zoo import Zoo

ROWS, WRONG = 200, 30
GOOD, FAILED, USAGE = 0, 1, 2
NUMBERS = [n + 1 if n % 2 else -n - 1 for n in range(ROWS)]  # odd rows are positive
TRUTH = ["plus" if (n % 2 == 1) != (n < WRONG) else "minus" for n in range(ROWS)]
COLUMNS = {"question": vectors(NUMBERS), "sign": TRUTH, "hour": [n % 4 for n in range(ROWS)]}


@pytest.fixture
def judge(caller: Caller, zoo: Zoo) -> str:
    """Version 1 names what echo answers; version 2 the other way round."""
    options = {"input": "tensor", "labels": ["plus", "minus"], "scores": "logits"}
    if caller.http.get("/v1/models/judge").status_code == 404:
        caller.push("judge", zoo.echo, options)
        caller.push("judge", zoo.echo, options | {"labels": ["minus", "plus"]})
    for number in (1, 2):
        caller.settle_version("judge", number)
    return "judge"


@pytest.fixture
def client(stack: Stack, models: None, judge: str) -> Iterator[Forebay]:
    with Forebay(stack.url, key="") as client:
        yield client


def test_what_is_measured_is_what_a_count_comes_to(
    stack: Stack, desk: Desk, client: Forebay
) -> None:
    uri = desk.input.write("signs.parquet", parquet(COLUMNS))
    line = ["evaluate", "judge:1", uri, "--label", "sign", "--slice", "hour", "--wait"]
    done = stack.run(*line, "--json")
    assert done.returncode == GOOD, done.stdout + done.stderr
    result = json.loads(done.stdout)["result"]
    assert (result["rows"], result["failed"]) == (ROWS, 0)
    assert result["metrics"]["accuracy"] == pytest.approx(1 - WRONG / ROWS, abs=1e-12)
    low, high = result["intervals"]["accuracy"]
    assert low < 1 - WRONG / ROWS < high
    (hours,) = result["slices"]
    told = {one["value"]: (one["rows"], one["metrics"]["accuracy"]) for one in hours["values"]}
    for hour in range(4):
        wrong = sum(n % 4 == hour for n in range(WRONG))
        assert told[str(hour)] == (ROWS // 4, pytest.approx(1 - wrong / (ROWS // 4), abs=1e-12))
    said = stack.run(*line)
    assert "accuracy" in said.stdout and "0.8500" in said.stdout and "HOUR" in said.stdout
    known = client.models.evaluations("judge:1", full=True)
    assert known[0]["document"]["metrics"] == result["metrics"]
    assert known[0]["data_digest"] == known[1]["data_digest"]


def test_two_versions_are_compared_on_the_same_rows(
    stack: Stack, desk: Desk, client: Forebay
) -> None:
    uri = desk.input.write("pairs.parquet", parquet(COLUMNS))
    found = client.models.compare("judge:1", "judge:2", uri, label="sign", timeout_s=90)
    rows = {one.name: one for one in found.metrics}
    assert rows["accuracy"].first == pytest.approx(0.85)
    assert rows["accuracy"].second == pytest.approx(0.15) and rows["accuracy"].overlap is False
    against = found.against
    assert (against["rows"], against["disagreed"], against["missing"]) == (ROWS, ROWS, 0)
    assert (against["fixed"], against["broken"]) == (WRONG, ROWS - WRONG)
    assert {(one["from"], one["to"]) for one in against["transitions"]} == {
        ("plus", "minus"),
        ("minus", "plus"),
    }
    again = stack.run("models", "compare", "judge:1", "judge:2", "--json")
    assert again.returncode == GOOD, again.stderr
    assert json.loads(again.stdout)["first"]["job"] == found.first_job
    blind = client.models.compare("judge:1", "judge:1", uri, timeout_s=90)
    assert blind.against["disagreed"] == 0 and blind.against["rows"] == ROWS


def test_files_of_this_machine_are_measured_too(
    stack: Stack, client: Forebay, tmp_path: Path
) -> None:
    path = tmp_path / "signs.csv"
    rows = [[a, b, truth] for (a, b), truth in zip(vectors(NUMBERS), TRUTH, strict=True)]
    path.write_bytes(b"\n".join(csv_lines(["a", "b", "sign"], rows)) + b"\n")
    line = ["evaluate", "judge:1", str(path), "--columns", "a,b", "--label", "sign", "--wait"]
    done = stack.run(*line, "--json")
    assert done.returncode == GOOD, done.stdout + done.stderr
    assert json.loads(done.stdout)["result"]["metrics"]["accuracy"] == pytest.approx(0.85)


def test_what_was_answered_is_replayed(stack: Stack, desk: Desk, client: Forebay) -> None:
    uri = desk.input.write("before.parquet", parquet(COLUMNS))
    bulk = client.bulk("judge:1", uri).wait(90)
    job = client.replay(bulk, "judge:2", label="sign").wait(90)
    assert job.against["disagreed"] == ROWS and job.metrics["accuracy"] == pytest.approx(0.15)
    group = client.submit_many("judge:1", [tensor(n, -n) for n in (1, 2, -3)]).wait(60)
    done = stack.run("replay", group.id, "judge:2", "--wait")
    assert done.returncode == GOOD, done.stdout + done.stderr
    assert f"group {group.id}" in done.stdout and "100.00 %" in done.stdout


def test_what_is_wrong_is_named(stack: Stack, desk: Desk, client: Forebay) -> None:
    uri = desk.input.write("wrong.parquet", parquet(COLUMNS))
    for line, says in (
        (["evaluate", "judge:1", uri, "--format", "parquet"], "evaluation.label"),
        (["evaluate", "judge:1", uri, "--wait"], "no_labels"),
        (["evaluate", "judge:1", uri, "--label", "sgn", "--wait"], "evaluation.label"),
        (
            ["evaluate", "judge:1", uri, "--label", "sign", "--slice", "day", "--wait"],
            "evaluation.slices[0]",
        ),
    ):
        done = stack.run(*line)
        assert done.returncode in (FAILED, USAGE) and says in done.stderr, done.stderr
    other = client.bulk("judge:1", desk.input.write("o.parquet", parquet(COLUMNS | {"x": NUMBERS})))
    with pytest.raises((Refused, Conflict)):
        client.evaluate("judge:1", uri, against=other)
    other.wait(90)
    with pytest.raises(JobFailed, match="compar"):
        _ = client.evaluate("judge:1", uri, against=other).wait(90).result
