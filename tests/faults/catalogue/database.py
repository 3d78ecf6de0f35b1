"""PostgreSQL: dies, loses the reply to a commit, has no connection or no lock to give.

A commit whose reply is lost is the one case in which nobody but the database knows what happened:
a worker's, a claim's, and a submit's, whose caller repeats it with the same key.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import psycopg

from tests.faults.fault import Fault
from tests.faults.scene import Scene
from tests.faults.wire.postgres import Settled
from tests.support.postgres import Postgres
from tests.support.waiting import wait_until

LOCKED_S = 12.0  # longer than anybody waits for a lock or for a connection of the pool
WITHOUT_S = 5.0
_OURS = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
    " WHERE datname = %s AND pid <> pg_backend_pid()"
)


def killed(scene: Scene) -> None:
    scene.pace(0.1)
    scene.submit(scene.jobs // 2)
    running = scene.wait_running(16)
    scene.servers.postgres.kill()
    try:
        scene.submit_meanwhile(scene.jobs // 4)
        scene.hit(f"{running} jobs were running")
    finally:
        scene.servers.postgres.start()
    scene.healed()


def _commits_cut(scene: Scene, part: str, words: tuple[str, ...], times: int) -> None:
    """The server has committed, and whoever asked for it finds the connection gone."""
    proxy = scene.database[part]
    cut = []
    for _ in range(times):
        trip = proxy.trip(_settled(*words), proxy.cut)
        trip.wait()
        cut.append(trip.event)
    scene.hit(f"{len(cut)} commits whose reply was cut, {scene.live()} jobs live")


def _settled(*words: str) -> Callable[[object], bool]:
    return lambda event: isinstance(event, Settled) and event.did(*words)


def results_commit_cut(scene: Scene) -> None:
    scene.pace(0.1)
    scene.submit_meanwhile(scene.jobs)
    _commits_cut(scene, "worker", ("INSERT INTO ends",), 3)


def claims_commit_cut(scene: Scene) -> None:
    scene.pace(0.1)
    scene.submit_meanwhile(scene.jobs)
    _commits_cut(scene, "worker", ("UPDATE live SET state = 'running'",), 1)


def submits_commit_cut(scene: Scene) -> None:
    """Each caller hears 503 or nothing, asks again with his key, and gets the job he has."""
    scene.pace(0.05)
    for send in (_single, _group, _single, _group):
        proxy = scene.database["api"]
        trip = proxy.trip(_settled("INSERT INTO live"), proxy.cut)
        send(scene)
        trip.wait()
        if scene.hit_s is None:
            scene.hit("single jobs and groups whose first answer was lost, twice each")
    scene.submit_meanwhile(scene.jobs // 2)
    _commits_cut(scene, "api", ("INSERT INTO live",), 3)


def _single(scene: Scene) -> None:
    (job_id,) = scene.load.single(scene.ayla, scene.load.question())
    scene.ids.append(job_id)


def _group(scene: Scene) -> None:
    scene.ids += scene.load.group(scene.bora, [scene.load.question() for _ in range(10)])


def no_connection(scene: Scene) -> None:
    """Somebody else has taken every connection that the server gives."""
    scene.pace(0.1)
    scene.submit(scene.jobs // 2)
    running = scene.wait_running()
    postgres = scene.servers.postgres
    held: list[psycopg.Connection] = []

    def give_back() -> None:
        while held:
            held.pop().close()

    scene.afterwards(give_back)
    _take_all(postgres, held)
    name = scene.stack.services.database_url.rpartition("/")[2]
    (ended,) = held[0].execute(_OURS, (name,)).fetchone() or (0,)
    _take_all(postgres, held)
    until_s = time.monotonic() + WITHOUT_S
    said = _refused(scene, lambda: scene.ayla.http.get("/v1/jobs"))
    scene.submit_meanwhile(scene.jobs // 4)
    wait_until(lambda: time.monotonic() > until_s, WITHOUT_S + 1)
    scene.hit(f"{running} running; {ended} connections ended, {len(held)} taken; {said}")
    give_back()
    scene.healed()


def _take_all(postgres: Postgres, held: list[psycopg.Connection]) -> None:
    while True:
        try:
            held.append(psycopg.connect(postgres.url, autocommit=True, connect_timeout=5))
        except psycopg.OperationalError as error:
            assert "too many clients" in str(error), error
            return


def pool_exhausted(scene: Scene) -> None:
    """Each process has one connection of a kind, and somebody holds the lock that it waits for."""
    scene.pace(0.1)
    ids = scene.submit(scene.jobs // 2)
    running = scene.wait_running()
    url = scene.stack.services.database_url
    with psycopg.connect(url, connect_timeout=5) as other:
        other.execute("LOCK TABLE live IN ACCESS EXCLUSIVE MODE")
        until_s = time.monotonic() + LOCKED_S
        scene.submit_meanwhile(scene.jobs // 4)
        said = _refused(scene, lambda: scene.ayla.http.get(f"/v1/jobs/{ids[0]}"))
        wait_until(lambda: time.monotonic() > until_s, LOCKED_S + 1)
    scene.hit(f"{running} running when the lock was taken; {said}")
    scene.healed()


def _refused(scene: Scene, ask: Callable[[], httpx.Response]) -> str:
    """A caller is told clearly that it is the database, and when to come back."""
    began_s = time.monotonic()
    answer = wait_until(lambda: (found := ask()).status_code != 200 and found, 30, what="a 503")
    took_s = time.monotonic() - began_s
    problem = answer.json()
    assert answer.status_code == 503, answer.text
    assert problem["code"] == "database_unavailable", problem
    assert int(answer.headers["retry-after"]) >= 1
    return f"503 {problem['code']} after {took_s:.1f} s"


FAULTS = (
    Fault("database killed, started again", killed),
    Fault("reply to the results' commit cut", results_commit_cut),
    Fault("reply to a claim's commit cut", claims_commit_cut),
    Fault("reply to a submit's commit cut", submits_commit_cut),
    Fault("database without a connection left", no_connection),
    Fault("pool exhausted", pool_exhausted, {"FOREBAY_DATABASE_POOL_SIZE": "1"}),
)
