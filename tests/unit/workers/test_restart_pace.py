"""How soon a device process is started again after a death."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.devices import choose
from workers.inference.ledger import Ledger, RowSpan
from workers.supervisor import _Child, _next_pause_s

SESSION, JOB = "01a21985-1726-769c-84ce-3e30e8538a64", "01a21985-1726-769c-84ce-3e30e8538a65"


def child(ledger: Path) -> _Child:
    return _Child(choose("cpu")[0], ledger)


def test_deaths_without_work_come_ever_slower(tmp_path: Path) -> None:
    one = child(tmp_path / "none")
    pauses = [_next_pause_s(one, now_s=1.0) for _ in range(8)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1.0, 30.0)


@pytest.mark.parametrize("what", ["a job", "rows of a shard"])
def test_deaths_at_work_do_not_keep_the_innocent_waiting(tmp_path: Path, what: str) -> None:
    ledger = Ledger(tmp_path / "ledger")
    if what == "a job":
        ledger.publish(0, SESSION, [JOB])
    else:
        ledger.publish_rows(0, SESSION, [RowSpan(JOB, 0, 0, 1)])
    one = child(tmp_path / "ledger")
    assert {_next_pause_s(one, now_s=1.0) for _ in range(8)} == {0.2}


def test_after_a_calm_life_the_next_start_is_soon(tmp_path: Path) -> None:
    one = child(tmp_path / "none")
    for _ in range(8):
        _next_pause_s(one, now_s=1.0)
    assert _next_pause_s(one, now_s=one.started_s + 61.0) == 0.5
