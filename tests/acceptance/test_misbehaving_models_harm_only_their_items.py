"""A model that misbehaves for some of its items: each gets its code, and nobody else notices.

The model is an operator's SavedModel whose graph does what it should not when one row asks for it.
The innocent are in the same batches, or of other models and tenants; they succeed at the first
attempt with the right answer. Whether culprits and innocents really met is asked of ``/metrics``,
or follows from their order: one request, one wake-up, one claim.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from producers.api.codes import JOB_CODES
from tests.acceptance.conftest import Tenants, serve
from tests.support.caller import Caller, only_output, tensor
from tests.support.misbehaviour import FEWER, GREEDY, KILLER, NAN, POISON, SLOW, WIDER
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.zoo import Zoo

Job = dict[str, Any]
ONLY_FULL = pytest.mark.parametrize("stack", ["full"], indirect=True)
ONLY_EMBEDDED = pytest.mark.parametrize("stack", ["embedded"], indirect=True)
ENDLESS_S = 90.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def menace(stack: Stack, models: None, zoo: Zoo) -> None:
    with stack.caller() as caller:
        push(stack, caller, zoo, "menace")


def push(stack: Stack, caller: Caller, zoo: Zoo, name: str, *more: str) -> None:
    """By the operator's command, as a SavedModel can hold code."""
    done = stack.run("models", "push", name, str(zoo.menace), "--trusted", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    serve(caller, caller.version(name, 1), tensor(1, 1))


class Crowd:
    """Innocent jobs, each with an answer of its own, and the groups they were submitted in."""

    def __init__(self) -> None:
        self._groups: list[tuple[Caller, dict[str, Any], list[Job]]] = []

    def submit(
        self, caller: Caller, model: str, count: int, culprits: Sequence[Job] = ()
    ) -> list[str]:
        """One request of ``count`` innocents with the culprits spread among them, whose ids are
        given back."""
        jobs = [self._innocent(model) for _ in range(count)]
        for place, culprit in enumerate(culprits, 1):
            at = place * len(jobs) // (len(culprits) + 1)
            jobs.insert(at, {"model": model, "max_attempts": 1, **culprit})
        answer = caller.submit_many(jobs)
        self._groups.append((caller, answer, jobs))
        ids = [job["id"] for job in answer["jobs"]]
        return [one for one, job in zip(ids, jobs, strict=True) if "custom_id" not in job]

    def check(self, deadline_s: float = 90) -> None:
        """All of them are answered, each its own question, at the first attempt."""
        for caller, answer, jobs in self._groups:
            caller.finish_group(answer["group"], deadline_s)
            lines = {line["custom_id"]: line for line in caller.results(answer["group"])}
            innocent = [
                (accepted["id"], job)
                for accepted, job in zip(answer["jobs"], jobs, strict=True)
                if "custom_id" in job
            ]
            for job_id, job in innocent:
                line = lines[job["custom_id"]]
                assert line["state"] == "succeeded", (line, caller.job(job_id))
                assert only_output(line["result"]) == job["input"]["tensor"]
            attempts = {caller.job(job_id)["attempts"] for job_id, _ in innocent}
            assert attempts == {1}, "somebody else's fault was an innocent's"

    def _innocent(self, model: str) -> Job:
        number = next(_numbers)
        return {"model": model, "input": tensor(number, -number), "custom_id": f"i{number}"}


def bad(value: float, second: float = 1, **fields: Any) -> Job:
    """A job with a misbehaving row."""
    return {"input": tensor(value, second), **fields}


def error_of(caller: Caller, job_id: str, attempts: int = 1, deadline_s: float = 90) -> str:
    """The code that a culprit failed with; it is a documented one."""
    job = caller.finish(job_id, deadline_s)
    assert job["state"] == "failed", job
    assert job["attempts"] == attempts, job
    code = str(job["error"]["code"])
    assert code in JOB_CODES
    assert caller.http.get(f"/v1/jobs/{job_id}/result").status_code == 409
    return code


def test_in_one_batch_each_culprit_gets_its_code(
    caller: Caller, menace: None, tenants: Tenants
) -> None:
    crowd, before = Crowd(), counted(caller, "forebay_bisections_total")
    twice = bad(POISON, max_attempts=2)
    culprits = [bad(POISON), bad(NAN), bad(FEWER), bad(WIDER), twice]
    crowd.submit(caller, "echo", 10)
    ids = crowd.submit(caller, "menace", 70, culprits)
    crowd.submit(tenants.a, "echo", 10)
    listed = {"items": [tensor(5, 6), tensor(POISON, 1), tensor(NAN, 1), tensor(7, 8)]}
    items = caller.ask("menace", listed)["items"]
    codes = [error_of(caller, one) for one in ids[:4]]
    assert codes == ["model_error", "non_finite_output", "wrong_output", "wrong_output"]
    assert error_of(caller, ids[4], attempts=2) == "model_error"
    assert [only_output(items[0]), only_output(items[3])] == [[5, 6], [7, 8]]
    assert [item["error"]["code"] for item in items[1:3]] == ["model_error", "non_finite_output"]
    crowd.check()
    wait_until(
        lambda: counted(caller, "forebay_bisections_total") >= before + 4,
        what="bisections: the culprits were in passes of their own",
    )


@ONLY_FULL  # TensorFlow looks for memory for ten seconds each time before it gives up
def test_an_item_that_needs_more_memory_than_there_is(
    stack: Stack, caller: Caller, zoo: Zoo, tenants: Tenants
) -> None:
    push(stack, caller, zoo, "cramped", "--serving", '{"max_batch": 2}')  # few sizes to try
    crowd = Crowd()
    (greedy,) = crowd.submit(caller, "cramped", 3, [bad(GREEDY)])
    crowd.submit(tenants.a, "echo", 10)
    assert error_of(caller, greedy) == "out_of_memory"
    crowd.check()


def test_a_culprit_that_kills_the_process_is_set_aside_by_name(
    caller: Caller, menace: None, tenants: Tenants
) -> None:
    crowd = Crowd()
    crowd.submit(caller, "echo", 10)
    (killer,) = crowd.submit(caller, "menace", 40, [bad(KILLER)])
    crowd.submit(tenants.b, "echo", 10)
    crowd.check()
    assert error_of(caller, killer) == "poison"


def test_a_pass_that_takes_long_costs_only_who_had_no_time(
    caller: Caller, menace: None, tenants: Tenants
) -> None:
    crowd = Crowd()
    (slow,) = crowd.submit(caller, "menace", 40, [bad(SLOW, 4, run_timeout_s=1)])
    crowd.submit(tenants.a, "echo", 10)
    assert error_of(caller, slow) == "run_timeout"
    crowd.check()


@ONLY_EMBEDDED  # the supervisor of the other mode starts whatever has ended, for whatever reason
def test_a_pass_that_nobody_waits_for_any_more_is_ended_with_its_process(
    caller: Caller, menace: None, tenants: Tenants
) -> None:
    endless = caller.submit(
        "menace", tensor(SLOW, ENDLESS_S), run_timeout_s=1, max_attempts=1, priority=9
    )
    wait_until(lambda: caller.job(endless["id"])["state"] == "running", what="its start")
    crowd = Crowd()
    crowd.submit(caller, "menace", 20)
    crowd.submit(caller, "echo", 10)
    crowd.submit(tenants.b, "echo", 10)
    crowd.check(deadline_s=ENDLESS_S - 20)
    assert error_of(caller, endless["id"]) == "run_timeout"


def counted(caller: Caller, name: str, model: str = "menace:1") -> float:
    """A counter of the model, over all workers."""
    lines = caller.http.get("/metrics").text.splitlines()
    mine = [line for line in lines if line.startswith(name) and f'model="{model}"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in mine)
