"""Trainings whose process, worker or services die, stop and stand still.

Each goes on from its checkpoint, measures what an undisturbed one does, and leaves one version; the
trainer's process is the product's own, with a network of plain numpy.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.learning import (
    at_the_end,
    kept,
    kill,
    process,
    processes,
    slowly,
    step,
    submit,
    under_way,
    wait_over,
    went_on_at,
)
from tests.faults.scene import REACH_S, Scene
from tests.faults.wire.http import Answered, Asked
from tests.faults.wire.line import Matches
from tests.faults.wire.postgres import Settled
from tests.support.stack import descendants
from tests.support.waiting import wait_until

JOBS = 8  # beside the training
GONE_S, WITHOUT_S = 8.0, 10.0
ABANDON = "UPDATE packs SET created_at = created_at - 7200000 WHERE object_key = %(key)s"
KEEPS = "UPDATE training_runs SET checkpoint_pack_id"
FINISHES = "UPDATE training_runs SET result"
NOTES = "INSERT INTO training_measures"


def trainer_killed(scene: Scene) -> None:
    training = submit(scene)
    scene.submit(scene.jobs)
    said = under_way(scene, training)
    at_the_end(scene, training, least=kept(scene, training))
    kill(scene, training)
    scene.hit(said)


def killed_after_a_put(scene: Scene) -> None:
    """The checkpoint's object is there, and its row says that it is being written: nobody goes on
    from it, and the collector knows it."""
    training = submit(scene)
    said = under_way(scene, training)
    at_the_end(scene, training, least=kept(scene, training))
    pid = process(scene, training)
    trip = scene.objects["worker"].trip(_is_put, lambda: os.kill(pid, signal.SIGKILL))
    trip.wait()
    assert isinstance(trip.event, Answered)
    key = "packs/result/" + trip.event.path.partition("/packs/result/")[2].partition("?")[0]
    states = scene.sql("SELECT state FROM packs WHERE object_key = %(key)s", key=key)
    assert states == [("writing",)], states
    scene.hit(f"{said}; the next one was put and not kept")
    scene.afterwards(lambda: _collected(scene, key))


def _is_put(event: object) -> bool:
    is_put = isinstance(event, Answered) and event.verb == "PUT" and event.status == 200
    return is_put and "/packs/result/" in getattr(event, "path", "")


def _collected(scene: Scene, key: str) -> None:
    """An hour later, by the clock that counts."""
    scene.sql(ABANDON, key=key)
    scene.stack.start("keeper2")
    gone = f"SELECT count(*) FROM packs WHERE object_key = '{key}'"
    wait_until(lambda: scene.count(gone) == 0, REACH_S, what="the end of an abandoned checkpoint")
    scene.stack.stop("keeper2")
    scene.hit("and the collector took it away")


def killed_when_done(scene: Scene) -> None:
    """Its result is committed, and it does not hear of it: whoever owns the job ends it."""
    training = submit(scene)
    pid = process(scene, training)
    trip = scene.database["worker"].trip(_did(FINISHES), lambda: os.kill(pid, signal.SIGKILL))
    trip.wait()
    scene.hit("it was done, and its owner did not know")
    assert wait_over(scene, training) == "succeeded"
    assert len(went_on_at(scene, training)) == 1, "it was trained once more"


def device_killed(scene: Scene) -> None:
    """The trainer ends with it, and the job is somebody's again after the lease."""
    training = submit(scene)
    scene.submit(scene.jobs)
    said = under_way(scene, training)
    at_the_end(scene, training, least=kept(scene, training))
    pid = process(scene, training)
    scene.stack.kill_device()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), REACH_S, what="the trainer's end")
    scene.hit(said)


def worker_lost(scene: Scene) -> None:
    """Supervisor, device and trainer for good; another worker goes on."""
    training = submit(scene)
    said = under_way(scene, training)
    at_the_end(scene, training, least=kept(scene, training))
    scene.stack.kill("worker")
    scene.hit(said)
    scene.start("worker2")
    wait_until(lambda: processes(scene, training, "worker2"), REACH_S, what="another trainer")
    scene.healed()


