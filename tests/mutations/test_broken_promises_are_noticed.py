"""Each promise, broken on purpose, turns some test red. A suite that stays green proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.mutant import PYTEST_FAILED, Mutant, copy_tree, run_tests
from tests.mutations.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_test_turns_red_when(mutant: Mutant, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    for edit in mutant.edits:
        edit.apply(tree)
    done = run_tests(tree, mutant.tests)
    said = done.stdout[-4_000:] + done.stderr[-2_000:]
    # Any other code, or an error outside a test, would mean that nothing was judged.
    assert done.returncode == PYTEST_FAILED, said
    assert "FAILED " in done.stdout and "ERROR " not in done.stdout, said
