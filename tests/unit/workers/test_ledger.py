"""What a process says of itself must be readable when it is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workers.inference.ledger import Ledger, OnDevice, read

SESSION = "01890000-0000-7000-8000-000000000001"
OTHER = "01890000-0000-7000-8000-000000000002"
JOBS = [f"01890000-0000-7000-8000-{n:012x}" for n in range(100, 228)]


def test_it_names_the_jobs_on_the_device_and_nobody_after_them(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gpu0.ledger"
    ledger = Ledger(path)
    assert read(path) == OnDevice(None, None, ())
    ledger.session(OTHER)
    ledger.publish(SESSION, JOBS)
    assert read(path) == OnDevice(OTHER, SESSION, tuple(JOBS))
    ledger.clear()
    assert read(path) == OnDevice(OTHER, SESSION, ())
    ledger.publish(SESSION, JOBS[:2])
    ledger.close()
    assert read(path) == OnDevice(None, None, ())


def test_it_outlives_a_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from workers.inference.ledger import Ledger\n"
        f"Ledger(Path(sys.argv[1])).publish({SESSION!r}, {JOBS[:3]!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert done.returncode == -9
    assert read(path) == OnDevice(None, SESSION, tuple(JOBS[:3]))


def test_no_file_and_a_foreign_file_say_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none") is None
    (tmp_path / "foreign").write_bytes(b"something else")
    assert read(tmp_path / "foreign") is None
