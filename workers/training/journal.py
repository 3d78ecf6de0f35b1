"""What a training measures and says, on its way to SQL; and what it is to do, on the way back.

Training never waits for it: a thread writes what is new twice a second, and hears the control ten
times. While the database does not answer what is new is kept, and written when it does.

A long training's curves are thinned: of its steps so many are kept that at most about 20,000 are
(each n-th one, by its number alone, n from the steps that are expected), of its epochs likewise.
So what is kept is bounded, in memory and in SQL.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage.records.training_runs import Measures, Scope, TrainingControl, TrainingProgress
from workers.inference.gate import TROUBLE
from workers.training.retrying import FIRST_PAUSE_S, LAST_PAUSE_S

log = logging.getLogger(__name__)

HEARD_EVERY_S = 0.1
_WRITTEN_EVERY = 5  # times that it is heard
MOST_POINTS = 20_000  # of a curve
_POINTS_A_ROW = 2_000
_MOST_LINES = 1_000  # that wait to be written
_LINE_CHARS = 2_000

Note = Callable[[TrainingProgress, Sequence[Measures], Sequence[str]], TrainingControl]


def stride_of(expected: int, most: int = MOST_POINTS) -> int:
    """Every how many points one is kept."""
    return max(1, -(-expected // most))


class Gathered:
    """Measures that are not written yet. Not for several threads."""

    def __init__(self) -> None:
        self._rows: list[Measures] = []
        self._points: dict[str, list[Any]] = {"step": [], "loss": []}

    def steps(
        self, first: int, losses: Sequence[float], metrics: Mapping[str, float], stride: int
    ) -> None:
        """Losses from step ``first`` on. The metrics belong to the last step that is kept."""
        kept = range((1 - first) % stride, len(losses), stride)
        if not kept:
            return
        points = self._points
        for name in metrics:
            points.setdefault(name, [None] * len(points["step"]))
        for index in kept:
            told = metrics if index == kept[-1] else {}
            for name, values in points.items():
                values.append(told.get(name))
            points["step"][-1] = first + index
            points["loss"][-1] = losses[index]
        if len(points["step"]) >= _POINTS_A_ROW:
            self.cut()

    def epoch(self, step: int, values: Mapping[str, float | None]) -> None:
        """One epoch's."""
        self.cut()
        self._rows.append(Measures(Scope.EPOCH, step, dict(values)))

    def cut(self) -> None:
        """A row ends here: one that reached over a checkpoint would be forgotten as a whole."""
        if self._points["step"]:
            self._rows.append(Measures(Scope.STEPS, self._points["step"][-1], self._points))
            self._points = {"step": [], "loss": []}

    def take(self) -> list[Measures]:
        """All of them; the same again when they could not be written (``give_back``)."""
        self.cut()
        rows, self._rows = self._rows, []
        return rows

    def give_back(self, rows: list[Measures]) -> None:
        """They were not written. Row by row they stay what they are: some may have arrived."""
        self._rows = rows + self._rows


