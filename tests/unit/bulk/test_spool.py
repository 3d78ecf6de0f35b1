"""The folder of parts that are being written goes with its process, or after it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.bulk.spool import Spool

OTHER = """
import sys, time
from pathlib import Path
from workers.bulk.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.open()
(spool.folder / "part").write_bytes(b"half")
print(spool.folder, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        mine = Spool(tmp_path)
        mine.open()
        assert left.is_dir() and mine.folder.is_dir()  # the other one lives
        os.kill(other.pid, signal.SIGKILL)
        other.wait(20)
        assert (left / "part").is_file()
        third = Spool(tmp_path)
        third.open()
        assert not left.exists() and mine.folder.is_dir()
        mine.close()
        third.close()
        assert list(tmp_path.iterdir()) == []


def test_a_start_beside_another_one_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins just before the first one has its lock."""
    mine, other, locks = Spool(tmp_path), Spool(tmp_path), []
    lock = fcntl.flock

    def slow(fd: int, flags: int) -> None:
        if not locks:
            locks.append(fd)
            other.open()
        lock(fd, flags)

    monkeypatch.setattr(fcntl, "flock", slow)
    mine.open()
    assert mine.folder.is_dir() and other.folder.is_dir()
    mine.close()
    other.close()
