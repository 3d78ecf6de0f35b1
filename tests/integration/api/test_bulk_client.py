"""The SDK and the command over bulk jobs, against the service; the worker is played by hand."""

from __future__ import annotations

import json
import threading

import pytest

from forebay import Forebay
from producers.cli.app import build_app, run
from producers.client import BadArgument, Conflict, ForebayError, JobFailed
from storage.records.bulk import spec_of
from storage.records.jobs import JobFilter
from tests.support.bulk_hand import BulkHand
from tests.support.waiting import wait_until

ERROR = {"row_id": "0:3", "code": "invalid_value", "message": "no number"}
RESULT = {
    "rows": 19,
    "failed": 1,
    "skipped": 0,
    "parts": 2,
    "size_bytes": 2048,
    "device_s": 0.5,
    "wall_s": 2.0,
    "output": None,
    "manifest": None,
    "errors": None,
}


@pytest.fixture
def house(quiet_house):
    quiet_house.push()
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


def scored(house, job_id, finish=True, **extra):
    """Both of its shards, one row of the first failed."""
    hand = BulkHand(house, job_id).start(shards=2)
    names = [hand.part(b"first\n" * 300_000, errors=[ERROR]), hand.part(b"second\n")]
    if finish:
        hand.finish(RESULT | extra, manifest={"complete": True, "job": job_id})
    return names


def newest(house):
    with house.database.read() as tx:
        found = tx.jobs.list("default", JobFilter(), limit=1, after=None)
    return found[0].id if found else None


