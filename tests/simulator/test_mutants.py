"""Each of these promises, taken out of the product, turns the simulator red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.mutant import copy_tree
from tests.simulator.mutants import MUTANTS, SimulatedMutant
from tests.simulator.runs import run_seeds

BROKEN = 1
DEADLINE_S = 600


@pytest.mark.parametrize(("on", "seeds"), [("fakes", 60), ("sqlite", 25)])
def test_the_simulator_stays_green_with_late_commits_when_nothing_is_broken(
    on: str, seeds: int
) -> None:
    """For the others the seeds of ``test_simulator`` say the same."""
    assert all(seeds >= one.seeds for one in MUTANTS if one.late and one.on == on)
    total = run_seeds(range(seeds), on, late=True)
    assert not total.broken, total.broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_the_simulator_turns_red_when(mutant: SimulatedMutant, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    for edit in mutant.edits:
        edit.apply(tree)
    late = ["--late"] if mutant.late else []
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator", *late, *mutant.arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout[-4_000:] + done.stderr[-2_000:]
    assert done.returncode == BROKEN, said
    assert mutant.says in done.stdout, said
    assert "again: python -m tests.simulator" in done.stdout, said
