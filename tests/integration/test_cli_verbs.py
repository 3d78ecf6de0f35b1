"""The command against a service that runs: what a user and an operator type."""

from __future__ import annotations

import json

import pytest

from tests.support.stack import EmbeddedStack
from tests.support.zoo import grey_png, make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zoo():
    return make()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, zoo):
    made = EmbeddedStack(tmp_path_factory.mktemp("verbs"))
    made.start()
    labels = made.folder / "labels.txt"
    labels.write_text("dark\nbright\n")
    argv = ["models", "push", "picture", str(zoo.picture), "--input", "image", "--top-k", "2"]
    done = made.run(*argv, "--labels", str(labels), "--wait", "--timeout-s", "90")
    assert done.returncode == 0, done.stderr + made.logs()
    assert made.run("models", "push", "echo", str(zoo.echo), "--wait").returncode == 0
    yield made
    made.close()


def answer(done, code=0):
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_example_of_the_readme(stack, tmp_path):
    (tmp_path / "bright.png").write_bytes(grey_png(250))
    done = stack.run("submit", "picture", "--image", str(tmp_path / "bright.png"), "--wait")
    assert done.returncode == 0 and done.stdout.startswith("bright ")


def test_several_pictures_are_one_group_with_an_answer_each(stack, tmp_path):
    for name, level in (("a", 5), ("b", 250), ("c", 9)):
        (tmp_path / f"{name}.png").write_bytes(grey_png(level))
    files = sorted(map(str, tmp_path.glob("*.png")))
    found = answer(stack.run("submit", "picture", "--image", *files, "--wait", "--json"))
    assert [row["result"]["label"] for row in found["results"]] == ["dark", "bright", "dark"]


def test_a_bad_item_fails_alone_and_says_so(stack, tmp_path):
    (tmp_path / "good.png").write_bytes(grey_png(250))
    (tmp_path / "bad.png").write_bytes(grey_png(250)[:40])
    files = [str(tmp_path / "bad.png"), str(tmp_path / "good.png")]
    done = stack.run("submit", "picture", "--image", *files, "--wait")
    assert done.returncode == 1
    assert "failed" in done.stdout and "bright" in done.stdout


def test_json_and_npy_inputs_give_the_same_answer(stack, tmp_path):
    import numpy as np

    (tmp_path / "in.json").write_text('{"tensor": [3, -3]}')
    np.save(tmp_path / "in.npy", np.array([3, -3], dtype="float32"))
    one = stack.run("submit", "echo", "--json", str(tmp_path / "in.json"), "--wait")
    two = stack.run("submit", "echo", "--npy", str(tmp_path / "in.npy"), "--wait")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert one.stdout == two.stdout and "[3.0, -3.0]" in one.stdout


def test_jobs_are_found_again(stack, tmp_path):
    (tmp_path / "in.json").write_text('{"tensor": [1, 1]}')
    argv = ["submit", "echo:1", "--json", str(tmp_path / "in.json"), "--metadata", "team=x"]
    job = answer(stack.run(*argv, "--custom-id", "mine", "--json"))
    assert job["model"] == "echo:1" and job["custom_id"] == "mine"
    assert stack.run("jobs", "wait", job["id"]).returncode == 0
    found = answer(stack.run("jobs", "list", "--metadata", "team=x", "--json"))
    assert [row["id"] for row in found] == [job["id"]]
    assert answer(stack.run("jobs", "show", job["id"], "--json"))["state"] == "succeeded"


def test_a_failed_job_is_done_again_as_a_new_one(stack, tmp_path):
    (tmp_path / "bad.png").write_bytes(grey_png(250)[:40])
    argv = ["submit", "picture", "--image", str(tmp_path / "bad.png"), "--wait", "--json"]
    job = answer(stack.run(*argv), 1)
    assert job["state"] == "failed" and job["error"]["message"]
    again = answer(stack.run("jobs", "retry", job["id"], "--wait", "--json"), 1)
    assert again["retry_of"] == job["id"] and again["id"] != job["id"]


def test_models_and_aliases_are_shown(stack):
    assert answer(stack.run("models", "alias", "echo", "prod", "1", "--json"))["version"] == 1
    assert {row["name"] for row in answer(stack.run("models", "list", "--json"))} >= {"echo"}
    shown = stack.run("models", "show", "echo").stdout
    assert "prod→1" in shown and "ready" in shown
    done = stack.run("submit", "echo@nobody", "--text", "a", "--json")
    assert done.returncode == 2 and json.loads(done.stderr)["error"]["code"] == "alias_not_found"


