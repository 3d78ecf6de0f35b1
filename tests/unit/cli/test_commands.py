"""A user's verbs: what they print, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import numpy as np
import pytest

import producers.client
from producers.cli.exits import Exit
from producers.cli.sources import split_json_flag
from tests.unit.client.fake_service import problem


def test_one_input_is_a_job_and_its_id_alone_is_the_answer(forebay, service):
    code, out, err = forebay("submit", "digits", "--text", "hello", "--priority", "9")
    (job,) = service.jobs.values()
    assert code == 0 and out.strip() == job["id"] and "queued" in err
    assert job["_body"]["priority"] == 9


def test_waiting_prints_the_result(forebay):
    assert forebay("submit", "digits", "--text", "hello", "--wait")[:2] == (0, 'text="hello"\n')


@pytest.mark.parametrize(
    ("end", "code"), [("failed", 1), ("cancelled", 3), ("expired", 3), ("fine", 0)]
)
def test_the_exit_code_says_how_the_job_ended(forebay, end, code):
    got, _, err = forebay("submit", "digits", "--text", end, "--wait")
    assert got == code
    if end == "failed":
        assert "bad_item: it is bad" in err and "Traceback" not in err


def test_several_files_are_one_group(forebay, service, tmp_path):
    names = []
    for number in range(3):
        names.append(tmp_path / f"{number}.png")
        names[-1].write_bytes(b"png")
    code, out, _ = forebay("submit", "digits", "--image", *names, "--wait")
    assert code == 0 and len(service.groups) == 1 and len(service.jobs) == 3
    assert [str(name) in out for name in names] == [True] * 3
    code, out, _ = forebay("submit", "digits", "--image", names[0], "--image", names[1], "--json")
    assert len(json.loads(out)["jobs"]) == 2


def test_json_after_submit_is_an_input_or_the_form_of_the_answer(forebay, service, tmp_path):
    (tmp_path / "in.json").write_text('{"text": "from a file"}')
    code, out, _ = forebay("submit", "m", "--json", tmp_path / "in.json", "--wait", "--json")
    assert code == 0 and json.loads(out)["result"] == {"outputs": {"text": "from a file"}}
    (tmp_path / "list.json").write_text('[{"text": "a"}, {"tensor": [1]}]')
    (tmp_path / "numbers.json").write_text("[[1, 2]]")
    forebay("submit", "m", "--json", tmp_path / "list.json", tmp_path / "numbers.json")
    inputs = [job["_body"]["input"] for job in service.jobs.values()]
    assert inputs[1:] == [{"text": "a"}, {"tensor": [1]}, {"tensor": [[1, 2]]}]


def test_telling_the_two_meanings_of_json_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("")
    assert split_json_flag(["submit", "m", "--json"]) == ["submit", "m", "--json"]
    assert split_json_flag(["submit", "--json", "m", "--text", "a"])[1] == "--json"
    assert split_json_flag(["submit", "m", "--json", "a.json"])[2:] == ["--json-file", "a.json"]
    assert split_json_flag(["submit", "m", "--json=x"])[2:] == ["--json-file", "x"]
    assert split_json_flag(["submit", "m", "--json", "-"])[2:] == ["--json-file", "-"]
    assert split_json_flag(["submit", "m", "--json", "digits"])[2:] == ["--json-file", "digits"]
    assert split_json_flag(["jobs", "list", "--json", "a.json"])[2] == "--json"


def test_an_array_of_numpy_save_needs_no_numpy(forebay, service, tmp_path):
    array = np.arange(6, dtype="float32").reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    assert forebay("submit", "m", "--npy", tmp_path / "a.npy")[0] == 0
    (job,) = service.jobs.values()
    sent = job["_body"]["input"]["tensor"]
    assert sent["dtype"] == "float32" and sent["shape"] == [2, 3]
    assert sent == producers.client.client.encode_input({"tensor": array})["tensor"]


@pytest.mark.parametrize("what", ["text", "truncated", "objects", "fortran", "header"])
def test_a_file_that_is_no_plain_array_is_refused(forebay, tmp_path, what):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4), order="F" if what == "fortran" else "C"))
    if what == "text":
        path.write_text("hello")
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    if what == "objects":
        np.save(path, np.array([{}]), allow_pickle=True)
    if what == "header":
        path.write_bytes(path.read_bytes()[:20])
    code, _, err = forebay("submit", "m", "--npy", path)
    assert code == 2 and str(path) in err


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "m"),
        ("submit", "m", "--text", "a", "--image", "b"),
        ("submit", "m", "--image", "/nowhere/a.png"),
        ("submit", "m", "--json", "/nowhere/a.json"),
        ("submit", "m", "--text", "a", "--priority", "10"),
        ("submit", "m", "--text", "a", "--metadata", "novalue"),
        ("submit", "nobody", "--text", "a"),
        ("jobs", "show", "no-such-job"),
        ("jobs", "list", "--limit", "0"),
        ("models", "push", "m", "/nowhere.keras"),
        ("models", "push", "m", "pyproject.toml", "--options", "[1]"),
        ("models", "push", "m", "pyproject.toml", "--serving", "{"),
        ("models", "push", "m", "pyproject.toml", "--serving", "@/nowhere.json"),
        ("models", "push", "m", "pyproject.toml", "--trusted"),
        ("bulk", "m", "in.csv", "--output", "x"),
        ("train", "/nowhere/spec.yaml"),
        ("train", "pyproject.toml"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_in_two_with_a_sentence(forebay, service, argv):
    code, out, err = forebay(*argv)
    assert code == 2 and err.strip() and out == ""
    assert "Traceback" not in err and service.jobs == {}


def test_a_service_that_is_not_there_is_exit_four(forebay, service):
    service.faults = [httpx.ConnectError("connection refused")] * 99
    code, _, err = forebay("jobs", "list")
    assert code == 4 and "forebay up" in err
    service.faults = [problem(503, "database_unavailable", "the database is down")] * 99
    code, _, err = forebay("jobs", "list", "--json")
    assert code == 4 and json.loads(err)["error"]["code"] == "database_unavailable"


def test_jobs_are_listed_shown_cancelled_and_retried(forebay, service):
    forebay("submit", "m", "--text", "a", "--metadata", "team=x")
    (job_id,) = service.jobs
    _, out, _ = forebay("jobs", "list")
    assert job_id in out and "JOB" in out
    assert json.loads(forebay("jobs", "list", "--json")[1])[0]["metadata"] == {"team": "x"}
    assert "state" in forebay("jobs", "show", job_id)[1]
    assert forebay("jobs", "cancel", job_id)[1].split() == [job_id, "cancelled"]
    code, out, _ = forebay("jobs", "retry", job_id, "--wait", "--json")
    assert code == 0 and json.loads(out)["retry_of"] == job_id
    assert forebay("jobs", "wait", job_id)[0] == Exit.STOPPED


def test_groups_are_waited_for_read_and_cancelled(forebay, service):
    forebay("submit", "m", "--text", "a", "failed")
    (group,) = service.groups
    assert forebay("groups", "wait", group)[:2] == (1, "1 succeeded, 1 failed\n")
    code, out, _ = forebay("groups", "results", group)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [row["state"] for row in rows] == ["succeeded", "failed"]
    assert json.loads(forebay("groups", "show", group, "--json")[1])["total"] == 2
    assert forebay("groups", "cancel", group)[1] == "2 cancelled\n"


def test_not_done_in_time_is_exit_three(forebay, service):
    service.looks_until_done = 10**9
    code, _, err = forebay("submit", "m", "--text", "a", "--wait", "--timeout-s", "0.05")
    assert code == 3 and "wait again" in err


def test_models_are_pushed_listed_and_named(forebay, service, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"zip")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    argv = ("models", "push", "digits", tmp_path / "m.keras", "--input", "image")
    code, out, _ = forebay(*argv, "--labels", tmp_path / "labels.txt", "--top-k", "2")
    assert code == 0 and out.split() == ["digits:1", "pending"]
    assert b'{"input": "image", "top_k": 2, "labels": ["a", "b"]}' in service.requests[-1].content
    assert "digits" in forebay("models", "list")[1]
    assert forebay("models", "alias", "digits", "prod", "1")[1] == "digits@prod is digits:1\n"


def test_the_serving_knobs_are_given_as_json_or_as_a_file(forebay, service, tmp_path):
    (tmp_path / "m.keras").write_bytes(b"zip")
    (tmp_path / "knobs.json").write_text('{"max_batch": 8}')
    for given in ('{"max_batch": 8}', f"@{tmp_path / 'knobs.json'}"):
        assert forebay("models", "push", "m", tmp_path / "m.keras", "--serving", given)[0] == 0
        assert b'{"serving": {"max_batch": 8}}' in service.requests[-1].content


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from forebay.commands import add_commands;"
        "from producers.cli.app import build_app, run;"
        "app = build_app(); add_commands(app); run(app, ['--help']);"
        "heavy = {'httpx', 'rich', 'numpy', 'sqlalchemy', 'fastapi', 'celery', 'keras', 'storage'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]" and "submit" in done.stdout


def test_the_face_offers_the_sdk():
    import forebay

    assert forebay.Forebay is producers.client.Forebay
    assert all(name[0].isupper() or name == "verify" for name in producers.client.__all__)
    assert all(getattr(forebay, name) is not None for name in producers.client.__all__)
    assert set(producers.client.__all__) <= set(dir(forebay))
    with pytest.raises(AttributeError):
        _ = forebay.Nothing
