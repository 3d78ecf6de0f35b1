"""``forebay up``, as somebody at a terminal meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.support.caller import echo_jobs, only_output
from tests.support.process import ChildProcess
from tests.support.stack import EmbeddedStack, _runs, command, descendants
from tests.support.waiting import wait_until
from tests.support.zoo import make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zoo():
    return make()


@pytest.fixture
def stack(tmp_path):
    made = EmbeddedStack(tmp_path)
    yield made
    made.close()


def worker_of(stack) -> int:
    """The child, once it is there."""
    found = wait_until(lambda: descendants(stack.pid("up")), 20, what="the worker process")
    return found[0]


def ended(stack) -> int:
    part = stack._running["up"]
    wait_until(lambda: not part.alive(), 30, what="the end of forebay up")
    return part._popen.returncode


def ready(stack) -> None:
    log = stack.folder / "up.log"
    wait_until(lambda: "ready: a worker on" in log.read_text(), 90, what="the worker")


def test_a_second_one_is_refused_by_name_and_a_taken_port_is_said(stack, tmp_path):
    stack.start()
    done = stack.run("up", "--port", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert str(stack.pid("up")) in done.stderr and "FOREBAY_HOME" in done.stderr

    other = {"FOREBAY_HOME": str(tmp_path / "other")}
    done = stack.run("up", "--port", str(stack.port), "--json", environment=other)
    assert done.returncode == 2
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["code"] == "port_in_use" and str(stack.port) in error["message"]
    assert not (tmp_path / "other" / "forebay.db").exists()


def test_ctrl_c_ends_both_gracefully(stack):
    stack.start()
    worker = worker_of(stack)
    ready(stack)
    os.killpg(stack.pid("up"), signal.SIGINT)  # as a terminal does it
    assert ended(stack) == 0
    assert not _runs(worker) and "Traceback" not in stack.logs()


def test_the_killed_api_takes_its_worker_along(stack):
    stack.start()
    worker = worker_of(stack)
    ready(stack)
    os.kill(stack.pid("up"), signal.SIGKILL)
    wait_until(lambda: not _runs(worker), 20, what="the worker's end")


def test_the_killed_worker_takes_the_api_along(stack):
    stack.start()
    os.kill(worker_of(stack), signal.SIGKILL)
    assert ended(stack) == 1
    assert "SIGKILL" in stack.logs() and "Traceback" not in stack.logs()


def test_what_was_accepted_before_a_kill_of_everything_is_done_after_the_next_start(stack, zoo):
    stack.start()
    with stack.caller() as caller:
        caller.push("slow", zoo.slow_echo)  # taken at once, though the worker is not there yet
        group = caller.submit_many(echo_jobs("slow", range(300)))["group"]
        wait_until(lambda: caller.group(group)["counts"]["running"], 60, what="running jobs")
    stack.kill()
    stack.start()
    with stack.caller() as caller:
        assert caller.finish_group(group)["counts"]["succeeded"] == 300
        for row in caller.results(group):
            number = int(row["custom_id"][1:])
            assert only_output(row["result"]) == [number, -number]
            # One batch was on the device; it was killed with everything and blames nobody.
            assert caller.job(row["id"])["attempts"] <= 1
            break


def test_services_in_the_environment_are_no_embedded_mode(stack):
    services = {
        "FOREBAY_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/x",
        "FOREBAY_BROKER_URL": "amqp://user:hunter2@127.0.0.1:1//",
        "FOREBAY_OBJECTS_URL": "s3://bucket/x",
    }
    done = stack.run("up", environment=services)
    assert done.returncode == 2 and "forebay worker" in done.stderr
    for verb in ("api", "worker", "keeper"):
        done = stack.run(verb)
        assert done.returncode == 2 and "forebay up" in done.stderr
    done = stack.run("api", environment=services)
    assert done.returncode == 4 and "hunter2" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_its_events_are_json_for_a_program_and_sigterm_ends_it_well(stack):
    process = ChildProcess(
        command("up", "--port", "0", "--json"),
        log=stack.folder / "events.log",
        env=stack.environment,
    )
    try:
        log = stack.folder / "events.log"
        wait_until(lambda: '"ready"' in log.read_text(), 90, what="the event")
        # TensorFlow writes what it likes to standard error, which is the same file here.
        lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
        assert [event["event"] for event in events] == ["listening", "ready"]
        assert events[0]["url"].startswith("http://127.0.0.1:")
        process.stop()
        assert process._popen.returncode == 0
    finally:
        process.kill()


def test_help_comes_at_once(stack):
    """0.4 s is the promise; the fastest of three, as the machine may be busy."""
    import time

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command("--help"), check=True, capture_output=True, env=stack.environment)
        return time.perf_counter() - began

    assert min(once() for _ in range(3)) < 0.4
