"""S3: errors, slowness, bodies cut short or changed on their way, wrong ETags, nobody there.

Results are what is put there, and nothing that a caller reads may ever be other than what was put.
Between our processes and the server stands somebody who speaks HTTP and spoils chosen requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.faults.fault import Fault
from tests.faults.load import Person
from tests.faults.scene import REACH_S, Scene
from tests.support.meddler import (
    LOSE_ANSWER,
    LOSE_REQUEST,
    SPOIL_BODY,
    SPOIL_REQUEST,
    TEAR_BODY,
    TEAR_REQUEST,
    WRONG_ETAG,
    Meddler,
    Slow,
    Step,
)
from tests.support.waiting import wait_until

SLOW_S = 11.0  # longer than a client waits for an answer
ROUNDS = 12  # so many requests are spoilt
READ_BACK = 4  # results that are read while their way is spoilt
_RESULTS = "/packs/result/"


def puts(scene: Scene, steps: Sequence[Step], rounds: int = ROUNDS) -> None:
    """The coming puts of results are spoilt, in these ways by turns."""
    meddler = _meddler(scene)
    scene.pace(0.05)
    _spoil(meddler, "PUT", steps, rounds)
    scene.submit_meanwhile(scene.jobs)
    wait_until(lambda: meddler.done.total() >= rounds, REACH_S, what="spoilt puts")
    meddler.rule = None
    scene.hit(f"{_said(meddler)}; {scene.live()} jobs live")
    scene.healed()


def reads(scene: Scene, steps: Sequence[Step]) -> None:
    """Results are read back while every answer is spoilt: right, or clearly refused."""
    meddler = _meddler(scene)
    asked = [scene.load.question() for _ in range(READ_BACK)]
    ids = [job_id for one in asked for job_id in scene.load.single(scene.ayla, one)]
    for job_id in ids:
        _ended(scene.ayla, job_id)
    scene.submit_meanwhile(scene.jobs - READ_BACK)
    questions = [one["job"]["input"]["tensor"] for one in asked]
    refused = 0
    for step in steps:
        _spoil(meddler, "GET", [step], 10**9)
        for job_id, question in zip(ids, questions, strict=True):
            answer = scene.ayla.http.get(f"/v1/jobs/{job_id}/result")
            if answer.status_code == 200:
                assert answer.json()["outputs"] == {"y": question}, (step, answer.text)
            else:
                assert answer.status_code in (500, 503), (step, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
                refused += 1
    meddler.rule = None
    scene.hit(f"{_said(meddler)}; {refused} reads were refused, none was wrong")
    scene.healed()
    for job_id, question in zip(ids, questions, strict=True):
        answer = scene.ayla.http.get(f"/v1/jobs/{job_id}/result")
        assert answer.status_code == 200 and answer.json()["outputs"] == {"y": question}


def gone(scene: Scene, seconds: float) -> None:
    """The server is killed and stays away."""
    s3 = scene.servers.s3
    scene.pace(0.1)
    scene.submit(scene.jobs // 2)
    running = scene.wait_running(16)
    s3.kill()
    try:
        back_s = time.monotonic() + seconds
        scene.submit_meanwhile(scene.jobs // 2)
        wait_until(lambda: time.monotonic() > back_s, seconds + 1)
        scene.hit(f"{running} running when it went; {scene.live()} live after {seconds:g} s")
    finally:
        s3.start()
    scene.healed()


def _meddler(scene: Scene) -> Meddler:
    """Somebody in between until all jobs are done."""
    server, made = scene.servers.s3.port, Meddler(scene.servers.s3.port)
    made.__enter__()
    scene.afterwards(lambda: made.__exit__(None, None, None))
    scene.afterwards(lambda: scene.objects.lead_to(server))
    # A put that its sender has given up may reach the server yet, which the audit would not know.
    scene.afterwards(
        lambda: wait_until(lambda: made.under_way == 0, REACH_S, what="late requests to arrive")
    )
    scene.objects.lead_to(made.port)
    return made


def _spoil(meddler: Meddler, method: str, steps: Sequence[Step], rounds: int) -> None:
    """Requests for results, until there were so many."""

    def rule(asked: str, path: str) -> Step | None:
        done = meddler.done.total()
        return steps[done % len(steps)] if _is(asked, path) and done < rounds else None

    def _is(asked: str, path: str) -> bool:
        return asked == method and _RESULTS in path

    meddler.rule = rule


def _said(meddler: Meddler) -> str:
    counts = [f"{count} × {method} {step}" for (method, step), count in meddler.done.items()]
    return ", ".join(counts)


def _ended(person: Person, job_id: str) -> None:
    answer = person.http.get(f"/v1/jobs/{job_id}", params={"wait": "15"})
    assert answer.json()["state"] == "succeeded", answer.text


def _fault(name: str, inject: Callable[..., None], *args: object) -> Fault:
    return Fault(name, lambda scene: inject(scene, *args))


FAULTS = (
    _fault("S3 answers 500 and 503", puts, (500, 503)),
    _fault("S3 slow", puts, (Slow(SLOW_S), Slow(1.0)), 4),
    _fault("puts cut mid-body, answers lost", puts, (TEAR_REQUEST, LOSE_ANSWER, LOSE_REQUEST)),
    _fault("S3 says a wrong ETag", puts, (WRONG_ETAG,)),
    _fault("S3 stores other bytes", puts, (SPOIL_REQUEST,)),
    _fault(
        "results cut and changed on the way back",
        reads,
        (TEAR_BODY, SPOIL_BODY, WRONG_ETAG, 500, LOSE_ANSWER),
    ),
    _fault("S3 gone for 8 s", gone, 8.0),
)
ON_DEMAND = (_fault("S3 gone for a minute", gone, 60.0),)
