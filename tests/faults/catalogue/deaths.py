"""Processes of ours that die: each at its worst moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.scene import REACH_S, Scene
from tests.faults.wire.http import Answered
from tests.faults.wire.postgres import Done, Settled
from tests.support.waiting import wait_until

CLAIM = "UPDATE live SET state = 'running'"
ENDS = "INSERT INTO ends"
SUBMITS = "INSERT INTO live"
REAPS = "s.ended_at IS NOT NULL"


def _device_dies_when_settled(scene: Scene, *words: str) -> None:
    """Kill it after a transaction with these words was committed, before it hears of that."""
    scene.pace(0.05)
    trip = scene.database["worker"].trip(
        lambda event: isinstance(event, Settled) and event.did(*words),
        scene.stack.kill_device,
    )
    scene.submit_meanwhile(scene.jobs)
    trip.wait()
    scene.hit(f"{scene.running()} running, {scene.live()} live")


def after_the_claim(scene: Scene) -> None:
    _device_dies_when_settled(scene, CLAIM)


def after_the_commit(scene: Scene) -> None:
    _device_dies_when_settled(scene, ENDS)


def mid_forward(scene: Scene) -> None:
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    scene.stack.kill_device()
    scene.release()
    scene.hit(f"{len(held)} jobs were on the device")


def after_the_put(scene: Scene) -> None:
    scene.pace(0.05)
    trip = scene.objects["worker"].trip(_result_is_stored, scene.stack.kill_device)
    scene.submit_meanwhile(scene.jobs)
    trip.wait()
    scene.hit(f"{scene.running()} running, {scene.live()} live")


def _result_is_stored(event: object) -> bool:
    is_put = isinstance(event, Answered) and event.verb == "PUT" and event.status == 200
    return is_put and "/packs/result/" in event.path


def supervisor(scene: Scene) -> None:
    """Its device process ends by itself then; the operator starts another worker."""
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    device = scene.stack.device()
    os.kill(scene.stack.pid("worker"), signal.SIGKILL)
    scene.hit(f"{len(held)} jobs were on the device of the supervisor")
    scene.release()
    wait_until(lambda: not Path(f"/proc/{device}").exists(), REACH_S, what="the device's end")
    scene.stack.start("worker")
    scene.healed()


def host(scene: Scene) -> None:
    """Supervisor and device at once, as when a machine goes: only the lease tells."""
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    scene.stack.kill("worker")
    scene.release()
    scene.hit(f"{len(held)} jobs were on the device")
    scene.stack.start("worker")
    scene.healed()


def api(scene: Scene) -> None:
    """The rows are committed as published, and nobody is left to publish them."""
    pid = scene.stack.pid("api")
    trip = scene.database["api"].trip(
        lambda event: isinstance(event, Settled) and event.did(SUBMITS),
        lambda: os.kill(pid, signal.SIGKILL),
    )
    scene.submit_meanwhile(scene.jobs)
    trip.wait()
    scene.stack.kill("api")
    committed = scene.live()
    scene.hit(f"{committed} jobs were committed") if committed else None
    scene.stack.start("api")
    scene.healed()


def keeper(scene: Scene) -> None:
    """In the middle of reaping what a lost worker ran."""
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    pid = scene.stack.pid("keeper")
    trip = scene.database["keeper"].trip(
        lambda event: (
            isinstance(event, Done) and REAPS in event.statement and event.tag != "SELECT 0"
        ),
        lambda: os.kill(pid, signal.SIGKILL),
    )
    scene.stack.kill("worker")
    scene.release()
    scene.stack.start("worker")
    trip.wait()
    scene.hit(f"it held {len(held)} jobs and more")
    scene.stack.kill("keeper")
    scene.stack.start("keeper")
    scene.healed()


FAULTS = (
    Fault("device killed after the claim", after_the_claim),
    Fault("device killed mid-forward", mid_forward),
    Fault("device killed after the put", after_the_put),
    Fault("device killed after the commit, before the ack", after_the_commit),
    Fault("supervisor killed", supervisor),
    Fault("worker lost whole", host),
    Fault("API killed between commit and publish", api),
    Fault("keeper killed while it reaps", keeper),
)
