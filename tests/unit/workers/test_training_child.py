"""A trainer's process: what it said last, how it ended, and that it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from storage.clock import SystemClock
from tests.support.waiting import wait_until
from workers.training.child import LAST_LINES, LINE_CHARACTERS, TrainerChild, how

ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def child(program: str, *arguments: str) -> TrainerChild:
    return TrainerChild([sys.executable, "-c", program, *arguments], ENVIRON, SystemClock())


def ended(one: TrainerChild) -> int:
    code = wait_until(lambda: (one.wait(0.1),), 20)[0]
    while code is None:
        code = one.wait(0.5)
    return code


def test_the_last_lines_are_kept_and_long_ones_are_cut() -> None:
    one = child(
        "import sys\n"
        "for n in range(100): print('line', n)\n"
        "sys.stdout.flush()\n"
        "sys.stderr.write('I0000 00:00:1 port.cc:153] oneDNN is on\\n')\n"
        "sys.stderr.write('  ' + 'x' * 100_000 + '\\n\\nthe end\\n')\n"
        "sys.exit(3)"
    )
    assert ended(one) == 3
    lines = one.last_lines()
    assert len(lines) == LAST_LINES
    assert lines[-3:] == ["line 99", "  " + "x" * (LINE_CHARACTERS - 2), "the end"]


def test_it_is_asked_to_end_and_killed_when_it_does_not(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    one = child(
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(60)",
        str(ready),
    )
    wait_until(ready.exists, 20)
    one.stop(0.2)
    one.stop(60)  # the first word counts
    assert ended(one) == -9


def test_it_does_not_outlive_its_owner() -> None:
    one = child("import time; time.sleep(60)")
    one.close()
    assert one.wait(0) == -9


def test_it_knows_whose_it_is_and_gives_way() -> None:
    one = child(
        "import os, time\n"
        "time.sleep(0.3)\n"
        "print(os.environ['FOREBAY_WORKER_PARENT_PID'], os.getsid(0) == os.getpid(),"
        " os.getpriority(os.PRIO_PROCESS, 0))"
    )
    assert ended(one) == 0
    parent, alone, nice = one.last_lines()[-1].split()
    assert (int(parent), alone) == (os.getpid(), "True") and int(nice) >= 10


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "it ended with exit code 1"),
        (-9, "it was killed (SIGKILL), perhaps for want of memory"),
        (-11, "it was ended by SIGSEGV"),
        (-60, "it was ended by signal 60"),
    ],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert how(code) == words
