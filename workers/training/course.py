"""The training itself: from a position, epoch by epoch, to its end.

What comes out depends on the spec, the rows and the position alone, not on when or where it runs,
nor on how steps are put into groups: a course that begins at any checkpoint ends as an undisturbed
one does. Time decides only when checkpoints are made, and ``limits.max_s``. Of a spec that is not
``deterministic`` the last bits may be others: those of sums, also of metrics over a group's rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from storage.clock import Clock
from storage.records.errors import InvalidInput
from storage.records.training import TrainingSpec
from storage.records.training_runs import Phase, TrainingProgress
from workers.training.desk import Desk, Wish
from workers.training.exits import Leave, TrainerExit
from workers.training.feed import Feed, Group
from workers.training.held_out import HeldOut, row_bytes
from workers.training.pace import Pace
from workers.training.ports import Array, Learner, OutOfMemory, Part, Rows
from workers.training.position import End, Position, Snapshot, order_of, steps_left
from workers.training.stopping import after_epoch, is_over
from workers.training.telling import number, numbers, summary

_MOST_LINES = 1_000  # on epochs


class Course:
    """One training in one process. ``run`` once."""

    def __init__(
        self,
        spec: TrainingSpec,
        rows: Rows,
        learner: Learner,
        desk: Desk,
        clock: Clock,
        resumed: Snapshot | None = None,
    ) -> None:
        """``resumed``: what the learner has been restored to."""
        self._spec, self._rows, self._learner = spec, rows, learner
        self._desk, self._clock = desk, clock
        self.at = resumed.at if resumed else Position(spec.batch_size)
        self._best: Mapping[str, Array] | None = resumed.best if resumed else None
        self._count = rows.prepared.rows[Part.TRAIN]
        self._row_bytes = row_bytes(rows.prepared)
        self._pace = Pace(self._row_bytes * self.at.batch_size)
        self._validation = HeldOut(rows, Part.VALIDATION, self._look)
        self._reader = ThreadPoolExecutor(1, "forebay-training-read")
        self._latest: Mapping[str, float] = {}
        self._say_every = -(-spec.epochs // _MOST_LINES)
        self._kept: Position | None = resumed.at if resumed else None
        self._kept_s = self._marked_s = clock.monotonic_s()
        self._anchor: Snapshot | None = None  # where to go back to when memory does not suffice
        self.first_step_at: int | None = None  # when the first one here was done

    def run(self) -> Position:
        """Where it ended; the learner has the weights to keep. ``Leave`` when it is to end before,
        ``InvalidInput`` (``loss_not_a_number``, ``bad_monitor``, ``no_room``), ``OutOfMemory``."""
        self._check()
        self._marked_s = self._clock.monotonic_s()
        if self._spec.halve_batch:
            self._anchor = Snapshot(self.at, self._learner.state(), self._best)
        try:
            while self.at.ended is None:
                self._go_on()
            self._desk.settle()
        except InvalidInput:
            self._desk.settle()  # what was good is kept
            raise
        finally:
            self._reader.shutdown(cancel_futures=True)
        if self._best is not None:
            self._learner.set_weights(self._best)
            self._desk.say(
                f"the weights are those of epoch {self.at.patience.best_epoch}, the best"
            )
        return self.at

    def _check(self) -> None:
        if self._count == 0:
            raise InvalidInput(
                "no rows are left to train on", code="split_empty", field="spec.split"
            )
        if self._spec.batch_size > self._count:
            raise InvalidInput(
                f"batch_size is {self._spec.batch_size}, but there are only {self._count} rows to"
                " train on: take a smaller one",
                code="batch_too_large",
                field="spec.batch_size",
            )

    def _go_on(self) -> None:
        """The rest of an epoch, or as much as memory suffices for."""
        epoch = self.at.epoch
        if self.at.row == 0:
            self._learner.begin_epoch()
        order = order_of(self._spec.seed, epoch, self._count)
        feed = Feed(
            lambda part: self._rows.take(Part.TRAIN, part), order, self.at.row, self._reader
        )
        self._ask(feed)
        while self.at.row < self._count and self._limit() is None:
            self._look()
            group = feed.get()
            self._ask(feed)
            if not self._learn(group):
                feed.drop()
                return
            self._keep_in_time()
        feed.drop()  # a limit may have come between
        self._pass_time()
        if self.at.row > 0:
            self._end_epoch()
        else:
            self.at = replace(self.at, ended=self._limit())
            self._keep()

    def _ask(self, feed: Feed) -> None:
        steps = self._pace.steps
        if (most := self._spec.limits.max_steps) is not None:
            ahead = -(-(feed.next_row - self.at.row) // self.at.batch_size)
            steps = min(steps, most - self.at.step - ahead)
        if steps > 0:
            feed.ask(steps * self.at.batch_size)

    def _learn(self, group: Group) -> bool:
        """Take a group's steps; False when memory does not suffice, and the batch is halved."""
        at, began_s = self.at, self._clock.monotonic_s()
        try:
            taken = self._learner.run(group.batch, at.batch_size)
        except OutOfMemory as error:
            self._halve(error)
            return False
        if self.first_step_at is None:
            self.first_step_at = self._clock.now_ms()
        losses = [float(one) for one in np.asarray(taken.losses, np.float64)]
        self._must_be_numbers(losses)
        self._pace.took(len(losses), self._clock.monotonic_s() - began_s)
        loss_sum, left = at.loss_sum, group.rows
        for loss in losses:  # one by one: a sum must not depend on how steps are grouped
            loss_sum += loss * min(at.batch_size, left)
            left -= at.batch_size
        metrics = {name: float(value) for name, value in taken.metrics.items()}
        self.at = replace(
            at,
            step=at.step + len(losses),
            row=at.row + group.rows,
            loss_sum=loss_sum,
            loss_rows=at.loss_rows + group.rows,
            metrics=metrics,
        )
        self._pass_time()
        self._desk.steps(at.step + 1, losses, metrics, self._expected())
        if not self.at.epoch:
            self._latest = numbers({"loss": losses[-1], **metrics})
        self._report()
        return True

    def _end_epoch(self) -> None:
        """What the epoch was like, and whether it was the last one; it may be one cut short."""
        at = self.at
        whole = at.row >= self._count
        values: dict[str, float | None] = {
            "loss": at.loss_sum / at.loss_rows,
            **at.metrics,
            **self._validated(),
        }
        self._pass_time()
        told = {
            "epoch": at.epoch + 1,
            "seconds": round(self.at.epoch_s, 3),
            "rows": at.row,
            "learning_rate": self._learner.learning_rate(),
            **values,
        }
        patience, rule = at.patience, self._spec.early_stopping
        if rule is not None:
            patience = after_epoch(patience, rule, at.epoch + 1, told)
            if rule.restore_best and patience.improved:
                self._best = self._learner.weights()
        behind = replace(
            self.at,
            epoch=at.epoch + whole,
            row=0 if whole else at.row,
            loss_sum=0.0,
            loss_rows=0,
            metrics={},
            epoch_s=0.0,
            patience=patience,
        )
        self.at = replace(behind, ended=self._ending(behind))
        self._latest = numbers(values)
        self._desk.epoch(at.step, {name: number(value) for name, value in told.items()})
        self._report()
        if at.epoch % self._say_every == 0 or self.at.ended:
            self._desk.say(summary(told, self._spec.epochs, self.at))
        self._keep()

    def _ending(self, at: Position) -> End | None:
        if (limit := self._limit()) is not None and at.row > 0:
            return limit
        if at.epoch >= self._spec.epochs:
            return End.EPOCHS
        rule = self._spec.early_stopping
        if rule is not None and is_over(at.patience, rule):
            return End.EARLY
        return limit

    def _limit(self) -> End | None:
        limits = self._spec.limits
        if limits.max_steps is not None and self.at.step >= limits.max_steps:
            return End.MAX_STEPS
        if limits.max_s is not None and self.at.trained_s >= limits.max_s:
            return End.MAX_S
        return None

    def _validated(self) -> dict[str, float | None]:
        if not self._validation.count:
            return {}
        found = self._validation.loss_and_metrics(self._learner, self.at.batch_size)
        return {f"val_{name}": value for name, value in found.items()}

    def _look(self) -> None:
        """Between two groups."""
        match self._desk.wish():
            case Wish.GO:
                return
            case Wish.DROP:
                raise Leave(TrainerExit.STOPPED)
            case Wish.PAUSE:
                self._part(TrainerExit.PAUSED)
            case Wish.LEAVE:
                self._part(TrainerExit.STOPPED)

    def _part(self, code: TrainerExit) -> None:
        if self.at.step and not self._is_kept():
            self._keep()
        self._desk.settle()
        raise Leave(code)

    def _is_kept(self) -> bool:
        kept, at = self._kept, self.at
        return kept is not None and (kept.step, kept.row) == (at.step, at.row)

    def _keep_in_time(self) -> None:
        late = self._clock.monotonic_s() - self._kept_s >= self._spec.checkpoint_every_s
        if late and self.at.row < self._count and not self._desk.keeping:
            self._keep()

    def _keep(self) -> None:
        """A checkpoint of here: what is in it has been looked at, and is numbers."""
        state = self._learner.state()
        self._must_be_finite()
        self.at = replace(self.at, checkpoints=self.at.checkpoints + 1)
        snapshot = Snapshot(self.at, state, self._best)
        if self._spec.halve_batch:
            self._anchor = snapshot
        self._kept, self._kept_s = self.at, self._clock.monotonic_s()
        self._desk.keep(snapshot)
        self._pass_time()

    def _halve(self, error: OutOfMemory) -> None:
        """Go back to where the learner's state is known, with half as many rows a step."""
        size = self.at.batch_size
        if not self._spec.halve_batch or size == 1 or self._anchor is None:
            raise OutOfMemory(
                f"the device's memory does not suffice for steps of {size} rows: "
                + (
                    "not even a single row fits, so take a smaller network"
                    if size == 1
                    else f"set batch_size to {size // 2} or less, or halve_batch to true"
                ),
                field="spec.batch_size",
            ) from error
        self._learner.restore(self._anchor.state)
        self.at = replace(
            self._anchor.at,
            batch_size=size // 2,
            step=self.at.step,
            trained_s=self.at.trained_s,
            checkpoints=self.at.checkpoints,
        )
        self._pace = Pace(self._row_bytes * self.at.batch_size)
        self._desk.say(
            f"the device's memory does not suffice for steps of {size} rows: from step"
            f" {self.at.step + 1} on they are of {size // 2}"
        )
        self._report()

    def _must_be_numbers(self, losses: list[float]) -> None:
        for index, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._not_numbers(self.at.step + index + 1, f"the loss is {loss}")

    def _must_be_finite(self) -> None:
        for weight in self._learner.weights().values():
            if weight.dtype.kind == "V":  # bfloat16 and its like
                weight = weight.astype(np.float32)
            if weight.dtype.kind == "f" and not np.isfinite(weight).all():
                self._not_numbers(self.at.step, "weights are no numbers any more")

    def _not_numbers(self, step: int, what: str) -> None:
        epoch = self.at.epoch + (self.at.row > 0 or step > self.at.step)
        last = (
            f"the checkpoint of step {self._kept.step} is kept" if self._kept else "no checkpoint"
        )
        raise InvalidInput(
            f"{what} in step {step} of epoch {epoch} ({last}): try a smaller learning rate (it was"
            f" {self._learner.learning_rate():g}), scale the features, or look for extreme values"
            " among them",
            code="loss_not_a_number",
            field="spec.optimizer",
        )

    def _pass_time(self) -> None:
        now_s = self._clock.monotonic_s()
        passed_s, self._marked_s = now_s - self._marked_s, now_s
        self.at = replace(
            self.at,
            trained_s=self.at.trained_s + passed_s,
            epoch_s=self.at.epoch_s + passed_s,
        )

    def _expected(self) -> int:
        steps = self.at.step + steps_left(self.at, self._count, self._spec.epochs)
        most = self._spec.limits.max_steps
        return steps if most is None else min(steps, most)

    def _report(self) -> None:
        at, step_s = self.at, self._pace.step_s
        self._desk.progress(
            TrainingProgress(
                phase=Phase.TRAINING,
                epoch=at.epoch,
                epochs=self._spec.epochs,
                step=at.step,
                steps=self._expected(),
                rows_read=self._count,
                rows_per_s=at.batch_size / step_s if step_s else 0.0,
                batch_size=at.batch_size,
                trained_s=round(at.trained_s, 3),
                latest=self._latest,
            )
        )
