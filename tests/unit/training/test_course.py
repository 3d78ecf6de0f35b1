"""A training goes its course: every row once an epoch, to its end or to where it may go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import TrainingSpec
from tests.support.numpy_learner import NumpyLearner, rows_of_numbers, spec_of_numbers
from tests.unit.training.noting_desk import NotingDesk, TickingClock
from workers.training.checkpoint_file import read_checkpoint, write_checkpoint
from workers.training.course import Course
from workers.training.desk import Wish
from workers.training.exits import Leave, TrainerExit
from workers.training.ports import Array, OutOfMemory, Part
from workers.training.position import End, Position, Snapshot, order_of


class Killed(BaseException):
    """kill -9: nothing is put in order."""


def trained(
    spec: TrainingSpec,
    desk: NotingDesk | None = None,
    learner: NumpyLearner | None = None,
    resumed: Snapshot | None = None,
    tick_s: float = 0.001,
    **rows: Any,
) -> tuple[Position, NumpyLearner, NotingDesk]:
    desk, learner = desk or NotingDesk(), learner or NumpyLearner()
    if resumed is not None:
        learner.restore(resumed.state)
    course = Course(spec, rows_of_numbers(**rows), learner, desk, TickingClock(tick_s), resumed)
    return course.run(), learner, desk


def curves(desk: NotingDesk) -> tuple[dict[int, float], list[dict[str, Any]]]:
    """What must not depend on who measured it, or how fast."""
    told = [{k: v for k, v in one.items() if k != "seconds"} for one in desk.epochs.values()]
    return dict(sorted(desk.losses.items())), told


def test_the_order_of_an_epoch_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first, again, other = order_of(7, 2, 1000), order_of(7, 2, 1000), order_of(7, 3, 1000)
    assert sorted(first) == list(range(1000))
    assert (first == again).all() and (first != other).any()
    assert (order_of(8, 2, 1000) != first).any()


def test_every_row_is_learned_once_in_each_epoch_in_the_epochs_order() -> None:
    rows, desk = rows_of_numbers(50), NotingDesk()
    spec = spec_of_numbers(epochs=3)
    end = Course(spec, rows, NumpyLearner(), desk, TickingClock()).run()
    taken = [row for part, some in rows.taken if part is Part.TRAIN for row in some]
    expected = [row for epoch in range(3) for row in order_of(spec.seed, epoch, 50).tolist()]
    assert taken == expected
    assert (end.epoch, end.step, end.ended) == (3, 21, End.EPOCHS)
    assert sorted(desk.losses) == list(range(1, 22))
    assert list(desk.epochs) == [1, 2, 3] and desk.epochs[3]["rows"] == 50


def test_an_epoch_says_loss_metrics_rate_and_validation() -> None:
    _, learner, desk = trained(spec_of_numbers(epochs=1))
    told = desk.epochs[1]
    sizes = [8] * 6 + [2]
    loss = sum(desk.losses[i + 1] * size for i, size in enumerate(sizes)) / 50
    assert told["loss"] == pytest.approx(loss, rel=1e-12)
    assert set(told) == {
        *("step", "epoch", "seconds", "rows", "learning_rate", "loss", "mae"),
        *("val_loss", "val_mae"),
    }
    assert told["learning_rate"] == learner.rate
    assert desk.told[-1].latest["val_loss"] == told["val_loss"]


@pytest.mark.parametrize("tick_s", [1e-6, 0.004, 0.04, 1.0])
def test_how_steps_are_grouped_changes_nothing(tick_s: float) -> None:
    spec = spec_of_numbers(epochs=5)
    _, learner, desk = trained(spec, tick_s=1e9)
    _, other, others = trained(spec, tick_s=tick_s)
    assert set(learner.groups) == {1}
    assert (other.w == learner.w).all() and curves(others) == curves(desk)
    if tick_s < 0.004:
        assert max(other.groups) > 2


def resumed_from(desk: NotingDesk, folder: Path) -> Snapshot | None:
    """By way of a file, as it is in life."""
    if not desk.snapshots:
        return None
    path = folder / "checkpoint"
    write_checkpoint(path, desk.snapshots[-1], spec="s", prepared="p")
    return read_checkpoint(path).snapshot


STOPPING = {"monitor": "val_loss", "patience": 2, "min_delta": 0.001, "restore_best": True}


@pytest.mark.parametrize("every_s", [0.004, 1e9], ids=["often", "each epoch"])
@pytest.mark.parametrize("stopping", [None, STOPPING], ids=["epochs", "early"])
def test_killed_at_every_step_and_resumed_it_ends_as_if_nothing_had_been(
    tmp_path: Path, stopping: dict[str, Any] | None, every_s: float
) -> None:
    spec = spec_of_numbers(epochs=9, early_stopping=stopping, checkpoint_every_s=every_s)
    end, calm, quiet = trained(spec)
    if stopping:
        assert end.ended is End.EARLY and 2 < end.epoch < 9
    for k in range(1, end.step + 1):
        desk = NotingDesk()

        def kill(step: int, at: int = k) -> None:
            if step == at:
                raise Killed

        with pytest.raises(Killed):
            trained(spec, desk, NumpyLearner(on_step=kill), tick_s=0.0003 * (k % 7 + 1))
        again, learner, _ = trained(spec, desk, resumed=resumed_from(desk, tmp_path))
        assert learner.w.tobytes() == calm.w.tobytes(), k
        assert curves(desk) == curves(quiet), k
        assert (again.step, again.epoch, again.ended) == (end.step, end.epoch, end.ended)
        assert again.patience == end.patience


def test_early_stopping_takes_the_best_epochs_weights() -> None:
    spec = spec_of_numbers(epochs=30, early_stopping=STOPPING)
    end, learner, desk = trained(spec)
    best = min(desk.epochs, key=lambda epoch: desk.epochs[epoch]["val_loss"] or 0.0)
    held = next(one for one in desk.snapshots if one.at.epoch == end.patience.best_epoch)
    assert (learner.w == held.state["w"]).all()
    assert abs(best - end.patience.best_epoch) <= 2  # min_delta lets a little better pass
    assert f"epoch {end.patience.best_epoch}, the best" in desk.lines[-1]


def test_a_monitor_that_nothing_measures_is_named_with_what_there_is() -> None:
    stopping = {"monitor": "val_recall"}
    with pytest.raises(InvalidInput, match=r"val_recall.*there are.*val_loss") as caught:
        trained(spec_of_numbers(early_stopping=stopping))
    assert caught.value.stable_code == "bad_monitor"


class Coarse(NumpyLearner):
    """Its weights are of half as many bits, and no type of numpy's own."""

    def weights(self) -> dict[str, Array]:
        return {"w": self.w.astype(ml_dtypes.bfloat16)}


