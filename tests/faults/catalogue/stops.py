"""Processes that are told to end, or stand still for a while."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.scene import REACH_S, Scene
from tests.support.waiting import wait_until

UNSPENT = {"states": ["succeeded"], "most_attempts": 1, "most_losses": 0}
PER_STOP = 20  # jobs, at least
LATE = "came too late and were discarded"


def graceful(scene: Scene) -> None:
    """SIGTERM under load, again and again: no attempt is spent, nobody waits for a lease."""
    scene.pace(0.02)
    met = 0
    share = max(PER_STOP, scene.jobs // scene.stops)
    for _ in range(scene.stops):
        scene.submit(share, expect=UNSPENT)
        running = scene.wait_running()
        scene.stack.stop("worker")
        left = scene.count("SELECT count(*) FROM live WHERE state = 'running'")
        assert left == 0, f"{left} jobs still belong to a worker that ended gracefully"
        met += running > 0
        scene.healed()
        scene.stack.start("worker")
    assert met == scene.stops, f"only {met} of {scene.stops} stops met work under way"
    scene.hit(f"{met} stops met running jobs")


def rolling(scene: Scene) -> None:
    """Two workers are restarted in turn under load."""
    scene.start("worker2")
    met = []
    for worker in ("worker", "worker2"):
        scene.pace(0.05, worker)
    rounds = max(1, min(scene.stops // 2, 10))
    for _ in range(rounds):
        for worker in ("worker", "worker2"):
            scene.submit(scene.jobs // (2 * rounds), expect=UNSPENT)
            met.append(scene.wait_running())
            scene.stack.stop(worker)
            scene.healed()
            scene.stack.start(worker)
    scene.hit(f"{met} jobs were running at the stops")


def _stand_still(scene: Scene, others: bool) -> None:
    scene.hold()
    scene.submit(scene.jobs)
    held = scene.wait_on_device()
    session = scene.sql("SELECT session_id FROM live WHERE id = %(id)s", id=held[0])[0][0]
    device = scene.stack.device()
    os.kill(device, signal.SIGSTOP)
    scene.afterwards(lambda: _go_on(device))
    scene.release()
    scene.hit(f"{len(held)} jobs were on the device that stood still")
    if others:
        scene.stack.start("worker2")
        scene.afterwards(lambda: scene.stack.stop("worker2"))
    wait_until(
        lambda: scene.count(
            "SELECT count(*) FROM sessions WHERE id = %(id)s AND ended_at IS NOT NULL", id=session
        ),
        REACH_S,
        what="the end of its lease",
    )
    if others:
        wait_until(lambda: scene.live() == 0, REACH_S, what="the other worker to do its work")
    _go_on(device)
    if not others:
        scene.healed()
    log = scene.stack.folder / "worker.log"
    wait_until(lambda: LATE in log.read_text(), REACH_S, what="the late results to be discarded")
    scene.hit("its results were discarded")


def _go_on(device: int) -> None:
    if Path(f"/proc/{device}").exists():
        os.kill(device, signal.SIGCONT)


def standing_still_beside_another(scene: Scene) -> None:
    _stand_still(scene, others=True)


def standing_still_alone(scene: Scene) -> None:
    _stand_still(scene, others=False)


FAULTS = (
    Fault("graceful stop under load, repeated", graceful),
    Fault("rolling restart of two workers", rolling),
    Fault("device stopped past its lease, another takes its work", standing_still_beside_another),
    Fault("device stopped past its lease, goes on alone", standing_still_alone),
)
