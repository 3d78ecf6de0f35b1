"""CPU seconds of processes and threads, out of /proc: a profile that costs nothing to take."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def of_process(pid: int) -> float:
    """User and system seconds of a process, and of those of its children that have ended."""
    return sum(map(int, _stat(Path(f"/proc/{pid}/stat"))[11:15])) / TICKS_PER_S


def of_threads(pid: int) -> dict[int, float]:
    """Seconds of each thread of one process by its id."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {
        int(task.name): sum(map(int, _stat(task / "stat")[11:13])) / TICKS_PER_S for task in tasks
    }


def names_of_threads(pid: int) -> dict[int, str]:
    """What the kernel calls them: one without a name of its own is called as its process."""
    names = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            names[int(task.name)] = (task / "comm").read_text().strip()
    return names


def below(pid: int) -> list[int]:
    """All processes below ``pid``."""
    children = defaultdict(list)
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            children[int(_stat(path / "stat")[1])].append(int(path.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        next_ones = children[waiting.pop()]
        found += next_ones
        waiting += next_ones
    return found


def _stat(path: Path) -> list[str]:
    """The fields after the name, the state first; zeros when it has ended meanwhile."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", *["0"] * 50]