def test_weights_of_bfloat16_that_are_no_numbers_are_in_no_checkpoint() -> None:
    desk = NotingDesk()
    with pytest.raises(InvalidInput, match="weights are no numbers") as caught:
        trained(spec_of_numbers(), desk, Coarse(nan_at=7))  # in the last step of an epoch
    assert caught.value.stable_code == "loss_not_a_number" and not desk.snapshots


@pytest.mark.parametrize("nan_at", [1, 5, 7, 8, 14])
def test_a_loss_that_is_no_number_stops_it_and_the_last_checkpoint_is_a_good_one(
    nan_at: int,
) -> None:
    desk = NotingDesk()
    spec = spec_of_numbers(checkpoint_every_s=0.002)
    with pytest.raises(InvalidInput) as caught:
        trained(spec, desk, NumpyLearner(nan_at=nan_at))
    assert caught.value.stable_code == "loss_not_a_number"
    # The weights are none after this step, its own loss was still one.
    step = nan_at + 1 if nan_at % 7 else nan_at
    text = caught.value.message
    assert f"step {step} of epoch {(step - 1) // 7 + 1}" in text or f"step {nan_at} of" in text
    assert "learning rate" in text
    assert desk.settled
    for one in desk.snapshots:
        assert np.isfinite(one.state["w"]).all() and one.at.step < nan_at


def test_memory_that_does_not_suffice_halves_the_batch_where_that_is_allowed() -> None:
    spec = spec_of_numbers(batch_size=32, halve_batch=True, epochs=2)
    end, learner, desk = trained(spec, learner=NumpyLearner(most_rows=9))
    assert end.batch_size == 8 and set(learner.step_rows) == {8, 2}
    assert sum("halve" in line or "does not suffice" in line for line in desk.lines) == 2
    assert desk.told[-1].batch_size == 8 and desk.snapshots[-1].at.batch_size == 8
    _, plain, _ = trained(spec_of_numbers(batch_size=8, epochs=2))
    assert (plain.w == learner.w).all()


def test_memory_that_runs_out_later_costs_the_steps_since_the_last_checkpoint() -> None:
    spec = spec_of_numbers(batch_size=16, halve_batch=True, epochs=3)
    learner = NumpyLearner()

    def shrink(step: int) -> None:
        if step == 6:  # in the second epoch
            learner.most_rows = 8

    learner.on_step = shrink
    end, _, desk = trained(spec, learner=learner)
    assert end.batch_size == 8 and end.epoch == 3
    assert sorted(desk.losses) == list(range(1, end.step + 1))  # numbering goes on
    assert desk.epochs[2]["rows"] == 50


