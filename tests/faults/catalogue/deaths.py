"""Processes of ours that die: each at its worst moment."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.scene import Scene
from tests.faults.wire.http import Answered
from tests.faults.wire.postgres import Settled


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
    _device_dies_when_settled(scene, "UPDATE live SET state = 'running'")


def after_the_commit(scene: Scene) -> None:
    _device_dies_when_settled(scene, "INSERT INTO ends")


def mid_forward(scene: Scene) -> None:
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    scene.stack.kill_device()
    scene.release()
    scene.hit(f"{len(held)} jobs were on the device")


def after_the_put(scene: Scene) -> None:
    scene.pace(0.05)
    trip = scene.objects["worker"].trip(
        lambda event: (
            isinstance(event, Answered)
            and event.verb == "PUT"
            and "/packs/result/" in event.path
            and event.status == 200
        ),
        scene.stack.kill_device,
    )
    scene.submit_meanwhile(scene.jobs)
    trip.wait()
    scene.hit(f"{scene.running()} running, {scene.live()} live")


FAULTS = (
    Fault("device killed after the claim", after_the_claim),
    Fault("device killed mid-forward", mid_forward),
    Fault("device killed after the put", after_the_put),
    Fault("device killed after the commit, before the ack", after_the_commit),
)
