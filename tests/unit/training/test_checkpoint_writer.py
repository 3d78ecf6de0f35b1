"""Checkpoints are written beside the training, one at a time, and none is passed over while storage
answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from storage.clock import SystemClock
from storage.records.errors import InvalidInput, ObjectsUnavailable
from tests.support.waiting import wait_until
from workers.training.checkpoints import CheckpointWriter
from workers.training.position import Position, Snapshot
from workers.training.retrying import Retrying


class Shelf:
    """A store that waits to be told, and may refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go = threading.Event()
        self.steps: list[int] = []
        self.putting = threading.Event()
        self.refuse: Exception | None = None
        self.mine = True

    def write(self, snapshot: Snapshot, *, spec: str, prepared: str) -> Path:
        path = self.folder / "checkpoint.zip"
        path.write_bytes(b"12345")
        return path

    def put(self, path: Path, snapshot: Snapshot) -> bool:
        assert path.read_bytes() == b"12345"
        self.putting.set()
        assert self.go.wait(10)
        if self.refuse is not None:
            raise self.refuse
        self.steps.append(snapshot.at.step)
        return self.mine


def snapshot(step: int) -> Snapshot:
    return Snapshot(Position(8, step=step), {"w": np.zeros(3)}, None)


class Beside:
    """A writer with its shelf."""

    def __init__(self, folder: Path) -> None:
        self.shelf, self.stop = Shelf(folder), threading.Event()
        self.kept: list[int] = []
        self.flushed = self.lost = 0
        self.ours = True
        self.writer = CheckpointWriter(
            self.shelf,  # type: ignore[arg-type]
            Retrying(self.stop, SystemClock()),
            spec="s",
            prepared="p",
            before=self._before,
            kept=lambda one, _: self.kept.append(one.at.step),
            lost=self._lost,
            ours=lambda: self.ours,
        )

    def _before(self) -> None:
        self.flushed += 1

    def _lost(self) -> None:
        self.lost += 1


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    made = Beside(tmp_path)
    made.writer.start()
    yield made
    made.shelf.go.set()
    made.ours = False
    made.writer.close()


@contextmanager
def thread(work: object) -> Iterator[threading.Thread]:
    running = threading.Thread(target=work)  # type: ignore[arg-type]
    running.start()
    yield running
    running.join(10)
    assert not running.is_alive()


def test_training_goes_on_while_one_is_written_and_waits_for_the_one_before_the_last(
    beside: Beside,
) -> None:
    beside.writer.keep(snapshot(1))
    assert beside.shelf.putting.wait(5)
    beside.writer.keep(snapshot(2))
    assert beside.writer.busy
    with thread(lambda: beside.writer.keep(snapshot(3))) as third:
        third.join(0.1)
        assert third.is_alive()
        beside.shelf.go.set()
    beside.writer.settle()
    assert beside.shelf.steps == beside.kept == [1, 2, 3]
    assert beside.flushed == 3 and not beside.writer.busy


def test_while_storage_does_not_answer_the_latest_one_is_what_will_be_kept(beside: Beside) -> None:
    beside.shelf.refuse = ObjectsUnavailable("not now")
    beside.shelf.go.set()
    beside.writer.keep(snapshot(1))
    wait_until(lambda: beside.flushed, 5)
    for step in (2, 3, 4):
        beside.writer.keep(snapshot(step))
    beside.shelf.refuse = None
    beside.writer.settle()
    assert beside.shelf.steps == [1, 4]


def test_a_fault_of_the_writer_is_the_courses_as_well(beside: Beside) -> None:
    beside.shelf.refuse = ZeroDivisionError("a bug")
    beside.shelf.go.set()
    beside.writer.keep(snapshot(1))
    with pytest.raises(ZeroDivisionError):
        beside.writer.settle()


def test_a_fault_is_forgotten_once_a_later_checkpoint_is_kept(beside: Beside) -> None:
    beside.shelf.refuse = InvalidInput("the disk is full", code="no_room")
    beside.shelf.go.set()
    beside.writer.keep(snapshot(1))
    beside.writer.settle()  # whoever goes on has the one before
    for fault in (None, ZeroDivisionError("a bug"), None):
        beside.shelf.refuse = fault
        beside.writer.keep(snapshot(2))
        wait_until(lambda: not beside.writer.busy, 5)
    beside.writer.settle()
    assert beside.kept == [2, 2]


@pytest.mark.parametrize(
    "fault", [InvalidInput("the disk is full", code="no_room"), ZeroDivisionError("a bug")]
)
def test_nobody_trains_on_for_long_without_a_checkpoint(beside: Beside, fault: Exception) -> None:
    beside.shelf.refuse = fault
    beside.shelf.go.set()
    for step in (1, 2):
        beside.writer.keep(snapshot(step))
        wait_until(lambda: not beside.writer.busy, 5)
    with pytest.raises(type(fault)):
        beside.writer.keep(snapshot(3))
    assert not beside.kept


def test_a_run_that_is_somebody_elses_is_said_to_be(beside: Beside) -> None:
    beside.shelf.mine = False
    beside.shelf.go.set()
    beside.writer.keep(snapshot(1))
    beside.writer.settle()
    assert beside.lost == 1 and not beside.kept


def test_it_is_given_up_when_the_run_is_lost_while_storage_does_not_answer(beside: Beside) -> None:
    beside.shelf.refuse = ObjectsUnavailable("not now")
    beside.shelf.go.set()
    beside.writer.keep(snapshot(1))
    wait_until(lambda: beside.flushed, 5)
    beside.ours = False
    beside.writer.settle()
    assert not beside.shelf.steps and not beside.kept
