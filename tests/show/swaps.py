"""Versions that are swapped while jobs come in: promoted, rolled back, and returned by a limit.

The versions mark their answers, so that each job tells by itself whether the version that it
records is the one that answered. Everything goes over HTTP, as a user's programs would do it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.caller import TERMINAL, Caller, only_output, tensor
from tests.support.waiting import wait_until
from tests.support.zoo import Zoo

MODEL, ALIAS = "swapped", "prod"
REF = f"{MODEL}@{ALIAS}"
QUESTIONS = 1_000  # above 4, where the spoiled version gives infinity
SENDERS = 4
SHARE, ERROR_SHARE, MIN_JOBS = 0.2, 0.1, 50
PHASE_S = 4.0  # jobs come in for so long before and after each swap
RETURNED_WITHIN_S, OVER_WITHIN_S = 60.0, 120.0


@dataclass(frozen=True)
class Swaps:
    """What became of the jobs, and how fast the candidate was returned."""

    jobs: int
    per_s: float  # submitted
    by_version: Mapping[int, int]  # that answered, or failed
    lost: Sequence[str]  # not over when everything should be
    wrong: Sequence[str]  # answered by another version than they record
    failed: int  # jobs of the spoiled candidate, before it was returned
    breach_to_return_s: float
    reason: str
    trial: Mapping[str, Any] = field(repr=False)


class Load:
    """So many single jobs a second, from some senders, until it is told to stop."""

    def __init__(self, open_caller: Callable[[], Caller], rate_per_s: float) -> None:
        self._open, self._rate = open_caller, rate_per_s
        self._stop = threading.Event()
        self._numbers = itertools.count(1)
        self.sent: dict[str, int] = {}  # job → question
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Jobs come in while this lasts; an error of a sender is raised at its end."""
        began = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            ends = [senders.submit(self._send) for _ in range(SENDERS)]
            try:
                yield self
            finally:
                self._stop.set()
            for end in ends:
                end.result()
        self.seconds = time.monotonic() - began

    def wait_for(self, more: int) -> None:
        """Until so many more jobs are accepted."""
        until = len(self.sent) + more
        wait_until(lambda: len(self.sent) >= until, 120, what=f"{more} more jobs", every_s=0.02)

    def _send(self) -> None:
        each_s = SENDERS / self._rate
        with self._open() as caller:
            due = time.monotonic()
            while not self._stop.is_set():
                question = 5 + next(self._numbers) % QUESTIONS
                job = caller.submit(REF, tensor(question, -question))
                self.sent[job["id"]] = question
                due = max(due + each_s, time.monotonic() - 1.0)  # a stall is not made up for
                self._stop.wait(max(0.0, due - time.monotonic()))


def push_all(caller: Caller, zoo: Zoo) -> None:
    """Two good versions and a spoiled one; the alias stands for the first."""
    for archive in (zoo.marked_1, zoo.marked_2, zoo.spoiled):
        pushed = caller.push(MODEL, archive)
        settled = caller.settle_version(MODEL, pushed["version"])
        assert settled["state"] == "ready", settled
        # Loaded by whoever serves it, so that no swap waits for a model to be read.
        caller.finish(caller.submit(f"{MODEL}:{pushed['version']}", tensor(1, -1))["id"])
    put(caller, f"/v1/models/{MODEL}/aliases/{ALIAS}", {"version": 1}, method="PUT")


