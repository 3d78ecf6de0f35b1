"""The worker of ``forebay up`` from its parent's side: together or not at all, and no poison.

The child here is a script of a few lines: it claims a job, writes the ledger as a device thread
does, and dies in the way that the test asks for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from forebay.child import Child, ChildParts
from storage.records.jobs import JobState
from tests.support.household import Household, tensor
from tests.support.waiting import wait_until
from workers.devices import CPU

SCRIPT = """
import argparse, os, signal, sys, time
from pathlib import Path
from storage.clock import random_bits
from storage.database import Database
from storage.records.ids import uuid7
from storage.records.sessions import NewSession
from workers.inference.ledger import Ledger

parser = argparse.ArgumentParser()
for name in ("parent-pid", "poke-fd", "ready-fd", "news-fd"):
    parser.add_argument("--" + name, type=int)
parser.add_argument("--ledger", type=Path)
given = parser.parse_args()
home, job = Path(os.environ["HOME_DIR"]), os.environ["JOB"]
starts = home / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
first = len(starts.read_text()) == 1
os.write(given.ready_fd, b"x")
print("I0000 nobody wants to know", file=sys.stderr)
print("something to say", file=sys.stderr, flush=True)
how = os.environ["HOW"] if first or os.environ["AGAIN"] == "1" else "wait"
if how == "wait":
    assert os.read(given.poke_fd, 1)
    (home / "poked").write_text("")
    signal.pause()
database = Database.open(f"sqlite:///{home}/forebay.db")
session = uuid7(time.time_ns() // 1_000_000, random_bits())
with database.begin() as tx:
    tx.sessions.open(NewSession(session, "n", "h", "cpu", "default"), 60_000)
with database.begin() as tx:
    # What loads has claimed nothing for it yet.
    assert how.startswith("loading-") or [one.id for one in tx.jobs.claim(session, [job])] == [job]
ledger = Ledger(given.ledger)
ledger.session(session)
if how.startswith("busy-"):
    ledger.publish(0, session, [job])
if how.startswith("loading-"):
    ledger.loading(os.environ["VERSION"])
end = how.rpartition("-")[2]
if end.isdigit():
    os._exit(int(end))
os.kill(os.getpid(), getattr(signal, end))
signal.pause()
"""


@pytest.fixture
def life(tmp_path):
    """Start a child that ends as asked; gives it, its job, and what its parent was told."""
    house = Household.on_sqlite(tmp_path)
    (job,) = house.submit([tensor(1)])
    told, threads = [], []
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)

    def start(how, again="0"):
        environ = {**os.environ, "HOW": how, "AGAIN": again, "JOB": job}
        environ |= {"HOME_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        environ["VERSION"] = house.version.id
        parts = ChildParts(
            database=house.database,
            device=CPU,
            environ=environ,
            ledger=tmp_path / "worker.ledger",
            lock_fd=lock,
            on_ready=lambda: told.append("ready"),
            on_death=told.append,
            argv=(sys.executable, "-c", SCRIPT),
        )
        child = Child(parts)
        thread = threading.Thread(target=child.run)
        thread.start()
        threads.append((child, thread))
        return child

    yield start, lambda: house.job(job), told
    for child, thread in threads:
        child.stop()
        thread.join(20)
        assert not thread.is_alive()
        child.close()
    house.database.close()
    os.close(lock)


@pytest.mark.parametrize("how", ["busy-SIGSEGV", "busy-SIGABRT", "busy-3"])
def test_a_death_at_work_blames_what_was_on_the_device_and_the_service_goes_on(life, how):
    start, job, told = life
    start(how)
    wait_until(lambda: told == ["ready", "ready"], 20, what="a second worker")
    assert (job().state, job().attempts) == (JobState.QUEUED, 1)


def test_a_poison_item_is_given_up_after_its_attempts_and_not_before(life):
    start, job, told = life
    child = start("busy-SIGSEGV", again="1")
    wait_until(lambda: job().state is JobState.FAILED, 30, what="the end of the item")
    assert job().error.code == "poison" and job().attempts == 3
    # The next worker has nothing to claim, and dies of the assertion: not at its work.
    wait_until(lambda: told[-1:] == ["exit code 1"], 20, what="the parent to be told")
    assert child.trouble() is not None


def test_a_model_that_kills_its_worker_while_it_loads_is_given_up(life):
    start, job, told = life
    start("loading-SIGSEGV", again="1")
    wait_until(lambda: job().state is JobState.FAILED, 30, what="the end of the version")
    assert job().error.code == "kills_its_worker" and job().attempts == 0
    assert 3 <= len(told) <= 5 and set(told) == {"ready"}, "given up too soon, or not replaced"


@pytest.mark.parametrize("how", ["idle-SIGSEGV", "idle-1", "idle-SIGKILL", "busy-SIGKILL"])
def test_any_other_death_is_the_end_of_both(life, how):
    start, _, told = life
    start(how)
    wait_until(lambda: len(told) == 2, 20, what="the parent to be told")
    assert told[1] in (how.partition("-")[2], "exit code 1")


def test_a_worker_that_found_itself_useless_is_replaced(life):
    start, job, told = life
    start("idle-70")
    wait_until(lambda: told == ["ready", "ready"], 20, what="a second worker")
    assert (job().state, job().attempts) == (JobState.QUEUED, 0)


def test_a_poke_arrives_and_a_stop_ends_it(life, tmp_path, capfd):
    start, _, told = life
    child = start("wait")
    wait_until(lambda: told == ["ready"], 20, what="the worker")
    assert child.trouble() is None
    for _ in range(100_000):  # more than a pipe holds: nobody may be kept waiting
        child.poke()
    wait_until((tmp_path / "poked").exists, 10, what="the poke")
    assert child.stop() == -signal.SIGTERM
    assert told == ["ready"]
    assert capfd.readouterr().err == "something to say\n"
