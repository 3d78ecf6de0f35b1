"""A group: one wait for all, all answers in the order in which they were asked."""

from __future__ import annotations

import base64

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.zoo import grey_png


def test_a_mixed_group_is_done_when_all_of_it_is(caller: Caller) -> None:
    picture = base64.b64encode(grey_png(250)).decode()
    jobs = [
        *echo_jobs("echo", range(40)),
        {"model": "picture", "input": {"image": picture}, "custom_id": "good"},
        {"model": "picture", "input": {"image": picture[:60]}, "custom_id": "bad"},
        {"model": "echo", "input": {"items": [tensor(8, 9)]}, "custom_id": "list"},
    ]
    accepted = caller.submit_many(jobs)
    group = caller.finish_group(accepted["group"])
    assert group["total"] == len(jobs)
    assert group["done"] is True
    assert group["counts"]["succeeded"] == len(jobs) - 1
    assert group["counts"]["failed"] == 1
    lines = caller.results(accepted["group"])
    assert [line["custom_id"] for line in lines] == [job["custom_id"] for job in jobs]
    assert [line["id"] for line in lines] == [job["id"] for job in accepted["jobs"]]
    for number, line in enumerate(lines[:40]):
        assert only_output(line["result"]) == [number, -number]
    good, bad, listed = lines[40:]
    assert good["result"]["label"] == "bright"
    assert (bad["state"], bad["result"]) == ("failed", None)
    assert bad["error"]["code"] == "bad_image"
    assert only_output(listed["result"]["items"][0]) == [8, 9]


def test_a_wait_ends_in_time_though_the_group_does_not(caller: Caller) -> None:
    accepted = caller.submit_many(echo_jobs("slow_echo", range(1_500)))
    seen = caller.group(accepted["group"], wait_s=0.2)
    assert seen["done"] is False
    assert sum(seen["counts"].values()) == 1_500
    cancelled = caller.http.post(f"/v1/groups/{accepted['group']}/cancel")
    assert cancelled.status_code in (200, 202), cancelled.text
    counts = caller.finish_group(accepted["group"])["counts"]
    assert counts.get("cancelled", 0) > 0
    assert counts.get("cancelled", 0) + counts.get("succeeded", 0) == 1_500
