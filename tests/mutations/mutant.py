"""Breaks one promise in a copy of the tree and says what the tests made of it.

A mutant is a few replacements. The copy holds what git tracks or would track, so the
checkout is never touched; the tests run in a process of their own, with the copy first on the
path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ("storage", "producers", "workers", "deploy", "tests", "pyproject.toml")
PYTEST_FAILED = 1  # some test failed; any other code means that nothing was tested
DEADLINE_S = 180


@dataclass(frozen=True)
class Edit:
    """``old`` stands exactly once in ``file``; ``new`` takes its place."""

    file: str
    old: str
    new: str

    def apply(self, tree: Path) -> None:
        """Make it, or say that the code has moved on and the mutant has not."""
        path = tree / self.file
        text = path.read_text()
        found = text.count(self.old)
        assert found == 1, f"{self.old!r} stands {found} times in {self.file}: mend the mutant"
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """A broken promise, and the tests that must notice (as pytest takes them)."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]


def copy_tree(into: Path) -> Path:
    """What the tests need of the checkout."""
    into.mkdir(parents=True)
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, into / name)
    return into


def run_tests(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` of the copy until one fails."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment = {
        **inherited,
        "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'deploy'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
