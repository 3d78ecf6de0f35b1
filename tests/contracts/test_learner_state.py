"""A training goes on elsewhere as if nothing had been: every weight, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import Network
from tests.support.learner_course import layer, normalised
from tests.support.learning import columns, recipe, rows_of, spec_of
from tests.support.zoo import ROOT
from workers.runtime.learning.opening import open_learning
from workers.training.checkpoint_file import read_checkpoint, write_checkpoint
from workers.training.position import Position, Snapshot

pytestmark = [pytest.mark.tensorflow]


def course(out: Path, first: int, last: int, group: int, *state: Path) -> dict[str, np.ndarray]:
    said = [sys.executable, "-m", "tests.support.learner_course", out, first, last, group, *state]
    subprocess.run([str(word) for word in said], check=True, cwd=ROOT, timeout=120)
    return dict(np.load(out, allow_pickle=False))


def test_half_a_training_and_the_rest_elsewhere_are_the_whole_training_bit_for_bit(
    tmp_path: Path,
) -> None:
    whole = course(tmp_path / "whole.npz", 0, 12, 12)
    half = course(tmp_path / "half.npz", 0, 6, 4)
    rest = course(tmp_path / "rest.npz", 6, 12, 5, tmp_path / "half.npz")
    assert whole.keys() == rest.keys() == half.keys()
    for name, value in whole.items():
        if name.endswith("|losses"):
            together = np.concatenate([half[name], rest[name]])
            assert together.tobytes() == value.tobytes(), name
        else:
            assert rest[name].tobytes() == value.tobytes(), name
            assert rest[name].dtype == value.dtype and rest[name].shape == value.shape
    changed = [name for name, value in half.items() if value.tobytes() != whole[name].tobytes()]
    assert any("seed_generator_state" in name for name in changed)
    assert any("moving_variance" in name for name in changed)


def test_a_state_of_another_network_is_refused_and_changes_nothing() -> None:
    learning = open_learning("cpu")
    prepared = columns()
    learner = learning.open_learner(spec_of(recipe("dense", units=[4])), prepared, None)
    wider = learning.open_learner(spec_of(recipe("dense", units=[5])), prepared, None)
    deeper = learning.open_learner(spec_of(recipe("dense", units=[4, 4])), prepared, None)
    before = learner.state()
    for other, word in ((wider, "[4, 5]"), (deeper, "only in one")):
        with pytest.raises(InvalidInput) as caught:
            learner.restore(other.state())
        assert caught.value.stable_code == "checkpoint_mismatch"
        assert word in caught.value.message
    assert all(np.array_equal(before[name], value) for name, value in learner.state().items())


def test_a_network_of_bfloat16_goes_on_from_its_checkpoints_file(tmp_path: Path) -> None:
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": "bfloat16"},
        "registered_name": None,
    }
    config = normalised()
    dense = layer("Dense", units=3, activation="softmax", dtype=policy)
    dense["config"]["name"] = "said"  # the second one of a process would be called otherwise
    config["config"]["layers"] = [dense]
    prepared, network = columns(), Network(keras=config)
    rows, half = rows_of(prepared, 64), rows_of(prepared, 32)
    learning = open_learning("cpu")
    learner = learning.open_learner(spec_of(network), prepared, None)
    learner.run(half, 8)
    state = learner.state()
    assert "bfloat16" in {array.dtype.name for array in state.values()}
    path = tmp_path / "checkpoint.zip"
    write_checkpoint(path, Snapshot(Position(8), state, None), spec="s", prepared="p")
    again = learning.open_learner(spec_of(network), prepared, None)
    again.restore(read_checkpoint(path).snapshot.state)
    for one in (learner, again):
        one.run(rows, 8)
    states = learner.state(), again.state()
    assert all(states[1][name].tobytes() == array.tobytes() for name, array in states[0].items())


def test_the_best_epochs_weights_come_back_and_the_optimiser_stays() -> None:
    prepared = columns()
    learner = open_learning("cpu").open_learner(spec_of(recipe("dense", units=[4])), prepared, None)
    rows = rows_of(prepared, 32)
    best, at_best = learner.weights(), learner.predict(rows.inputs)
    learner.run(rows, 8)
    steps_behind = learner.state()
    assert not np.array_equal(learner.predict(rows.inputs), at_best)
    learner.set_weights(best)
    assert np.array_equal(learner.predict(rows.inputs), at_best)
    kept = {k: v for k, v in learner.state().items() if k.startswith("optimizer/")}
    assert kept and all(np.array_equal(steps_behind[name], value) for name, value in kept.items())
