"""Clocks that are wrong. Only the database's says who is late."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.scene import Scene
from tests.faults.stack import OURS
from tests.support.waiting import wait_until

HOUR_S = 3600.0
WRONG_CLOCK = Path(__file__).resolve().parents[1] / "wrong_clock"


def an_hour_off(scene: Scene) -> None:
    """One of two workers believes that it is an hour later, or earlier, than it is."""
    shift_s = random.Random(scene.seed).choice((HOUR_S, -HOUR_S))
    scene.stack.extra["worker2"] = {
        "PYTHONPATH": f"{WRONG_CLOCK}:{OURS}",
        "FOREBAY_FAULTS_CLOCK_S": str(shift_s),
    }
    scene.afterwards(lambda: scene.stack.extra.pop("worker2") and None)
    scene.start("worker2")
    believed = scene.stack.control("worker2") / "clock"
    off_s = float(believed.read_text()) - time.time()
    assert abs(off_s - shift_s) < 120, f"its clock is off by {off_s:.0f} s only"
    for worker in ("worker", "worker2"):
        scene.pace(0.05, worker)
    scene.submit(scene.jobs)
    session = scene.stack.ledger("worker2").session_id  # type: ignore[union-attr]
    # S3 refuses who is more than a quarter of an hour off: then it has to give back what it took.
    taken = wait_until(
        lambda: scene.count(
            "SELECT count(*) FROM (SELECT session_id FROM live UNION ALL SELECT session_id FROM"
            " ends) AS s WHERE session_id = %(id)s",
            id=session,
        ),
        60,
        what="a job taken by the worker whose clock is wrong",
    )
    scene.hit(f"{taken} jobs were taken by a worker whose clock is off by {off_s:.0f} s")


FAULTS = (Fault("clock of one worker an hour off", an_hour_off),)
