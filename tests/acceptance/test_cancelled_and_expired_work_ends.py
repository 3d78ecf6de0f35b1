"""Nothing is stuck for ever: work that is cancelled or too late reaches a terminal state."""

from __future__ import annotations

from tests.support.caller import Caller, echo_jobs, tensor


def cancelled_while_it_waited(caller: Caller) -> tuple[list[str], str]:
    """Groups that keep the worker busy, and a job behind them that a cancel ended at once.

    A worker may be quicker than two requests: then there was nothing that waited, and it is tried
    again behind another group.
    """
    floods: list[str] = []
    for _ in range(5):
        floods.append(caller.submit_many(echo_jobs("slow_echo", range(1_500), priority=9))["group"])
        # Of the flood's class, and after all of it: a bulk job would be claimed beside it.
        job_id = str(caller.submit("slow_echo", tensor(6, 7), priority=9)["id"])
        answer = caller.http.post(f"/v1/jobs/{job_id}/cancel")
        assert answer.status_code in (200, 202), answer.text
        if answer.json()["state"] == "cancelled":
            return floods, job_id
        assert answer.json()["started_at"] is not None, "it waited, and was not cancelled at once"
    raise AssertionError("five times the worker was quicker than a cancel")


def test_a_waiting_job_is_cancelled_at_once_and_may_be_retried(caller: Caller) -> None:
    floods, job_id = cancelled_while_it_waited(caller)
    for flood in floods:
        caller.http.post(f"/v1/groups/{flood}/cancel")
    result = caller.http.get(f"/v1/jobs/{job_id}/result")
    assert result.status_code == 409
    again = caller.http.post(f"/v1/jobs/{job_id}/retry")
    assert again.status_code == 202, again.text
    assert again.json()["retry_of"] == job_id
    assert caller.finish(again.json()["id"])["state"] == "succeeded"
    assert caller.job(job_id)["state"] == "cancelled", "terminal states never change"
    for flood in floods:
        caller.finish_group(flood)


def test_cancelling_what_is_done_changes_nothing(caller: Caller) -> None:
    job = caller.finish(caller.submit("echo", tensor(1, 1))["id"])
    answer = caller.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "succeeded"


def test_a_job_that_was_not_started_in_time_expires(caller: Caller) -> None:
    flood = caller.submit_many(echo_jobs("slow_echo", range(1_500), priority=9))["group"]
    late = caller.submit("slow_echo", tensor(1, 1), priority=0, expires_in_s=0.001)
    job = caller.finish(late["id"])
    caller.http.post(f"/v1/groups/{flood}/cancel")
    assert job["state"] == "expired"
    assert caller.http.get(f"/v1/jobs/{job['id']}/result").status_code == 409
    caller.finish_group(flood)