def test_a_model_that_is_no_archive_is_refused_with_a_code(stack, tmp_path, zoo):
    (tmp_path / "m.keras").write_text("hello")
    done = stack.run("models", "push", "bad", str(tmp_path / "m.keras"), "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "not_an_archive"
    done = stack.run("models", "push", "bad", str(zoo.lambda_layer))
    assert done.returncode == 2 and "Lambda" in done.stderr


def test_keys_open_a_tenants_door_until_they_are_revoked(stack, tmp_path):
    made = answer(stack.run("keys", "create", "--tenant", "acme", "--json"))
    assert stack.run("models", "list", key=made["key"]).stdout == "no models\n"
    listed = answer(stack.run("keys", "list", "--tenant", "acme", "--json"))
    assert [row["id"] for row in listed] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    assert stack.run("keys", "revoke", made["id"]).returncode == 0
    assert stack.run("keys", "revoke", made["id"]).returncode == 2
    done = stack.run("models", "list", key="fbk_nobody")
    assert done.returncode == 2 and "forebay keys create" in done.stderr


def test_the_doctor_finds_everything_well(stack):
    assert "NOT OK" not in stack.run("doctor").stdout
    found = answer(stack.run("doctor", "--json"))
    assert found["ok"] and found["mode"] == "embedded"
    assert {row["part"]: row["ok"] for row in found["findings"]} == dict.fromkeys(
        ("python", "device", "home", "database", "broker", "objects", "api", "workers", "keeper"),
        True,
    )


def test_the_doctor_finds_nothing_wrong_before_the_first_start(stack):
    none_yet = {"FOREBAY_HOME": f"{stack.folder}/none-yet", "FOREBAY_API_URL": "http://127.0.0.1:1"}
    found = answer(stack.run("doctor", "--json", environment=none_yet))
    assert found["ok"] and not (stack.folder / "none-yet").exists()
    says = {row["part"]: row["says"] for row in found["findings"]}
    assert says["database"].endswith(first := ", made at the first start")
    assert says["objects"].endswith(first)


def test_the_doctor_names_what_is_down_and_hides_passwords(stack):
    services = {
        "FOREBAY_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/x",
        "FOREBAY_BROKER_URL": "amqp://user:hunter2@127.0.0.1:1//",
        "FOREBAY_OBJECTS_URL": f"file://{stack.folder}/objects",
        "FOREBAY_API_URL": "http://127.0.0.1:1",
    }
    done = stack.run("doctor", "--json", environment=services)
    assert "hunter2" not in done.stdout + done.stderr
    found = {row["part"]: row for row in answer(done, 1)["findings"]}
    assert found["database"]["ok"] is False and found["broker"]["ok"] is False
    assert found["objects"]["ok"] is True and found["api"]["ok"] is None
    assert "FOREBAY_DATABASE_URL" in found["database"]["advice"]


def test_a_wrong_setting_is_named(stack):
    done = stack.run("doctor", environment={"FOREBAY_RETENTION_DAYS": "many"})
    assert done.returncode == 2 and "FOREBAY_RETENTION_DAYS" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_of_files_are_scored_in_bulk_into_a_folder(stack, tmp_path):
    for name, rows in (("a", 300), ("b", 200)):
        lines = "".join(f"{name}{row},{row},{-row}\n" for row in range(rows))
        (tmp_path / f"{name}.csv").write_text("id,x,y\n" + lines + f"{name}bad,none,1\n")
    pattern, out = str(tmp_path / "*.csv"), tmp_path / "out"
    argv = ["bulk", "echo", pattern, "--columns", "x,y", "--keep", "id", "--where", "x != 7"]
    tried = stack.run(*argv, "--dry-run", "--timeout-s", "120", deadline_s=240)
    assert tried.returncode == 0, tried.stderr + stack.logs()
    assert "ROW_ID" in tried.stdout and "a0" in tried.stdout and "estimated time" in tried.stdout
    done = stack.run(
        *(*argv, "--output-format", "jsonl", "--output", str(out), "--wait", "--timeout-s", "240"),
        deadline_s=300,
    )
    assert done.returncode == 0, done.stderr + stack.logs()
    rows = [
        json.loads(line) for path in out.glob("part-*") for line in path.read_text().splitlines()
    ]
    found = {row["id"]: row["prediction"] for row in rows}
    expected = {
        f"{name}{n}": [n, -n] for name, count in (("a", 300), ("b", 200)) for n in range(count)
    }
    del expected["a7"], expected["b7"]
    assert found == expected and len(rows) == len(found)
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert [error["row_id"][0] for error in errors] == ["0", "1"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["complete"], manifest["rows"], manifest["failed"]) == (True, 498, 2)
    job = answer(stack.run("jobs", "list", "--limit", "1", "--json"))[0]
    shown = stack.run("jobs", "show", job["id"]).stdout
    assert "2 failed" in shown and "100 %" in shown
    again = stack.run("jobs", "retry", job["id"], "--failed-rows", "--wait", deadline_s=240)
    assert again.returncode == 0 and "failed" in again.stdout, again.stderr
    assert "2 of 2 rows (100 %)" in again.stderr and "skipped" not in again.stdout
