"""One run of one fault: submit, inject, heal, wait, dump, audit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.fault import Fault
from tests.faults.scene import NotHit, Scene
from tests.faults.stack import ROOT
from tests.faults.stage import Stage

BOUND_S = 30.0  # recovery, with the default settings
DEADLINE_S = 120.0  # what is live then is stuck
_COUNTED = ("lost", "doubled", "crossed", "stuck")


@dataclass
class Run:
    """What came of it."""

    fault: str
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    crossed: int = 0
    stuck: int = 0
    recovery_s: float = 0.0
    wall_s: float = 0.0
    evidence: str = ""
    trouble: list[str] = field(default_factory=list)  # why it is not good
    folder: str = ""

    @property
    def good(self) -> bool:
        return not self.trouble


def play(stage: Stage, fault: Fault, folder: Path, *, stops: int = 5) -> Run:
    """Run it once in ``folder``, which stays when something is wrong."""
    began_s = time.monotonic()
    folder.mkdir(parents=True)
    run = Run(fault.name, folder=str(folder))
    try:
        _play(stage, fault, folder, run, stops)
    except Exception as e:  # whatever it was, the next fault must not find what this one left
        run.trouble.append(f"{type(e).__name__}: {e}"[:4000])
    run.wall_s = time.monotonic() - began_s
    if run.trouble:
        (folder / "logs.txt").write_text(stage.logs())
        (folder / "trouble.json").write_text(json.dumps(run.trouble, indent=1))
        stage.drop()
    return run


def _play(stage: Stage, fault: Fault, folder: Path, run: Run, stops: int) -> None:
    stack, load = stage.ready(fault)
    load.begin(folder / "book.jsonl")
    seed = random.SystemRandom().randrange(1 << 32)
    scene = Scene(stack, load, fault.jobs, stops, seed)
    print(f"{fault.name}: seed {seed}", file=sys.stderr)
    try:
        try:
            fault.inject(scene)
            scene.join()
            if (left := fault.jobs - load.asked) > 0:
                scene.submit(left)
            _wait_terminal(scene)
        finally:
            scene.clean_up()
            for line in (scene.broker, scene.database, scene.objects):
                line.heal()
        if scene.hit_s is None:
            raise NotHit(f"{fault.name}: the fault did not meet any work")
        run.evidence = "; ".join(scene.evidence)
        run.recovery_s = max(0.0, _last_end_s(scene) - (scene.healed_s or scene.hit_s))
        if run.recovery_s > BOUND_S:
            run.trouble.append(f"recovered after {run.recovery_s:.1f} s, more than {BOUND_S:g} s")
    finally:
        load.book.close()
    stage.collect(stack, folder)
    found = audit(folder)
    run.accepted = found["accepted"]
    for name in _COUNTED:
        setattr(run, name, found[name])
    run.trouble += found["findings"]
    if not run.trouble:
        stage.forget(stack)


def _wait_terminal(scene: Scene) -> None:
    """Until the last job is terminal; what is live after the deadline is stuck."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        try:
            if scene.live() == 0:
                return
        except psycopg.OperationalError:
            pass  # the database is a part that faults may end
        time.sleep(0.05)


def _last_end_s(scene: Scene) -> float:
    """When the last job became terminal; now, if some have not."""
    if scene.live():
        return time.time()
    return scene.count("SELECT COALESCE(max(finished_at), 0) FROM ends") / 1000


def audit(folder: Path) -> dict[str, Any]:
    """What a process that knows none of our code says of the folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.auditor", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    if not done.stdout.strip():
        raise RuntimeError(f"the auditor failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    (folder / "audit.json").write_text(done.stdout)
    return found
