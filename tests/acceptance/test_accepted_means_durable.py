"""202 means durable: what was accepted before a ``kill -9`` of everything is finished after it."""

from __future__ import annotations

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.stack import Stack

JOBS = 600


def test_work_accepted_before_everything_is_killed_is_finished_after_the_next_start(
    stack: Stack, caller: Caller
) -> None:
    group = caller.submit_many(echo_jobs("slow_echo", range(JOBS)))
    single = caller.submit("slow_echo", tensor(3.5, 4.5))
    stack.kill()
    stack.start()

    assert caller.finish_group(group["group"])["counts"]["succeeded"] == JOBS
    answers = caller.results(group["group"])
    assert [entry["id"] for entry in answers] == [entry["id"] for entry in group["jobs"]]
    assert [only_output(entry["result"]) for entry in answers] == [[n, -n] for n in range(JOBS)]
    assert caller.finish(single["id"])["state"] == "succeeded"
    assert only_output(caller.result(single["id"])) == [3.5, 4.5]


def test_a_graceful_stop_gives_work_back_without_spending_an_attempt(
    stack: Stack, caller: Caller
) -> None:
    group = caller.submit_many(echo_jobs("slow_echo", range(JOBS)))
    stack.stop("up" if stack.mode == "embedded" else "worker")
    stack.start_worker()
    assert caller.finish_group(group["group"])["counts"]["succeeded"] == JOBS
    attempts = [caller.job(entry["id"])["attempts"] for entry in group["jobs"][:: JOBS // 20]]
    assert set(attempts) == {1}
