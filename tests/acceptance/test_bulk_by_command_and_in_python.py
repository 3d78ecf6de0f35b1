"""The command and the SDK score files in bulk: what they print and leave is what was scored, and
how it ended is their exit code.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay import Forebay
from producers.client import JobFailed
from tests.acceptance.conftest import slow_files
from tests.support.bulk_desk import Desk
from tests.support.bulk_files import csv_lines, lines, parquet, read_part, vectors
from tests.support.stack import Stack, command
from tests.support.waiting import wait_until
from tests.support.zoo import grey_png

ROWS = 300
GOOD, FAILED, USAGE, STOPPED = 0, 1, 2, 3


@pytest.fixture
def client(stack: Stack, models: None) -> Iterator[Forebay]:
    with Forebay(stack.url, key="") as client:
        yield client


def test_one_line_scores_a_bucket(stack: Stack, desk: Desk, tmp_path: Path) -> None:
    """Addresses in, an address out; its rows, the dry run before and the rows that failed after."""
    columns = {"id": list(range(ROWS)), "question": vectors([*range(ROWS - 1), float("nan")])}
    uri, output = desk.input.write("rows.parquet", parquet(columns)), desk.output.uri("run")
    line = ["bulk", "echo", uri, "--output", output, "--keep", "id", "--where", "id >= 10"]
    dry = stack.run(*line, "--dry-run")
    assert dry.returncode == GOOD, dry.stdout + dry.stderr
    assert "300" in dry.stdout and "0:10" in dry.stdout and desk.output.names() == []

    done = stack.run(*line, "--wait", "--json")
    assert done.returncode == GOOD, done.stdout + done.stderr
    job = json.loads(done.stdout)
    outcome = desk.outcome(job["id"])
    assert job["result"] == outcome.result and job["state"] == "succeeded"
    assert outcome.predictions() == {f"0:{n}": [n, -n] for n in range(10, ROWS - 1)}
    assert outcome.codes() == {f"0:{ROWS - 1}": "not_finite"}

    fetched = tmp_path / "fetched"
    assert stack.run("jobs", "download", job["id"], str(fetched)).returncode == GOOD
    assert {row["row_id"]: row for row in _rows_in(fetched)} == outcome.rows
    assert {path.name for path in fetched.iterdir()} == set(desk.output.at("run").names())

    there = stack.run(*line, "--wait")
    assert there.returncode == FAILED and "output_exists" in there.stderr
    over = stack.run(*line, "--wait", "--overwrite")
    assert over.returncode == GOOD and "289" in over.stdout and "--failed-rows" in over.stderr

    again = stack.run("jobs", "retry", job["id"], "--failed-rows", "--wait", "--json")
    assert again.returncode == GOOD, again.stdout + again.stderr
    assert json.loads(again.stdout)["result"]["failed"] == 1


def test_files_of_this_machine_go_there_and_back(stack: Stack, tmp_path: Path) -> None:
    data, starts = lines(csv_lines(["x", "y"], [[n, -n] for n in range(ROWS)]))
    (tmp_path / "rows.csv").write_bytes(data)
    out = tmp_path / "out"
    line = ["bulk", "echo", str(tmp_path / "rows.csv"), "--columns", "x,y", "--output", str(out)]
    done = stack.run(*line, "--output-format", "csv", "--wait")
    assert done.returncode == GOOD, done.stdout + done.stderr
    found = {
        row["row_id"]: [float(row["prediction_0"]), float(row["prediction_1"])]
        for row in _rows_in(out)
    }
    assert found == {f"0:{start}": [n, -n] for n, start in enumerate(starts[1:])}

    refused = stack.run(*line, "--wait")
    assert refused.returncode == USAGE and str(out) in refused.stderr
    nothing = stack.run("bulk", "echo", str(tmp_path / "none.csv"), "--wait")
    assert nothing.returncode == USAGE and "none.csv" in nothing.stderr
    wrong = stack.run("bulk", "echo", str(tmp_path / "rows.csv"), "--columns", "x,z", "--wait")
    assert wrong.returncode == FAILED and "unknown_column" in wrong.stderr and "z" in wrong.stderr


def test_a_command_that_waits_ends_with_its_job(stack: Stack, desk: Desk, tmp_path: Path) -> None:
    """Paused, resumed and cancelled by others; what was done till then can be fetched."""
    uri = slow_files(desk, 24, 64)["uri"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        waiting = subprocess.Popen(
            command("bulk", "slow_echo", uri, "--wait", "--json"),
            env=stack.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            (job,) = wait_until(
                lambda: [one["id"] for one in desk.caller.jobs(kind="bulk", state="running")],
                60,
                what="the job",
            )
            desk.until_some_rows(job)
            # A command takes long to start: the job waits for each, and is held by us before.
            for verb in ("pause", "resume", "cancel"):
                desk.caller.http.post(f"/v1/jobs/{job}/pause").raise_for_status()
                done = stack.run("jobs", verb, job)
                assert done.returncode == GOOD and job in done.stdout, done.stderr
            assert waiting.wait(60) == STOPPED, log.read_text()
        finally:
            if waiting.poll() is None:
                waiting.send_signal(signal.SIGKILL)
                waiting.wait()
    assert desk.finish(job, "cancelled")
    got = stack.run("jobs", "download", job, str(tmp_path / "so-far"))
    assert got.returncode == GOOD, got.stderr
    found = _rows_in(tmp_path / "so-far")
    assert 0 < len(found) < 24 * 64
    assert len({row["row_id"] for row in found}) == len(found)
    went_on = stack.run("jobs", "retry", job, "--wait", "--json", deadline_s=120)
    assert went_on.returncode == GOOD, went_on.stderr
    assert json.loads(went_on.stdout)["result"]["rows"] == 24 * 64


def test_python_scores_pictures_of_this_machine(client: Forebay, tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / f"{n:02}.png").write_bytes(grey_png(0 if n % 2 else 255))
    (tmp_path / "20.png").write_bytes(b"no picture")
    seen: list[dict[str, Any]] = []
    job = client.bulk("picture", f"{tmp_path}/*.png", output_format="jsonl", max_error_share=0.5)
    job.wait(90, on_progress=lambda now: seen.append(dict(now.progress)))
    assert job.result["rows"] == 20 and job.result["failed"] == 1
    assert seen and seen[-1]["state"] == "ended" and seen[-1]["rows_done"] == 20
    out = tmp_path / "out"
    job.download(out)
    labels = [row["label"] for row in _rows_in(out)]
    assert labels == ["dark" if n % 2 else "bright" for n in range(20)]
    (error,) = (json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines())
    assert error["code"] == "bad_image"
    assert json.loads((out / "manifest.json").read_text())["complete"] is True

    job = client.bulk("picture", f"{tmp_path}/20.png", max_error_share=0)
    with pytest.raises(JobFailed) as failed:
        _ = job.wait(90).result
    assert failed.value.code == "too_many_errors"


def _rows_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of the parts in a folder of this machine, in the order of the input."""
    parts = sorted(path for path in folder.iterdir() if path.name.startswith("part-"))
    return [row for path in parts for row in read_part(path.name, path.read_bytes())[0]]
