"""What a process says of itself must be readable when it is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.inference.ledger import MAX_SPANS, Ledger, OnDevice, OnPass, RowSpan, read

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


SPANS = tuple(RowSpan(job_id, n, n << 40, (n << 40) + 7) for n, job_id in enumerate(JOBS[:64]))


def test_it_names_rows_of_shards_beside_jobs_and_neither_after_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path, slots=2)
    ledger.publish_rows(1, OTHER, SPANS)
    found = read(path)
    assert found == OnDevice(None, None, (OnPass(OTHER, spans=SPANS),))
    assert (found.at_work, found.spans, found.job_ids) == (True, SPANS, ())
    assert (found.by_session, found.spans_by_session) == ({}, {OTHER: list(SPANS)})
    ledger.publish(1, SESSION, JOBS)
    ledger.publish_rows(0, OTHER, SPANS[:1])
    found = read(path)
    assert found is not None
    assert found.by_session == {SESSION: JOBS}
    assert found.spans_by_session == {OTHER: [SPANS[0], *SPANS]}
    ledger.clear(1)
    assert read(path) == OnDevice(None, None, (OnPass(OTHER, spans=SPANS[:1]),))
    ledger.publish_rows(1, OTHER, SPANS)
    ledger.close()
    assert read(path) == OnDevice()


def test_positions_are_as_long_as_files_may_be(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    last = RowSpan(JOBS[0], 2**31 - 1, 2**63 - 2, 2**63 - 1)
    Ledger(path).publish_rows(0, SESSION, [last])
    found = read(path)
    assert found is not None and found.spans == (last,)


def test_more_rows_than_it_has_place_for_leave_the_slots_beside_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path, slots=2)
    ledger.publish(1, SESSION, JOBS[:2])
    ledger.publish_rows(0, SESSION, [*SPANS, *SPANS])
    found = read(path)
    assert found is not None and found.spans == SPANS and len(SPANS) == MAX_SPANS
    assert found.job_ids == tuple(JOBS[:2])


def test_a_write_that_was_cut_off_blames_nobody(tmp_path: Path) -> None:
    """The count comes last: before it, nothing of what was written is believed."""
    path = tmp_path / "ledger"
    ledger = Ledger(path)

    class Torn(Exception):
        pass

    class Map:
        def __init__(self, left: int) -> None:
            self.left = left

        def __setitem__(self, where: slice, data: bytes) -> None:
            if not self.left:
                raise Torn
            self.left -= 1
            real[where] = data

    real = ledger._map
    for writes in range(3):
        ledger._map = Map(writes)  # type: ignore[assignment]
        with pytest.raises(Torn):
            ledger.publish_rows(0, SESSION, SPANS[:3])
        assert read(path) == OnDevice()
    ledger._map = Map(3)  # type: ignore[assignment]
    ledger.publish_rows(0, SESSION, SPANS[:3])
    assert read(path) == OnDevice(None, None, (OnPass(SESSION, spans=SPANS[:3]),))


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
