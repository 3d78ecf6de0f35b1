"""A flood of bulk work: whoever waits for an answer passes it, and who is late is told so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.waiting import wait_until

FLOOD, REQUESTS, BULK = 1_000, 4, 0
ONLINE, LATE = 8, 12
BATCH, FEW = 512, 3  # the largest; one that is written, one that runs, one that was picked already


def test_online_work_passes_a_bulk_flood_and_only_the_late_expire(caller: Caller) -> None:
    caller.ask("slow_echo", tensor(0, 0))  # loaded, so that nothing but the choice is judged
    flood = [
        caller.submit_many(echo_jobs("slow_echo", range(FLOOD), priority=BULK))["group"]
        for _ in range(REQUESTS)
    ]

    def done() -> int:
        counts = [caller.group(group)["counts"] for group in flood]
        return sum(count.get("succeeded", 0) for count in counts)

    wait_until(done, 60, what="the flood's first answers")
    late = [
        caller.submit("slow_echo", tensor(n, -n), priority=BULK, expires_in_s=0.15)
        for n in range(LATE)
    ]
    before = done()
    online = [caller.submit("slow_echo", tensor(number, -number))["id"] for number in range(ONLINE)]
    for number, job_id in enumerate(online):
        assert caller.finish(job_id)["state"] == "succeeded"
        assert only_output(caller.result(job_id)) == [number, -number]
    passed = done() - before
    assert before < FLOOD * REQUESTS / 2, "the flood was over too soon to tell"
    assert passed <= FEW * BATCH, f"{passed} bulk jobs went before {ONLINE} online ones"

    ended = [caller.finish(job["id"]) for job in late]
    assert {(job["state"], job["error"], job["attempts"]) for job in ended} == {
        ("expired", None, 0)
    }
    for group in flood[1:]:
        caller.http.post(f"/v1/groups/{group}/cancel")
    assert caller.finish_group(flood[0])["counts"]["succeeded"] == FLOOD, (
        "a late job took another along"
    )
    lines = caller.results(flood[0])
    assert [only_output(line["result"]) for line in lines] == [[n, -n] for n in range(FLOOD)]
    for group in flood[1:]:
        caller.finish_group(group)


def test_a_submit_says_when_it_is_likely_to_start(caller: Caller) -> None:
    caller.ask("slow_echo", tensor(1, 2))
    idle = _start(caller, tensor(3, 4))
    flood = caller.submit_many(echo_jobs("slow_echo", range(2 * FLOOD)))["group"]
    busy = _start(caller, tensor(5, 6))
    caller.http.post(f"/v1/groups/{flood}/cancel")
    caller.finish_group(flood)
    assert timedelta(seconds=-1) < idle < timedelta(seconds=2)
    assert timedelta(seconds=-1) < busy < timedelta(seconds=120)


def _start(caller: Caller, question: dict[str, object]) -> timedelta:
    """How far ahead the estimate of the 202 is; the job then runs."""
    accepted = caller.submit("slow_echo", question)
    said = accepted["estimated_start_at"]
    assert isinstance(said, str), "no worker is said to live"
    ahead = datetime.fromisoformat(said) - datetime.now(UTC)
    assert caller.finish(accepted["id"])["state"] == "succeeded"
    return ahead
