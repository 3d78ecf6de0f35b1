"""Bulk jobs whose workers die, stop and stand still.

A run's owner plans it and ends it, whoever is free scores it; each of them dies at its worst moment
here. Whatever happens every row has one answer, and little is scored again.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.rows import (
    BUSY,
    ROWS,
    RUNNING,
    at_the_end_again,
    objects,
    paced,
    submit,
    under_way,
    wait_over,
)
from tests.faults.scene import REACH_S, Scene
from tests.faults.wire.http import Answered, Asked
from tests.faults.wire.line import Matches
from tests.faults.wire.postgres import Settled
from tests.support.stack import descendants
from tests.support.waiting import wait_until

JOBS = 16  # beside the run
SHARDS = 2 * ROWS  # what one worker may have under way: one shard that is fed, one that is stored
CHUNK = 1024  # rows: about a second's
PLANNED = "UPDATE bulk_runs SET planned_at"
MANIFEST = "manifest.json"
WRITING = "SELECT object_key FROM packs WHERE state = 'writing' AND left(object_key, 5) = 'bulk/'"
ABANDON = """
    UPDATE packs SET created_at = created_at - 7200000
    WHERE state = 'writing' AND left(object_key, 5) = 'bulk/'
"""


def device_killed(scene: Scene) -> None:
    """Mid-pass: what was on the device is suspected and done again, with less beside it."""
    paced(scene)
    run = submit(scene)
    at_the_end_again(scene, run, SHARDS)
    said = under_way(scene)
    scene.hold()
    rows = scene.wait_rows_on_device()
    scene.stack.kill_device()
    scene.release()
    scene.hit(f"{rows} rows were on the device; {said}")


def worker_lost(scene: Scene) -> None:
    """Supervisor and device for good; another worker has shards of the run, and takes the rest."""
    scene.start("worker2")
    paced(scene, "worker", "worker2")
    run = submit(scene, files=12)
    at_the_end_again(scene, run, SHARDS, "worker", "worker2")
    wait_until(lambda: scene.count(BUSY) == 2, REACH_S, what="both workers at it")
    said = under_way(scene)
    scene.stack.kill("worker")
    scene.hit(said)


def _owner_dies(scene: Scene, trip_of: str, matches: Matches, what: str) -> None:
    """The whole worker that owns the run, at a moment that shows on its way to a service."""
    paced(scene, seconds=0.005)
    line = scene.objects if trip_of == "objects" else scene.database
    tree = [scene.stack.pid("worker"), *descendants(scene.stack.pid("worker"))]

    def die() -> None:
        for pid in tree:
            os.kill(pid, signal.SIGKILL)

    trip = line["worker"].trip(matches, die)
    run = submit(scene)
    trip.wait()
    scene.stack.kill("worker")
    assert scene.count(f"SELECT count(*) FROM live WHERE id = '{run.id}'"), "the run was over"
    scene.hit(what)
    scene.stack.start("worker")
    scene.healed()


def owner_after_planning(scene: Scene) -> None:
    _owner_dies(
        scene,
        "database",
        lambda event: isinstance(event, Settled) and event.did(PLANNED),
        "the plan was committed, and nobody had heard of it",
    )


def owner_before_the_manifest(scene: Scene) -> None:
    _owner_dies(
        scene,
        "objects",
        lambda event: (
            isinstance(event, Asked) and event.verb == "PUT" and event.path.endswith(MANIFEST)
        ),
        "every shard was done, and the manifest about to be put",
    )


def owner_after_the_manifest(scene: Scene) -> None:
    _owner_dies(
        scene,
        "objects",
        lambda event: (
            isinstance(event, Answered)
            and event.verb == "PUT"
            and event.path.endswith(MANIFEST)
            and event.status == 200
        ),
        "the manifest was put, and the job not yet over",
    )


def killed_after_a_put(scene: Scene) -> None:
    """In the service's own store: the object is there, its row says who wrote it, nobody points
    to it. The collector knows it by its row."""
    paced(scene)
    trip = scene.objects["worker"].trip(_part_is_stored, scene.stack.kill_device)
    run = submit(scene, own=True)
    at_the_end_again(scene, run, SHARDS)
    trip.wait()
    left = wait_until(lambda: scene.sql(WRITING), REACH_S, what="a row of what was being written")
    scene.hit(f"{len(left)} files were put and not committed")
    scene.afterwards(lambda: _collected(scene, left[0][0]))


def _part_is_stored(event: object) -> bool:
    return _part_is_put(event) and "/bulk/" in getattr(event, "path", "")


def _collected(scene: Scene, key: str) -> None:
    """An hour later, by the clock that counts: the keeper takes it away. Another one, as the one
    that runs looks once a minute."""
    scene.sql(ABANDON)
    scene.stack.start("keeper2")
    wait_until(lambda: not scene.sql(WRITING), REACH_S, what="the collector")
    gone = f"SELECT count(*) FROM packs WHERE object_key = '{key}'"
    wait_until(lambda: scene.count(gone) == 0, REACH_S, what="the end of an abandoned file")
    scene.stack.stop("keeper2")
    scene.hit("and the collector took it away")


def graceful(scene: Scene) -> None:
    """SIGTERM amid a shard: what is scored is committed, and the job goes on where it was."""
    paced(scene)
    run = submit(scene, files=3, rows=1600)
    at_the_end_again(scene, run, CHUNK)
    said = under_way(scene)
    scene.stack.stop("worker")
    left = scene.count(RUNNING)
    assert left == 0, f"{left} shards still belong to a worker that ended gracefully"
    amid = scene.count(
        "SELECT count(*) FROM bulk_parts AS p JOIN bulk_shards AS s"
        " ON s.job_id = p.job_id AND s.number = p.number WHERE s.state = 'open'"
    )
    states = scene.sql(f"SELECT state FROM live WHERE id = '{run.id}'")
    assert states == [("queued",)], states
    scene.hit(f"{said}; {amid} shards were given back with a part of them done")
    scene.stack.start("worker")
    scene.healed()


def standing_still(scene: Scene) -> None:
    """The device stops when a part is stored, for longer than its lease; another worker does the
    shard. When it goes on its part does not count, and its object goes."""
    paced(scene)
    device = scene.stack.device()
    trip = scene.objects["worker"].trip(_part_is_put, lambda: os.kill(device, signal.SIGSTOP))
    scene.afterwards(lambda: _go_on(device))
    run = submit(scene, files=4)
    trip.wait()
    assert isinstance(trip.event, Answered)
    name = trip.event.path.rpartition("/")[2].partition("?")[0]
    wait_until(lambda: name in objects(scene, run), REACH_S, what="the object of the part")
    session = scene.sql("SELECT session_id FROM bulk_shards WHERE state = 'running'")[0][0]
    scene.stack.start("worker2")
    scene.afterwards(lambda: scene.stack.stop("worker2"))
    paced(scene, "worker2", seconds=0.1)
    ended = f"SELECT count(*) FROM sessions WHERE id = '{session}' AND ended_at IS NOT NULL"
    wait_until(lambda: scene.count(ended), REACH_S, what="the end of its lease")
    wait_until(lambda: scene.count(BUSY), REACH_S, what="another worker at its shard")
    scene.hit(f"{name} was put and not committed when the lease ended")
    _go_on(device)
    wait_until(lambda: name not in objects(scene, run), REACH_S, what="the end of the late object")
    assert scene.count(f"SELECT count(*) FROM live WHERE id = '{run.id}'"), "the run was over"
    counted = scene.count(
        f"SELECT count(*) FROM bulk_parts WHERE right(object_key, {len(name)}) = '{name}'"
    )
    assert counted == 0, "the late part was counted"
    paced(scene, "worker2", seconds=0.005)
    scene.healed()


def too_late(scene: Scene) -> None:
    """The device stops as it is about to send a part, until another worker has done everything.
    Then its object comes into a finished output, and it takes it away again."""
    paced(scene)
    device = scene.stack.device()
    trip = scene.objects["worker"].trip(_part_is_asked, lambda: os.kill(device, signal.SIGSTOP))
    scene.afterwards(lambda: _go_on(device))
    run = submit(scene, files=4)
    trip.wait()
    said = under_way(scene, parts=0)
    scene.hit(f"{said} when it stopped")
    scene.start("worker2")
    state = wait_over(scene, run)
    assert state == "succeeded", state
    before = objects(scene, run)
    taken = scene.objects["worker"].trip(_is_deleted, lambda: None)
    scene.hit(f"there were {len(before)} objects when another had done everything")
    _go_on(device)
    taken.wait()
    wait_until(lambda: objects(scene, run) == before, REACH_S, what="the end of the late object")


def _part_is_asked(event: object) -> bool:
    return isinstance(event, Asked) and event.verb == "PUT" and "/part-" in event.path


def _is_deleted(event: object) -> bool:
    return isinstance(event, Answered) and event.verb in ("DELETE", "POST")


def _part_is_put(event: object) -> bool:
    is_put = isinstance(event, Answered) and event.verb == "PUT" and event.status == 200
    return is_put and "/part-" in event.path


def _go_on(device: int) -> None:
    if Path(f"/proc/{device}").exists():
        os.kill(device, signal.SIGCONT)


def cancels(scene: Scene) -> None:
    """Runs are cancelled at the moments of their end: each has succeeded with a manifest, or was
    cancelled and has none."""
    paced(scene, seconds=0.002)
    moments: list[Matches] = [
        lambda event: isinstance(event, Asked) and MANIFEST in event.path,
        lambda event: (
            isinstance(event, Answered) and event.verb == "PUT" and MANIFEST in event.path
        ),
        lambda event: (
            isinstance(event, Answered) and event.verb == "PUT" and "/packs/result/" in event.path
        ),
        lambda event: isinstance(event, Settled) and event.did("INSERT INTO ends"),
        lambda event: isinstance(event, Settled) and event.did("INSERT INTO bulk_parts"),
    ]
    outcomes: dict[str, int] = {}
    for number, matches in enumerate(moments):
        person = scene.load.people[number % 2]
        line = scene.database if number >= 3 else scene.objects
        ids: list[str] = []

        def cancel(person=person, ids=ids) -> None:  # type: ignore[no-untyped-def]
            wait_until(lambda: ids, REACH_S, what="an answer to the submit")
            answer = person.cancel(ids[0])
            assert answer.status_code in (200, 202), answer.text

        trip = line["worker"].trip(matches, cancel)
        run = submit(scene, files=2, rows=50, person=person, states=("succeeded", "cancelled"))
        ids.append(run.id)
        trip.wait()
        state = wait_over(scene, run)
        outcomes[state] = outcomes.get(state, 0) + 1
    assert outcomes.get("cancelled") and outcomes.get("succeeded"), f"no race: {outcomes}"
    scene.hit(f"five runs, cancelled as they ended: {outcomes}")


def _fault(name: str, inject, **fields) -> Fault:  # type: ignore[no-untyped-def]
    return Fault(f"bulk: {name}", inject, jobs=JOBS, **fields)


FAULTS = (
    _fault("device killed mid-run", device_killed),
    _fault("worker lost for good beside another", worker_lost),
    _fault("owner lost after planning", owner_after_planning),
    _fault("owner lost before the manifest", owner_before_the_manifest),
    _fault("owner lost between manifest and commit", owner_after_the_manifest),
    _fault("device killed between put and commit", killed_after_a_put),
    _fault("graceful stop mid-shard", graceful),
    _fault("device stopped past its lease", standing_still),
    _fault("device stopped before a put until all is over", too_late),
    _fault("cancelled at the very end", cancels),
)