def drained(scene: Scene) -> None:
    """SIGTERM: a checkpoint of the very step, and nothing spent."""
    training = submit(scene)
    said = under_way(scene, training)
    scene.stack.stop("worker")
    ((state, attempts, losses),) = scene.sql(
        "SELECT state, attempts, losses FROM live WHERE id = %(id)s", id=training.id
    )
    assert (state, attempts, losses) == ("queued", 0, 0), (state, attempts, losses)
    at = kept(scene, training)
    assert at == step(scene, training), f"kept is {at}, it was at {step(scene, training)}"
    at_the_end(scene, training, least=at)
    scene.hit(said)
    scene.stack.start("worker")
    scene.healed()


def standing_still(scene: Scene) -> None:
    """The device stops for longer than its lease while its trainer goes on: another worker takes
    the job, and the first trainer hears that it is nobody's."""
    slowly(scene)
    training = submit(scene)
    said = under_way(scene, training)
    device, pid = scene.stack.device(), process(scene, training)
    os.kill(device, signal.SIGSTOP)
    scene.afterwards(lambda: _go_on(device))
    ended = "SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL AND id = %(id)s"
    ((session,),) = scene.sql("SELECT session_id FROM live WHERE id = %(id)s", id=training.id)
    scene.start("worker2")
    wait_until(lambda: scene.count(ended, id=session), REACH_S, what="the end of its lease")
    scene.hit(said)
    wait_until(lambda: not _runs(pid), REACH_S, what="the end of the late trainer")
    assert wait_over(scene, training) == "succeeded"
    _go_on(device)


def _go_on(device: int) -> None:
    if Path(f"/proc/{device}").exists():
        os.kill(device, signal.SIGCONT)


