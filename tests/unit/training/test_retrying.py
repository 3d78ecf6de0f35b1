"""Trouble with storage is waited out while the run is ours, and said in the run's log."""

from __future__ import annotations

import errno
import logging
import threading

import pytest

from storage.records.errors import ObjectsUnavailable
from tests.unit.training.noting_desk import TickingClock
from workers.training import retrying
from workers.training.log_lines import told_to
from workers.training.retrying import GaveUp, Retrying


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retrying, "LAST_PAUSE_S", 0.002)


class Flaky:
    """Fails a few times."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left, self.error = failures, error or ObjectsUnavailable("away")
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return 7


def test_it_is_tried_until_storage_answers_and_said_once() -> None:
    lines: list[str] = []
    with told_to(lines.append):
        assert Retrying(threading.Event(), TickingClock()).call(Flaky(20)) == 7
    assert lines == ["warning: storage does not answer: ObjectsUnavailable"]
    logging.getLogger("workers.training.retrying").warning("nobody listens any more")
    assert len(lines) == 1


def test_nobody_waits_for_a_run_that_is_not_ours() -> None:
    flaky = Flaky(20)
    with pytest.raises(GaveUp):
        Retrying(threading.Event(), TickingClock()).call(flaky, ours=lambda: flaky.calls < 3)
    assert flaky.calls == 3


def test_a_process_that_is_to_end_gives_up_after_a_while() -> None:
    stop = threading.Event()
    stop.set()
    flaky = Flaky(1_000)
    with pytest.raises(GaveUp):
        Retrying(stop, TickingClock(1.0)).call(flaky)
    assert 2 <= flaky.calls < 20


def test_a_full_disk_of_our_own_is_a_fault_and_so_is_all_that_is_no_trouble() -> None:
    for error in (OSError(errno.ENOSPC, "full"), ZeroDivisionError()):
        flaky = Flaky(5, error)
        with pytest.raises(type(error)):
            Retrying(threading.Event(), TickingClock()).call(flaky)
        assert flaky.calls == 1
