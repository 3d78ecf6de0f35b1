"""A waiting caller is woken by the answer, not by the end of the wait. How soon: the bench."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.caller import Caller, echo_jobs, only_output, tensor


def test_a_waiting_caller_is_woken_by_the_answer(caller: Caller) -> None:
    caller.ask("echo", tensor(0, 0))
    began = time.monotonic()
    job = caller.job(caller.submit("echo", tensor(1, 2))["id"], wait_s=30)
    assert job["state"] == "succeeded"
    assert time.monotonic() - began < 10


def test_many_waiting_callers_stop_nobody_else(caller: Caller) -> None:
    flood = caller.submit_many(echo_jobs("slow_echo", range(3_000), priority=0))
    last = flood["jobs"][-1]["id"]
    with Caller(caller.url) as waiting, ThreadPoolExecutor(64) as pool:
        polls = [pool.submit(waiting.job, last, 3.0) for _ in range(64)]
        quick = caller.submit("echo", tensor(4, 5), priority=9)["id"]
        assert caller.finish(quick, deadline_s=20)["state"] == "succeeded"
        assert only_output(caller.result(quick)) == [4, 5]
        caller.http.post(f"/v1/groups/{flood['group']}/cancel")
        for poll in polls:
            poll.result()
    caller.finish_group(flood["group"])
