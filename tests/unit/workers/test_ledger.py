"""What a process says of itself must be readable when it is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workers.inference.ledger import Ledger, OnDevice, OnPass, read

SESSION = "01890000-0000-7000-8000-000000000001"
OTHER = "01890000-0000-7000-8000-000000000002"
JOBS = [f"01890000-0000-7000-8000-{n:012x}" for n in range(100, 228)]


def test_it_names_the_jobs_on_the_device_and_nobody_after_them(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gpu0.ledger"
    ledger = Ledger(path)
    assert read(path) == OnDevice()
    ledger.session(OTHER)
    ledger.publish(0, SESSION, JOBS)
    assert read(path) == OnDevice(OTHER, None, (OnPass(SESSION, tuple(JOBS)),))
    ledger.clear(0)
    assert read(path) == OnDevice(OTHER)
    ledger.publish(0, SESSION, JOBS[:2])
    ledger.close()
    assert read(path) == OnDevice()


def test_passes_side_by_side_have_slots_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path, slots=3)
    ledger.publish(2, SESSION, JOBS[:2])
    ledger.publish(0, SESSION, JOBS[2:3])
    found = read(path)
    assert found is not None
    assert found.passes == (OnPass(SESSION, (JOBS[2],)), OnPass(SESSION, tuple(JOBS[:2])))
    assert found.by_session == {SESSION: [JOBS[2], *JOBS[:2]]}
    ledger.clear(0)
    found = read(path)
    assert found is not None and found.job_ids == tuple(JOBS[:2])


def test_it_names_the_version_that_loads_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.loading(OTHER)
    found = read(path)
    assert found is not None and (found.loading, found.at_work) == (OTHER, True)
    ledger.loading(None)
    found = read(path)
    assert found is not None and (found.loading, found.at_work) == (None, False)


def test_it_has_its_place_on_the_disk_before_anything_is_written(tmp_path: Path) -> None:
    """A page that a full disk cannot give would kill the process in the middle of a pass."""
    path = tmp_path / "ledger"
    ledger = Ledger(path, slots=4)
    status = path.stat()
    assert 512 * status.st_blocks >= status.st_size
    ledger.close()


def test_it_outlives_a_process_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from workers.inference.ledger import Ledger\n"
        f"Ledger(Path(sys.argv[1])).publish(0, {SESSION!r}, {JOBS[:3]!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert done.returncode == -9
    assert read(path) == OnDevice(None, None, (OnPass(SESSION, tuple(JOBS[:3])),))


def test_no_file_and_a_foreign_file_say_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none") is None
    (tmp_path / "foreign").write_bytes(b"something else")
    assert read(tmp_path / "foreign") is None
