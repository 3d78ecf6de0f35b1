"""What a training measures reaches SQL, and its control comes back, though SQL may be away."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from storage.clock import SystemClock
from storage.records.errors import DatabaseUnavailable
from storage.records.training_runs import (
    Measures,
    Phase,
    Scope,
    TrainingControl,
    TrainingProgress,
    curves_of,
)
from tests.support.waiting import wait_until
from workers.training.journal import MOST_POINTS, Gathered, Journal, stride_of
from workers.training.retrying import Retrying
from workers.training.run_desk import flush, flush_once


class Book:
    """What was written."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, Scope], Measures] = {}
        self.lines: list[str] = []
        self.progress = TrainingProgress()
        self.control = TrainingControl.GO
        self.notes = self.asked = 0
        self.away = threading.Event()
        self.swallow = False  # what arrives is written, and the answer is lost

    def note(
        self, progress: TrainingProgress, rows: Sequence[Measures], lines: Sequence[str]
    ) -> TrainingControl:
        self.notes += 1
        if self.away.is_set() and not self.swallow:
            raise DatabaseUnavailable("away")
        self.rows |= {(one.step, one.scope): one for one in rows}
        self.progress = progress
        if self.swallow:
            self.swallow = False
            raise DatabaseUnavailable("the answer is lost")
        self.lines += lines
        return self.control

    def ask(self) -> TrainingControl:
        self.asked += 1
        return self.control

    def curves(self) -> dict[str, object]:
        return curves_of(list(self.rows.values()))


@pytest.fixture
def book() -> Book:
    return Book()


def started(book: Book) -> Journal:
    journal = Journal(book.note, book.ask)
    journal.start(TrainingProgress(phase=Phase.PREPARING))
    return journal


def test_everything_told_is_written_in_order(book: Book) -> None:
    journal = started(book)
    for first in range(1, 31, 3):
        journal.steps(first, [1 / first, 0.5, 0.25], {"accuracy": first / 100}, 30)
    journal.epoch(30, {"epoch": 1, "loss": 0.5})
    journal.say("a line")
    journal.progress(TrainingProgress(phase=Phase.TRAINING, step=30))
    assert journal.flush(5)
    curves = curves_of(list(book.rows.values()))
    assert curves["steps"]["step"] == list(range(1, 31))
    assert curves["steps"]["loss"][:3] == [1.0, 0.5, 0.25]
    assert curves["steps"]["accuracy"][:6] == [None, None, 0.01, None, None, 0.04]
    assert curves["epochs"] == [{"epoch": 1, "loss": 0.5}]
    assert book.lines == ["a line"] and book.progress.step == 30
    journal.close(5)


def test_what_was_told_while_the_database_was_away_is_written_once(book: Book) -> None:
    journal = started(book)
    book.away.set()
    for step in range(1, 200):
        journal.steps(step, [float(step)], {}, 200)
        if step % 50 == 0:
            assert not journal.flush(0.02)
    journal.say("while it was away")
    book.away.clear()
    assert journal.flush(20)
    assert curves_of(list(book.rows.values()))["steps"]["step"] == list(range(1, 200))
    assert book.lines == ["while it was away"]
    journal.close(5)


def test_what_arrived_although_the_answer_was_lost_is_not_there_twice(book: Book) -> None:
    journal = started(book)
    journal.steps(1, [1.0, 2.0], {}, 10)
    book.swallow = True
    journal.flush(0.05)
    journal.steps(3, [3.0], {}, 10)
    assert journal.flush(10)
    assert curves_of(list(book.rows.values()))["steps"]["step"] == [1, 2, 3]
    journal.close(5)


def test_the_control_is_heard_although_there_is_nothing_to_tell(book: Book) -> None:
    journal = started(book)
    assert journal.flush(5)
    book.control = TrainingControl.PAUSE
    wait_until(lambda: journal.control is TrainingControl.PAUSE, 5)
    assert book.asked and journal.is_ours()
    book.control = TrainingControl.LOST
    wait_until(lambda: not journal.is_ours(), 5)
    notes = book.notes
    journal.say("nobody reads it")
    assert not journal.flush(0.1)
    journal.close(0.1)
    assert book.notes == notes


def test_a_row_ends_where_a_checkpoint_is_made() -> None:
    gathered = Gathered()
    gathered.steps(1, [1.0, 2.0], {}, 1)
    gathered.cut()
    gathered.steps(3, [3.0], {}, 1)
    assert [row.step for row in gathered.take()] == [2, 3]


@pytest.mark.parametrize("expected", [100, 20_000, 20_001, 1_000_000, 12_345_678])
def test_a_curve_has_a_bounded_number_of_points_however_steps_are_grouped(expected: int) -> None:
    stride = stride_of(expected)
    assert (stride == 1) is (expected <= MOST_POINTS)
    assert -(-expected // stride) <= MOST_POINTS
    one, other = Gathered(), Gathered()
    last = min(expected, 5 * stride + 3)
    for step in range(1, last + 1):
        one.steps(step, [float(step)], {"accuracy": 1.0}, stride)
    other.steps(1, [float(step) for step in range(1, last + 1)], {"accuracy": 1.0}, stride)
    kept = [curves_of(some.take())["steps"] for some in (one, other)]
    assert kept[0]["step"] == kept[1]["step"] == list(range(1, last + 1, stride))
    assert kept[0]["loss"] == kept[1]["loss"]
    assert kept[1]["accuracy"][-1] == 1.0


def test_a_metric_that_appears_later_is_none_before() -> None:
    gathered = Gathered()
    gathered.steps(1, [1.0, 2.0], {}, 1)
    gathered.steps(3, [3.0], {"recall": 0.5}, 1)
    (row,) = gathered.take()
    assert row.values == {"step": [1, 2, 3], "loss": [1.0, 2.0, 3.0], "recall": [None, None, 0.5]}


def test_lines_that_wait_are_bounded(book: Book) -> None:
    journal = started(book)
    book.away.set()
    for number in range(1_500):
        journal.say(f"line {number}")
    book.away.clear()
    assert journal.flush(20)
    journal.close(5)
    assert len(book.lines) <= 1_010 and "lines were left out" in "".join(book.lines)


def test_what_can_never_be_written_is_waited_for_by_nobody() -> None:
    def note(*_: object) -> TrainingControl:
        raise ZeroDivisionError("a bug")

    journal = Journal(note, lambda: TrainingControl.GO)
    retrying = Retrying(threading.Event(), SystemClock())
    journal.start(TrainingProgress())
    wait_until(lambda: journal.fault, 5)
    with pytest.raises(ZeroDivisionError):
        flush_once(journal)
    with pytest.raises(ZeroDivisionError):
        flush(journal, retrying)
    journal.close(0.0)


def test_of_a_closed_journal_nothing_is_asked(book: Book) -> None:
    journal = started(book)
    journal.close(5)
    journal.say("too late")
    flush(journal, Retrying(threading.Event(), SystemClock()))
    assert "too late" not in book.lines