def run(
    open_caller: Callable[[], Caller], *, rate_per_s: float = 200.0, phase_s: float = PHASE_S
) -> Swaps:
    """A promotion, a rollback and an automatic return while jobs come in."""
    here = f"/v1/models/{MODEL}/aliases/{ALIAS}"
    load = Load(open_caller, rate_per_s)
    some = int(rate_per_s * phase_s)
    with open_caller() as caller, load.running():
        load.wait_for(some)
        moved = put(caller, f"{here}/promote", {"version": 2, "expected": 1})
        assert moved["version"] == 2, moved
        load.wait_for(some)
        moved = put(caller, f"{here}/rollback", {"requeue": True})
        assert moved["version"] == 1, moved
        load.wait_for(some)
        limits = {"error_share": ERROR_SHARE, "min_jobs": MIN_JOBS}
        asked = {"version": 3, "kind": "canary", "share": SHARE, "limits": limits}
        trial = put(caller, f"{here}/trials", asked, status=201)
        where = f"{here}/trials/{trial['id']}"

        def returned() -> dict[str, Any] | None:
            found = caller.http.get(where).json()
            return found if found["state"] != "running" else None

        trial = wait_until(returned, RETURNED_WITHIN_S, what="the return", every_s=0.1)
        assert trial["state"] == "returned", trial
        load.wait_for(some)
    return _judge(open_caller, load, trial)


def put(
    caller: Caller,
    path: str,
    body: Mapping[str, Any],
    *,
    status: int = 200,
    method: str = "POST",
) -> dict[str, Any]:
    """The answer, whose status is the one that was promised."""
    answer = caller.http.request(method, path, json=dict(body))
    assert answer.status_code == status, f"{method} {path} → {answer.status_code}: {answer.text}"
    return dict(answer.json())


def _judge(open_caller: Callable[[], Caller], load: Load, trial: Mapping[str, Any]) -> Swaps:
    """Every job, looked at one by one."""
    ids = sorted(load.sent)
    with ThreadPoolExecutor(SENDERS) as readers:
        cut = [ids[n::SENDERS] for n in range(SENDERS)]
        looked = [
            one for some in readers.map(lambda some: _look(open_caller, some), cut) for one in some
        ]
    jobs = {job["id"]: (job, answer) for job, answer in looked}
    lost, wrong, by_version, ends = [], [], dict.fromkeys((1, 2, 3), 0), []
    for job_id in ids:
        job, answer = jobs[job_id]
        version = int(job["model"].rpartition(":")[2])
        by_version[version] += 1
        if job["state"] not in TERMINAL:
            lost.append(job_id)
        elif job["state"] == "succeeded":
            question = load.sent[job_id]
            offset = 1000 * version
            if answer != [question + offset, -question + offset]:
                wrong.append(f"{job_id} of version {version}: {answer} to {question}")
        elif (version, (job["error"] or {}).get("code")) != (3, "non_finite_output"):
            wrong.append(f"{job_id} of version {version} is {job['state']}: {job['error']}")
        if version == 3 and job["state"] in TERMINAL:
            ends.append((job["finished_at"], job["state"] == "failed"))
    return Swaps(
        jobs=len(ids),
        per_s=len(ids) / load.seconds,
        by_version=by_version,
        lost=lost,
        wrong=wrong,
        failed=sum(bad for _, bad in ends),
        breach_to_return_s=_seconds(trial["ended_at"]) - _breach(ends),
        reason=str(trial["reason"]),
        trial=trial,
    )


def _look(
    open_caller: Callable[[], Caller], ids: Sequence[str]
) -> list[tuple[dict[str, Any], Any]]:
    with open_caller() as caller:
        found = []
        deadline_s = time.monotonic() + OVER_WITHIN_S
        for job_id in ids:
            job = caller.job(job_id)
            while job["state"] not in TERMINAL and (left_s := deadline_s - time.monotonic()) > 0:
                job = caller.job(job_id, min(5.0, left_s))
            good = job["state"] == "succeeded"
            found.append((job, only_output(caller.result(job_id)) if good else None))
        return found


def _breach(ends: Sequence[tuple[str, bool]]) -> float:
    """When the candidate's jobs had crossed the limit: seconds since 1970."""
    bad = 0
    for count, (at, is_bad) in enumerate(sorted(ends), 1):
        bad += is_bad
        if count >= MIN_JOBS and bad > ERROR_SHARE * count:
            return _seconds(at)
    raise AssertionError(f"the limit was never crossed: {bad} of {len(ends)} failed")


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
