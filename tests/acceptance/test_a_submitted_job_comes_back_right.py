"""Submit, wait, read: over plain HTTP, through the SDK, and by the command."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from forebay import Forebay, JobFailed
from tests.support.caller import Caller, only_output, tensor
from tests.support.stack import Stack
from tests.support.zoo import grey_png


def test_over_http_with_every_form_of_input(caller: Caller) -> None:
    picture = base64.b64encode(grey_png(230)).decode()
    assert only_output(caller.ask("echo", tensor(7, -7))) == [7, -7]
    assert only_output(caller.ask("pair", {"inputs": {"left": [1, 2], "right": [3]}})) == [1, 2, 3]
    answer = caller.ask("picture", {"image": picture})
    assert answer["label"] == "bright"
    assert [entry["label"] for entry in answer["top"]] == ["bright", "dark"]
    assert answer["top"][0]["score"] == pytest.approx(0.998, abs=0.01)
    words = only_output(caller.ask("text", {"text": "a fine day"}))
    assert words[1:] == [0, 0, 1, 0], "one column for each word, after the one for unknown words"


def test_a_binary_tensor_and_a_file_by_reference(caller: Caller) -> None:
    numbers = {
        "dtype": "float32",
        "shape": [2],
        "b64": base64.b64encode(b"\x00\x00\x80\x3f\x00\x00\x00\x40").decode(),
    }
    assert only_output(caller.ask("echo", {"tensor": numbers})) == [1, 2]
    stored = caller.http.post("/v1/files", files={"file": ("dark.png", grey_png(9), "image/png")})
    assert stored.status_code == 201, stored.text
    assert caller.ask("picture", {"ref": stored.json()["uri"]})["label"] == "dark"
    content = caller.http.get(f"/v1/files/{stored.json()['id']}/content")
    assert content.content == grey_png(9)


def test_the_job_tells_its_story(caller: Caller) -> None:
    accepted = caller.submit(
        "echo:1", tensor(1, 2), custom_id="mine", metadata={"run": "x"}, priority=7
    )
    assert accepted["state"] == "queued"
    assert accepted["result"] is None
    job = caller.finish(accepted["id"])
    assert job["state"] == "succeeded"
    assert job["model"] == "echo:1"
    assert (job["custom_id"], job["metadata"], job["priority"]) == ("mine", {"run": "x"}, 7)
    assert job["progress"] == {"done": 1, "total": 1}
    assert job["attempts"] == 1
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert job["error"] is None
    result = caller.http.get(job["result"]["href"])
    assert len(result.content) == job["result"]["size_bytes"]
    listed = caller.http.get("/v1/jobs", params={"metadata.run": "x"}).json()["data"]
    assert job["id"] in [entry["id"] for entry in listed]


def test_a_list_of_items_is_answered_in_its_order_and_a_bad_one_fails_alone(
    caller: Caller,
) -> None:
    items = [tensor(n, -n) for n in range(9)]
    items[4] = {"tensor": [1, None]}
    answers = caller.ask("echo", {"items": items})["items"]
    assert len(answers) == 9
    assert answers[4]["error"]["code"] == "wrong_dtype"
    for n in (0, 1, 2, 3, 5, 6, 7, 8):
        assert only_output(answers[n]) == [n, -n]


def test_events_tell_each_step_until_the_end(caller: Caller) -> None:
    job_id = caller.submit("echo", tensor(5, 5))["id"]
    with caller.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    states = [json.loads(line[5:])["state"] for line in lines if line.startswith("data:")]
    assert states[-1] == "succeeded"
    steps = [int(line[3:]) for line in lines if line.startswith("id:")]
    assert steps == sorted(set(steps))


def test_through_the_sdk(stack: Stack, models: None, tmp_path: Path) -> None:
    file = tmp_path / "bright.png"
    file.write_bytes(grey_png(240))
    with Forebay(stack.url) as forebay:
        assert forebay.submit("picture", image=file).wait(60).result["label"] == "bright"
        group = forebay.submit_many("echo", [{"tensor": [n, n]} for n in range(20)]).wait(60)
        answers = [only_output(line.result) for line in group.results()]
        assert answers == [[n, n] for n in range(20)]
        bad = forebay.submit("picture", image=b"no picture at all").wait(60)
        with pytest.raises(JobFailed) as failure:
            _ = bad.result
        assert failure.value.code == "bad_image"


def test_by_the_command(stack: Stack, models: None, tmp_path: Path) -> None:
    file = tmp_path / "dark.png"
    file.write_bytes(grey_png(3))
    done = stack.run("submit", "picture", "--image", str(file), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert "dark" in json.dumps(json.loads(done.stdout))
    file.write_bytes(grey_png(3)[:40])
    failed = stack.run("submit", "picture", "--image", str(file), "--wait")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "bad_image" in failed.stdout + failed.stderr
    unknown = stack.run("submit", "nobody", "--text", "x")
    assert unknown.returncode == 2, unknown.stdout + unknown.stderr
    nowhere = stack.run(
        "jobs", "list", environment={"FOREBAY_API_URL": "http://127.0.0.1:9"}, deadline_s=60
    )
    assert nowhere.returncode == 4, nowhere.stdout + nowhere.stderr
    for shown in (failed, unknown, nowhere):
        assert "Traceback" not in shown.stdout + shown.stderr