def test_memory_that_does_not_suffice_is_said_with_what_to_do() -> None:
    with pytest.raises(OutOfMemory, match="batch_size to 4 or less, or halve_batch") as caught:
        trained(spec_of_numbers(), learner=NumpyLearner(most_rows=2))
    assert caught.value.stable_code == "out_of_memory"
    with pytest.raises(OutOfMemory, match="single row"):
        trained(spec_of_numbers(halve_batch=True), learner=NumpyLearner(most_rows=0))


def test_a_limit_of_steps_is_kept_to_the_step_and_what_was_learned_is_measured() -> None:
    end, _, desk = trained(spec_of_numbers(epochs=9, limits={"max_steps": 10}), tick_s=1e-6)
    assert (end.step, end.epoch, end.ended) == (10, 1, End.MAX_STEPS)
    assert desk.epochs[2]["rows"] == 24 and "val_loss" in desk.epochs[2]
    assert desk.snapshots[-1].at.ended is End.MAX_STEPS
    assert desk.told[0].steps == 10
    end, _, desk = trained(spec_of_numbers(epochs=9, limits={"max_steps": 14}))
    assert (end.step, end.epoch, list(desk.epochs)) == (14, 2, [1, 2])


def test_a_limit_of_time_counts_all_who_worked_at_it() -> None:
    spec = spec_of_numbers(epochs=1000, limits={"max_s": 1.0})
    end, _, desk = trained(spec, tick_s=0.01)
    assert end.ended is End.MAX_S and 1.0 <= end.trained_s < 1.2
    early = desk.snapshots[2]
    late = replace(early, at=replace(early.at, trained_s=0.9))
    again, _, _ = trained(spec, resumed=late, tick_s=0.01)
    assert again.ended is End.MAX_S and again.step < early.at.step + 20


def test_a_training_that_had_ended_only_takes_the_best_weights_again() -> None:
    spec = spec_of_numbers(epochs=30, early_stopping=STOPPING)
    end, learner, desk = trained(spec)
    again, other, others = trained(spec, resumed=desk.snapshots[-1])
    assert (again.ended, again.step, again.patience) == (end.ended, end.step, end.patience)
    assert (other.w == learner.w).all() and not others.losses


@pytest.mark.parametrize(
    ("wish", "code"), [(Wish.PAUSE, TrainerExit.PAUSED), (Wish.LEAVE, TrainerExit.STOPPED)]
)
@pytest.mark.parametrize("looks", range(1, 40, 3))
def test_a_pause_leaves_a_checkpoint_of_the_very_step_it_fell_on(
    wish: Wish, code: TrainerExit, looks: int
) -> None:
    spec = spec_of_numbers(epochs=3)
    _, calm, quiet = trained(spec)
    left = [looks]

    def after_some() -> Wish:
        left[0] -= 1
        return Wish.GO if left[0] > 0 else wish

    desk = NotingDesk(after_some)
    try:
        trained(spec, desk, tick_s=1e9)
    except Leave as leave:
        assert leave.code is code and desk.settled
    resumed = desk.snapshots[-1] if desk.snapshots else None
    assert (resumed.at.step if resumed else 0) == max(desk.losses, default=0)
    desk._wish = lambda: Wish.GO
    _, learner, _ = trained(spec, desk, resumed=resumed)
    assert (learner.w == calm.w).all() and curves(desk) == curves(quiet)


def test_a_cancelled_training_leaves_nothing() -> None:
    desk = NotingDesk(lambda: Wish.DROP)
    with pytest.raises(Leave) as caught:
        trained(spec_of_numbers(), desk)
    assert caught.value.code is TrainerExit.STOPPED and not desk.snapshots


def test_a_batch_larger_than_the_data_and_an_empty_split_are_refused() -> None:
    with pytest.raises(InvalidInput, match="only 5 rows") as caught:
        trained(spec_of_numbers(), train=5)
    assert caught.value.stable_code == "batch_too_large"
    with pytest.raises(InvalidInput) as caught:
        trained(spec_of_numbers(), train=0)
    assert caught.value.stable_code == "split_empty"


def test_without_validation_rows_nothing_is_validated() -> None:
    _, _, desk = trained(spec_of_numbers(epochs=1), validation=0)
    assert "val_loss" not in desk.epochs[1]


def test_the_snapshot_is_not_changed_by_later_steps() -> None:
    _, _, desk = trained(spec_of_numbers(epochs=2))
    states: list[Array] = [one.state["w"] for one in desk.snapshots]
    assert (states[0] != states[1]).any()