def in_the_background(house, play):
    """Play a worker for the next job that comes; join it. If it fails, the job is cancelled, so
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


def test_what_was_said_is_what_is_asked_for(house, client):
    job = client.bulk(
        "vectors",
        ["s3://in/a.csv", "s3://in/b/*.csv"],
        output="s3://out/run1",
        format="csv",
        columns={"x": ["a", "b"]},
        where=[("split", "=", "test")],
        output_format="jsonl",
        keep=("id",),
        overwrite=True,
        max_error_share=0.5,
        priority=1,
        metadata={"k": "v"},
        max_attempts=7,
    )
    spec = spec_in(house, job.id)
    assert spec.input.uris == ("s3://in/a.csv", "s3://in/b/*.csv") and spec.input.format == "csv"
    assert spec.input.columns == {"x": ("a", "b")} and spec.input.where[0].value == "test"
    assert (spec.output.uri, spec.output.format) == ("s3://out/run1", "jsonl")
    assert (spec.output.keep, spec.output.overwrite) == (("id",), True)
    assert (spec.max_error_share, spec.max_attempts, spec.dry_run) == (0.5, 7, False)
    assert (job.document["priority"], job.metadata) == (1, {"k": "v"})
    assert job.progress["state"] == "waiting" and not job.done


def content_of(house, uri):
    with house.client() as http:
        file_id = uri.removeprefix("forebay://files/")
        found = http.get(f"/v1/files/{file_id}").json()
        return found["filename"], http.get(f"/v1/files/{file_id}/content").content


def test_files_of_this_machine_are_uploaded_first(house, client, tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.csv").write_text(f"{name}\n1\n")
    one = spec_in(house, client.bulk("vectors", tmp_path / "c.csv").id)
    assert content_of(house, one.input.uris[0]) == ("c.csv", b"c\n1\n")
    several = spec_in(house, client.bulk("vectors", str(tmp_path / "[ab].csv")).id)
    names = [content_of(house, uri)[0] for uri in several.input.uris]
    assert names == ["a.csv", "b.csv"]
    twice = client.bulk("vectors", [tmp_path / "a.csv", tmp_path / "a.csv", "s3://in/x.csv"])
    uris = spec_in(house, twice.id).input.uris
    assert uris[0] == uris[1] and uris[2] == "s3://in/x.csv"


def test_pictures_of_this_machine_become_a_list_of_addresses(house, client, tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.PNG").write_bytes(name.encode())
    spec = spec_in(house, client.bulk("vectors", f"{tmp_path}/*.PNG").id)
    assert spec.input.format == "uris"
    _, listed = content_of(house, spec.input.uris[0])
    assert [content_of(house, uri)[0] for uri in listed.decode().split()] == ["a.PNG", "b.PNG"]


@pytest.mark.parametrize("wrong", ["nowhere.csv", "*.nothing", ".", [], 7])
def test_wrong_inputs_are_refused_before_anything_is_sent(house, client, tmp_path, wrong):
    given = str(tmp_path / wrong) if isinstance(wrong, str) else wrong
    with pytest.raises(BadArgument):
        client.bulk("vectors", given)
    assert house.http.get("/v1/jobs").json()["data"] == []


def test_wait_tells_the_progress_and_ends(house, client):
    worker = in_the_background(house, lambda id_: scored(house, id_))
    job = client.bulk("vectors", "s3://in/a.csv")
    seen = []
    job.wait(60, on_progress=lambda now: seen.append(now.progress["state"]))
    worker.join(60)
    assert job.state == "succeeded" and job.result["rows"] == 19
    assert seen[-1] == "ended" and job.progress["rows_failed"] == 1


def test_pause_resume_parts_errors_and_manifest(house, client):
    job = client.bulk("vectors", "s3://in/a.csv")
    names = scored(house, job.id, finish=False)
    assert job.pause().progress["state"] == "paused"
    assert job.resume().progress["state"] != "paused"
    parts = job.parts()
    assert [part.name for part in parts] == names
    assert (parts[0].rows, parts[0].failed, parts[0].size_bytes) == (9, 1, 1_800_000)
    assert list(job.errors()) == [ERROR]
    assert job.manifest()["complete"] is False


def test_a_download_is_whole_compared_and_never_replaces_a_file(house, client, tmp_path):
    job = client.bulk("vectors", "s3://in/a.csv")
    names = scored(house, job.id)
    paths = job.download(tmp_path / "out")
    assert [path.name for path in paths] == [*names, "errors.jsonl", "manifest.json"]
    assert paths[0].read_bytes() == b"first\n" * 300_000
    assert json.loads(paths[2].read_text()) == ERROR
    assert json.loads(paths[3].read_text()) == {"complete": True, "job": job.id}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in paths
    )
    with pytest.raises(BadArgument, match="already"):
        job.download(tmp_path / "out")
    paths[1].write_text("somebody else's")
    before = paths[0].stat().st_mtime_ns
    assert job.download(tmp_path / "out", overwrite=True) == paths
    assert paths[1].read_bytes() == b"second\n"
    assert paths[0].stat().st_mtime_ns == before  # it was as it should be


def test_wrong_bytes_are_no_file(house, client, tmp_path):
    job = client.bulk("vectors", "s3://in/a.csv")
    hand = BulkHand(house, job.id).start(shards=1)
    name = hand.part(b"as it was written\n")
    key = f"{hand.base}/{name}"
    house.objects.delete([key])
    house.objects.put(key, b"as it is not today\n"[:18])
    with pytest.raises(ForebayError) as caught:
        job.download(tmp_path / "out")
    assert caught.value.code == "digest_mismatch"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_this_machine_is_filled_by_wait(house, client, tmp_path):
    folder = tmp_path / "out"
    job = client.bulk("vectors", "s3://in/a.csv", output=folder)
    assert spec_in(house, job.id).output.uri is None
    names = scored(house, job.id)
    job.wait(60)
    assert {path.name for path in folder.iterdir()} == {*names, "errors.jsonl", "manifest.json"}
    with pytest.raises(BadArgument, match="not empty"):
        client.bulk("vectors", "s3://in/a.csv", output=folder)


def test_retries_go_on_or_do_the_failed_rows(house, client):
    job = client.bulk("vectors", "s3://in/a.csv", output="s3://out/a")
    hand = BulkHand(house, job.id).start(shards=2)
    hand.part(errors=[ERROR])
    hand.fail("model_error", "no")
    with pytest.raises(JobFailed):
        _ = job.wait(60).result
    again = job.retry()
    assert spec_in(house, again.id).resume_of == job.id
    with pytest.raises(Conflict):
        job.retry()
    failed = job.retry(failed_rows=True, output="s3://out/b", output_format="csv")
    output = spec_in(house, failed.id).output
    assert (output.uri, output.format) == ("s3://out/b", "csv")


def test_the_command_scores_waits_and_downloads(house, forebay, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    worker = in_the_background(house, lambda id_: scored(house, id_))
    code, out, err = forebay(
        *("bulk", "vectors", tmp_path / "rows.csv", "--output", tmp_path / "out", "--wait"),
        *("--columns", "a,b", "--where", "a > 0", "--keep", "a", "--max-errors", "20%"),
        *("--output-format", "csv", "--metadata", "team=x", "--priority", "0"),
    )
    worker.join(60)
    assert code == 0, err
    assert "19" in out and str(tmp_path / "out") in out and "10 rows/s" in out
    assert "20 of 20 rows (100 %), 1 failed" in err and "--failed-rows" in err
    assert f"uploading {tmp_path / 'rows.csv'} (8 B)" in err
    assert (tmp_path / "out" / "manifest.json").exists()
    (job,) = house.http.get("/v1/jobs").json()["data"]
    spec = spec_in(house, job["id"])
    assert spec.input.columns == {"": ("a", "b")} and spec.output.keep == ("a",)
    assert (spec.input.where[0].op, spec.input.where[0].value) == (">", 0)
    assert (spec.max_error_share, job["metadata"], job["priority"]) == (0.2, {"team": "x"}, 0)


def test_the_command_without_wait_names_the_job(house, forebay):
    code, out, _ = forebay("bulk", "vectors", "s3://in/a.csv", "s3://in/b.csv")
    assert code == 0
    job_id = out.strip()
    assert spec_in(house, job_id).input.uris == ("s3://in/a.csv", "s3://in/b.csv")
    document = json.loads(forebay("bulk", "vectors", "s3://in/a.csv", "--join", "--json")[1])
    assert spec_in(house, document["id"]).output.join


def test_a_dry_run_is_a_table(house, forebay):
    result = {
        "dry_run": True,
        "rows_total": 12_345,
        "sample_rows": 100,
        "failed": 1,
        "shards": 4,
        "estimated_s": 300.0,
        "estimated_output_bytes": 5_000_000,
        "columns": {"prediction": "fixed_size_list<float>[2]"},
        "first_rows": [{"row_id": "0:0", "prediction": [0.25, 0.75]}],
        "errors": [ERROR],
    }
    worker = in_the_background(house, lambda id_: BulkHand(house, id_).start().finish(result))
    code, out, err = forebay("bulk", "vectors", "s3://in/a.csv", "--dry-run")
    worker.join(60)
    assert code == 0, err
    for words in ("12,345", "5 min", "5.0 MB", "PREDICTION", "[0.25, 0.75]", "0:0"):
        assert words in out
    assert "no number" in err


def test_jobs_are_paused_resumed_shown_downloaded_and_done_again(house, forebay, tmp_path):
    job_id = forebay("bulk", "vectors", "s3://in/a.csv")[1].strip()
    assert forebay("jobs", "pause", job_id)[1].split() == [job_id, "paused"]
    assert forebay("jobs", "resume", job_id)[1].split() == [job_id, "waiting"]
    scored(house, job_id)
    shown = forebay("jobs", "show", job_id)[1]
    assert "20 of 20 rows (100 %), 1 failed" in shown
    code, out, _ = forebay("jobs", "wait", job_id)
    assert code == 0 and "failed" in out
    code, out, _ = forebay("jobs", "download", job_id, tmp_path / "out")
    assert code == 0 and str(tmp_path / "out" / "manifest.json") in out.splitlines()
    code, _, err = forebay("jobs", "download", job_id, tmp_path / "out")
    assert code == 2 and "--overwrite" in err
    again = forebay("jobs", "retry", job_id, "--failed-rows", "--output", "s3://out/again")[1]
    assert spec_in(house, again.strip()).failed_rows_of == job_id
    assert forebay("jobs", "pause", job_id)[0] == 2


def test_how_it_ends_is_the_exit_code(house, forebay):
    worker = in_the_background(house, lambda id_: BulkHand(house, id_).start().fail())
    code, out, err = forebay("bulk", "vectors", "s3://in/a.csv", "--wait")
    worker.join(60)
    assert code == 1 and out == "" and "input_not_found: there is no file" in err
    job_id = forebay("bulk", "vectors", "s3://in/a.csv")[1].strip()
    forebay("jobs", "cancel", job_id)
    assert forebay("jobs", "wait", job_id)[0] == 3
    code, _, err = forebay("bulk", "vectors", "s3://else/a.csv")
    assert code == 2 and "input.uri" in err
