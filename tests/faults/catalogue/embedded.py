"""The embedded mode: another process holds SQLite's lock, the disk is full, all of it is killed.

Nothing that was accepted is lost by it, callers are told clearly, and all is done afterwards.
"""

from __future__ import annotations

import time

import httpx

from tests.faults.embedded import SmallStack
from tests.faults.fault import Fault
from tests.faults.load import MODEL
from tests.faults.rows import ROWS, at_the_end_again, paced, submit, under_way
from tests.faults.scene import Scene
from tests.support.waiting import wait_until

LOCKED_S = 12.0  # longer than anybody waits for the lock
FULL_S = 3.0
_JOB = {"kind": "inference", "model": MODEL}
_SMALL: dict[str, object] = {**_JOB, "input": {"tensor": [0.5, -0.5]}}
_ITEMS = [{"tensor": [n + 0.123456789, n + 0.987654321]} for n in range(1000)]
_LARGE: dict[str, object] = {**_JOB, "input": {"items": _ITEMS}}  # not kept in line


def locked(scene: Scene) -> None:
    """For longer than the busy timeout, as a backup or a curious operator might."""
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    with _stack(scene).connected() as other:
        other.execute("BEGIN IMMEDIATE")
        until_s = time.monotonic() + LOCKED_S
        scene.release()
        scene.submit_meanwhile(scene.jobs // 2)
        said = _refused(scene, _SMALL)
        ready = scene.ayla.http.get("/v1/jobs")
        assert ready.status_code == 200, "readers go on"
        wait_until(lambda: time.monotonic() > until_s, LOCKED_S + 1)
        other.execute("ROLLBACK")
    scene.hit(f"{len(held)} jobs were on the device when the lock was taken; {said}")
    scene.healed()


def disk_full(scene: Scene) -> None:
    disk = _stack(scene).disk
    scene.afterwards(disk.make_room)
    scene.hold()
    scene.submit(scene.jobs // 2)
    held = scene.wait_on_device()
    taken = disk.fill()
    until_s = time.monotonic() + FULL_S
    scene.release()
    scene.submit_meanwhile(scene.jobs // 2)
    said = _refused(scene, _LARGE)
    wait_until(lambda: time.monotonic() > until_s, FULL_S + 1)
    live = scene.live()
    assert live, "results were stored on a full disk"
    scene.hit(
        f"{len(held)} jobs on the device when {taken} bytes filled the disk; {said}; {live} live"
    )
    disk.make_room()
    scene.healed()


def killed_in_bulk(scene: Scene) -> None:
    """``kill -9`` of everything while a bulk job runs; started again it goes on where it was."""
    paced(scene)
    run = submit(scene)
    at_the_end_again(scene, run, 2 * ROWS)
    said = under_way(scene)
    scene.stack.kill("up")
    scene.hit(said)
    scene.stack.start("up")
    scene.healed()


def _refused(scene: Scene, body: dict[str, object]) -> str:
    """A submit is answered with a clear problem that says when to come back."""
    began_s = time.monotonic()
    answer: httpx.Response = scene.ayla.http.post("/v1/jobs", json=body)
    took_s = time.monotonic() - began_s
    assert answer.status_code == 503, answer.text
    problem = answer.json()
    assert problem["code"] in ("database_unavailable", "objects_unavailable"), problem
    assert int(answer.headers["retry-after"]) >= 1
    return f"503 {problem['code']} after {took_s:.1f} s"


def _stack(scene: Scene) -> SmallStack:
    stack = scene.stack
    assert isinstance(stack, SmallStack), "a fault of the embedded mode"
    return stack


FAULTS = (
    Fault("SQLite locked by another process", locked),
    Fault("disk full", disk_full),
    Fault("bulk: forebay up killed mid-run", killed_in_bulk, jobs=16),
)