class Journal:
    """One run's. ``note`` writes, ``ask`` only asks; both raise what the database raises."""

    def __init__(self, note: Note, ask: Callable[[], TrainingControl]) -> None:
        self._note, self._ask = note, ask
        self._changed = threading.Condition()
        self._gathered = Gathered()
        self._lines: list[str] = []
        self._left_out = 0
        self._progress = TrainingProgress()
        self._noted = self._written = 0  # how many changes there were, and are written
        self._urgent = self._closed = False
        self._control = TrainingControl.GO
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="forebay-journal", daemon=True)

    @property
    def control(self) -> TrainingControl:
        """As it was heard last."""
        return self._control

    @property
    def closed(self) -> bool:
        """Whether nothing is written any more, whatever is told."""
        return self._closed

    @property
    def fault(self) -> Exception | None:
        """Why the last writing failed, where that was no trouble that passes."""
        return self._fault

    @property
    def latest(self) -> TrainingProgress:
        """How far the run is, as it was told last."""
        return self._progress

    def is_ours(self) -> bool:
        """Whether there is anything to go on for."""
        return self._control not in (TrainingControl.LOST, TrainingControl.STOP)

    def start(self, progress: TrainingProgress) -> None:
        """Begin to write and to listen."""
        self._progress, self._noted = progress, 1
        self._thread.start()

    def steps(
        self, first: int, losses: Sequence[float], metrics: Mapping[str, float], expected: int
    ) -> None:
        """See ``Desk``."""
        with self._changed:
            self._gathered.steps(first, losses, metrics, stride_of(expected))
            self._noted += 1

    def epoch(self, step: int, values: Mapping[str, float | None]) -> None:
        """See ``Desk``."""
        number = int(values.get("epoch") or 0)
        with self._changed:
            if (number - 1) % stride_of(self._progress.epochs) == 0:
                self._gathered.epoch(step, values)
            self._noted += 1
            self._hasten()

    def progress(self, progress: TrainingProgress) -> None:
        """How far it is."""
        with self._changed:
            hasten = progress.phase is not self._progress.phase
            self._progress = progress
            self._noted += 1
            if hasten:
                self._hasten()

    def say(self, text: str) -> None:
        """A line of the log; it goes to the process's own log as well."""
        log.info("%s", text)
        with self._changed:
            if len(self._lines) >= _MOST_LINES:
                self._left_out += 1
            else:
                self._lines.append(text[:_LINE_CHARS])
            self._noted += 1

    def cut(self) -> None:
        """A checkpoint is made here."""
        with self._changed:
            self._gathered.cut()

    def lose(self) -> None:
        """Somebody found out that the run is not ours."""
        with self._changed:
            self._control = TrainingControl.LOST
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was told before is written, at once or within the time given."""
        with self._changed:
            told = self._noted
            self._hasten()
            self._changed.wait_for(
                lambda: self._written >= told or self._closed or not self.is_ours(), timeout_s
            )
            return self._written >= told

    def close(self, timeout_s: float) -> None:
        """Write what is left, if that is possible within the time given, and end."""
        if self._thread.is_alive():
            self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _hasten(self) -> None:
        self._urgent = True
        self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._closed or self._control is TrainingControl.LOST

    def _run(self) -> None:
        pause_s, heard = 0.0, 0
        while True:
            with self._changed:
                if pause_s:
                    self._changed.wait_for(self._is_over, pause_s)
                else:
                    self._changed.wait_for(lambda: self._urgent or self._is_over(), HEARD_EVERY_S)
                if self._is_over():
                    return
                heard = 0 if self._urgent or pause_s else (heard + 1) % _WRITTEN_EVERY
                self._urgent = False
            try:
                if heard:
                    self._hear(self._ask())
                else:
                    self._write()
                pause_s, self._fault = 0.0, None
            except TROUBLE as trouble:
                if not pause_s:
                    log.warning("measures cannot be written now: %s", type(trouble).__name__)
                pause_s, self._fault = min(2 * pause_s or FIRST_PAUSE_S, LAST_PAUSE_S), None
            except Exception as fault:
                log.exception("measures cannot be written")
                pause_s, self._fault = LAST_PAUSE_S, fault

    def _write(self) -> None:
        with self._changed:
            told, news = self._noted, self._noted > self._written
            rows, lines = self._gathered.take(), self._taken_lines()
            progress = self._progress
        try:
            control = self._note(progress, rows, lines) if news else self._ask()
        except BaseException:
            with self._changed:
                self._gathered.give_back(rows)
                self._lines = lines + self._lines
            raise
        with self._changed:
            self._written = max(self._written, told)
        self._hear(control)

    def _hear(self, control: TrainingControl) -> None:
        with self._changed:
            if self._control is not TrainingControl.LOST:
                self._control = control
            self._changed.notify_all()

    def _taken_lines(self) -> list[str]:
        lines, self._lines = self._lines, []
        if self._left_out:
            lines.append(f"({self._left_out} lines were left out)")
            self._left_out = 0
        return lines