def _runs(pid: int) -> bool:
    """Whether it is there and no zombie: who would collect it stands still."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def database_killed(scene: Scene) -> None:
    """As it has just taken measures: it trains on, and none of them is missing."""
    slowly(scene)
    training = submit(scene)
    said = under_way(scene, training)
    pid = process(scene, training)
    proxy = scene.database["worker"]
    proxy.trip(_did(NOTES), scene.servers.postgres.kill).wait()
    scene.servers.postgres.start()
    scene.hit(said)
    scene.healed()
    assert wait_over(scene, training) == "succeeded"
    assert len(went_on_at(scene, training)) == 1, f"process {pid} died of it"


def database_gone(scene: Scene) -> None:
    """Perhaps for longer than the lease of who looks after it, who has to let it go then."""
    slowly(scene)
    training = submit(scene)
    said = under_way(scene, training)
    scene.servers.postgres.kill()
    try:
        _let_pass(WITHOUT_S)
        scene.hit(f"{said}; the database was gone for {WITHOUT_S:g} s")
    finally:
        scene.servers.postgres.start()
    scene.healed()


def s3_gone(scene: Scene) -> None:
    """While a checkpoint is on its way."""
    training = submit(scene)
    said = under_way(scene, training)
    trip = scene.objects["worker"].trip(_is_asked, scene.objects["worker"].cut)
    trip.wait()
    scene.servers.s3.kill()
    try:
        _let_pass(GONE_S)
        scene.hit(f"{said}; S3 was gone for {GONE_S:g} s during a put")
    finally:
        scene.servers.s3.start()
    scene.healed()


def _is_asked(event: object) -> bool:
    is_put = isinstance(event, Asked) and event.verb == "PUT"
    return is_put and "/packs/result/" in getattr(event, "path", "")


def _let_pass(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until_s, seconds + 1)


def broker_killed(scene: Scene) -> None:
    """It needs no message while it trains; the next one does."""
    training = submit(scene)
    said = under_way(scene, training)
    scene.servers.rabbitmq.kill()
    scene.servers.rabbitmq.start()
    scene.hit(said)
    scene.healed()
    assert wait_over(scene, training) == "succeeded"
    assert len(went_on_at(scene, training)) == 1, "it was begun once more"
    submit(scene, person=scene.bora)


def commits_cut(scene: Scene) -> None:
    """Of measures, checkpoints and the end: each is said again, and counts once."""
    training = submit(scene)
    proxy = scene.database["worker"]
    for words in (NOTES, KEEPS, NOTES, KEEPS):
        proxy.trip(_did(words), proxy.cut).wait()
    trip = proxy.trip(_did(FINISHES), proxy.cut)
    trip.wait()
    scene.hit("the replies to 5 commits were cut: measures, checkpoints, the end")
    assert wait_over(scene, training) == "succeeded"


def _did(words: str) -> Matches:
    return lambda event: isinstance(event, Settled) and event.did(words)


def cancels(scene: Scene) -> None:
    """Trainings are cancelled at the moments of their lives: each has succeeded with a ready
    version, or is cancelled and its version broken."""
    moments: list[tuple[str, Matches]] = [
        ("database", _did("UPDATE training_runs SET data")),
        ("objects", _is_asked),
        ("database", _did(KEEPS)),
        ("database", _did(FINISHES)),
        ("database", _did("INSERT INTO ends")),
    ]
    outcomes: dict[str, int] = {}
    for number, (where, matches) in enumerate(moments):
        person = scene.load.people[number % 2]
        line = scene.database if where == "database" else scene.objects
        ids: list[str] = []

        def cancel(person=person, ids=ids) -> None:  # type: ignore[no-untyped-def]
            wait_until(lambda: ids, REACH_S, what="an answer to the submit")
            answer = person.cancel(ids[0])
            assert answer.status_code in (200, 202), answer.text

        trip = line["worker"].trip(matches, cancel)
        training = submit(scene, person=person, states=("succeeded", "cancelled"))
        ids.append(training.id)
        trip.wait()
        state = wait_over(scene, training)
        outcomes[state] = outcomes.get(state, 0) + 1
    assert outcomes.get("cancelled"), f"no race: {outcomes}"
    scene.hit(f"{len(moments)} trainings, cancelled at all moments: {outcomes}")


def paused_then_lost(scene: Scene) -> None:
    """Whoever looked after a paused training dies: it stays paused, takes no place from another,
    and goes on elsewhere."""
    slowly(scene)
    training = submit(scene)
    said = under_way(scene, training)
    assert scene.ayla.http.post(f"/v1/jobs/{training.id}/pause").status_code == 200
    wait_until(lambda: not processes(scene, training), REACH_S, what="the trainer's end")
    at = kept(scene, training)
    assert at == step(scene, training)
    tree = [scene.stack.pid("worker"), *descendants(scene.stack.pid("worker"))]
    scene.stack.kill("worker")
    scene.hit(f"{said}, paused at {at}; {len(tree)} processes died")
    scene.stack.start("worker")
    assert wait_over(scene, submit(scene, person=scene.bora)) == "succeeded"
    apart = "SELECT count(*) FROM live WHERE id = %(id)s AND state = 'queued' AND epoch = 1"
    wait_until(lambda: scene.count(apart, id=training.id), REACH_S, what="its lost owner's end")
    assert not processes(scene, training) and step(scene, training) == at, "it did not stay paused"
    assert scene.ayla.http.post(f"/v1/jobs/{training.id}/resume").status_code == 200
    at_the_end(scene, training, least=at)
    scene.healed()


def _fault(name: str, inject: Callable[[Scene], None]) -> Fault:
    return Fault(f"training: {name}", inject, jobs=JOBS)


FAULTS = (
    _fault("its process killed", trainer_killed),
    _fault("killed between a checkpoint's put and its row", killed_after_a_put),
    _fault("killed when it was done", killed_when_done),
    _fault("device killed", device_killed),
    _fault("worker lost for good, another goes on", worker_lost),
    _fault("worker told to end", drained),
    _fault("device stopped past its lease", standing_still),
    _fault("database killed, started again", database_killed),
    _fault("database gone for 10 s", database_gone),
    _fault("S3 gone for 8 s during a checkpoint", s3_gone),
    _fault("broker killed, started again", broker_killed),
    _fault("replies to commits cut", commits_cut),
    _fault("cancelled at every moment", cancels),
    _fault("paused, then its worker lost", paused_then_lost),
)
