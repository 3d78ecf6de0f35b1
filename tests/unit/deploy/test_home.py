"""One Forebay per home, and never a home that stays locked after it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forebay.home import lock_home
from producers.cli.exits import Failure

HOLD = (
    "import sys, os, pathlib; from forebay.home import lock_home;"
    "lock_home(pathlib.Path(sys.argv[1]), os.getpid()); print('held', flush=True);"
    "sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_one_is_told_who_has_the_home(tmp_path, holder):
    with pytest.raises(Failure) as caught:
        lock_home(tmp_path, os.getpid())
    assert str(holder.pid) in caught.value.message and caught.value.exit_code == 2
    assert "FOREBAY_HOME" in caught.value.hint


def test_a_killed_one_leaves_the_home_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock_home(tmp_path, os.getpid()).release()


def test_the_other_half_of_a_killed_one_is_waited_for(tmp_path, holder):
    """Its worker inherited the lock and needs a moment to follow."""
    (tmp_path / "lock").write_text(f"{_free_pid()}\n")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            holder.kill()
            holder.wait()

    lock_home(tmp_path, os.getpid(), sleep=sleep).release()
    assert len(slept) >= 3


def test_it_is_not_waited_for_without_end(tmp_path, holder):
    (tmp_path / "lock").write_text(f"{_free_pid()}\n")
    times = iter(range(0, 10_000, 10))
    with pytest.raises(Failure):
        lock_home(tmp_path, 1, sleep=lambda _: None, monotonic=lambda: float(next(times)))


def test_a_home_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="FOREBAY_HOME"):
        lock_home(tmp_path / "file" / "home", os.getpid())


def _free_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid
