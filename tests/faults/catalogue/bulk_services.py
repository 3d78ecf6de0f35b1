"""Bulk jobs while S3, PostgreSQL or RabbitMQ fail; and rows that harm who scores them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tests.faults.catalogue.bulk import JOBS
from tests.faults.fault import Fault
from tests.faults.rows import Run, Wrong, paced, submit, under_way, wait_over
from tests.faults.scene import REACH_S, Scene
from tests.faults.wire.postgres import Settled
from tests.support.meddler import LOSE_ANSWER, TEAR_REQUEST, Meddler, Slow, Step
from tests.support.misbehaviour import GREEDY, KILLER, POISON
from tests.support.waiting import wait_until

GONE_S = 8.0
ROUNDS = 12  # so many requests are spoilt
SLOW_S = 11.0  # longer than a client waits for an answer
NOTHING = Wrong(POISON, "model_error")


def spoilt(scene: Scene, methods: Sequence[str], steps: Sequence[Step], rounds: int) -> None:
    """The coming requests for the run's files are answered so by turns."""
    server = scene.servers.s3.port
    meddler = Meddler(server)
    meddler.__enter__()
    scene.afterwards(lambda: meddler.__exit__(None, None, None))
    scene.afterwards(lambda: scene.objects.lead_to(server))
    scene.afterwards(
        lambda: wait_until(lambda: meddler.under_way == 0, REACH_S, what="late requests to arrive")
    )
    paced(scene)
    submit(scene, wrong={7: NOTHING, 1200: NOTHING})
    said = under_way(scene)

    def rule(method: str, path: str) -> Step | None:
        done = meddler.done.total()
        ours = method in methods and ("/out/" in path or "/in/" in path or "/bulk/" in path)
        return steps[done % len(steps)] if ours and done < rounds else None

    meddler.rule = rule
    scene.objects.lead_to(meddler.port)
    wait_until(lambda: meddler.done.total() >= rounds, REACH_S, what="spoilt requests")
    counts = [f"{count} × {method} {step}" for (method, step), count in meddler.done.items()]
    scene.hit(f"{said}; {', '.join(counts)}")
    scene.healed()


def s3_gone(scene: Scene) -> None:
    paced(scene)
    submit(scene)
    said = under_way(scene)
    scene.servers.s3.kill()
    try:
        back_s = time.monotonic() + GONE_S
        wait_until(lambda: time.monotonic() > back_s, GONE_S + 1)
        scene.hit(f"{said}; S3 was gone for {GONE_S:g} s")
    finally:
        scene.servers.s3.start()
    scene.healed()


def database_killed(scene: Scene) -> None:
    paced(scene)
    submit(scene)
    said = under_way(scene)
    scene.servers.postgres.kill()
    scene.servers.postgres.start()
    scene.hit(said)
    scene.healed()


def commit_cut(scene: Scene) -> None:
    """The part is committed, and the worker does not hear of it: it must not take it away."""
    paced(scene)
    submit(scene, wrong=dict.fromkeys(range(5, 4000, 200), NOTHING))
    proxy, cut = scene.database["worker"], 0
    for _ in range(3):
        proxy.trip(_settled("INSERT INTO bulk_parts"), proxy.cut).wait()
        cut += 1
    scene.hit(f"{cut} commits of parts whose reply was cut")


def other_commits_cut(scene: Scene) -> None:
    """The plan's, claims of shards and the end's: nobody waits for what nobody knows he has."""
    paced(scene)
    words = ("UPDATE bulk_runs SET planned_at", "UPDATE bulk_shards SET state = 'running'")
    proxy = scene.database["worker"]
    trips = [proxy.trip(_settled(one), proxy.cut) for one in (*words, "INSERT INTO ends")]
    run = submit(scene)
    for trip in trips:
        trip.wait()
    scene.hit(f"the replies to {len(trips)} commits were cut: plan, claim, end")
    assert wait_over(scene, run) == "succeeded"


def _settled(words: str) -> Callable[[object], bool]:
    return lambda event: isinstance(event, Settled) and event.did(words)


def broker_killed(scene: Scene) -> None:
    paced(scene)
    submit(scene)
    said = under_way(scene)
    scene.servers.rabbitmq.kill()
    scene.servers.rabbitmq.start()
    scene.hit(said)
    scene.healed()


def killers(scene: Scene, places: Sequence[int]) -> None:
    """Rows that kill their process each time are set aside by name, and nobody else."""
    first = scene.stack.device()
    submit(scene, files=2, rows=300, wrong={at: Wrong(KILLER, "poison") for at in places})
    wait_until(lambda: scene.stack.device() != first, REACH_S, what="the death of a device")
    scene.hit("the device died of it")
    set_aside = "SELECT count(*) FROM bulk_parts WHERE failed > 0"
    for count in range(1, len(places)):
        wait_until(lambda: scene.count(set_aside) >= count, REACH_S, what="a row set aside")  # noqa: B023
        scene.healed()  # of this one; the next one begins


def wrong_rows(scene: Scene, wrong: Mapping[int, Wrong]) -> None:
    """Nothing dies of them."""
    first = scene.stack.device()
    paced(scene, seconds=0.005)
    run: Run = submit(scene, files=4, wrong=wrong)
    scene.afterwards(lambda: _unharmed(scene, first))
    scene.hit(f"{len(wrong)} of {run.rows} rows")


def _unharmed(scene: Scene, device: int) -> None:
    assert scene.stack.device() == device, "the device process died of it"


def _fault(name: str, inject: Callable[..., None], *args: object) -> Fault:
    return Fault(f"bulk: {name}", lambda scene: inject(scene, *args), jobs=JOBS)


BOTH = ("GET", "PUT")
FAULTS = (
    _fault("S3 answers 503", spoilt, BOTH, (503, 500), ROUNDS),
    _fault("S3 slow", spoilt, ("PUT",), (Slow(SLOW_S), Slow(1.0), Slow(1.0)), 3),
    _fault("puts cut, their answers lost", spoilt, ("PUT",), (LOSE_ANSWER, TEAR_REQUEST), 6),
    _fault("S3 gone for 8 s", s3_gone),
    _fault("database killed, started again", database_killed),
    _fault("reply to a part's commit cut", commit_cut),
    _fault("replies to plan's, claim's and end's commits cut", other_commits_cut),
    _fault("broker killed, started again", broker_killed),
    _fault("a row that kills its process", killers, (137,)),
    _fault("two rows that kill their process", killers, (31, 170)),
    _fault("a row that raises", wrong_rows, {333: NOTHING}),
    _fault("a row for which there is no memory", wrong_rows, {333: Wrong(GREEDY, "out_of_memory")}),
)
