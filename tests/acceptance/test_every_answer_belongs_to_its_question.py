"""The echo test: a model whose answer names its question, under mixed submissions and a kill.

Not one answer crosses, none is lost, none is doubled.
"""

from __future__ import annotations

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.support.caller import Caller, echo_jobs, only_output, tensor
from tests.support.stack import Stack
from tests.support.waiting import wait_until

SINGLES, GROUPS, GROUP_SIZE, LISTS = 60, 4, 400, 24


@dataclass
class Asked:
    """What was asked, by job id."""

    mark: str
    singles: dict[str, int] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        return len(self.singles) + len(self.lists) + sum(map(len, self.groups.values()))


def test_not_one_answer_crosses_is_lost_or_doubled(
    stack: Stack, caller: Caller, rng: random.Random
) -> None:
    numbers = iter(rng.sample(range(1 << 22), 8_000))
    asked = Asked(uuid.uuid4().hex)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda ask: ask(), _questions(caller, asked, numbers, rng)))
    _kill_mid_way(stack, caller, asked)
    with ThreadPoolExecutor(6) as pool:  # more of it, in front of and behind what came back
        list(pool.map(lambda ask: ask(), _questions(caller, asked, numbers, rng)))

    _check_groups(caller, asked)
    for job_id, number in asked.singles.items():
        assert caller.finish(job_id)["state"] == "succeeded"
        assert only_output(caller.result(job_id)) == [number, -number]
    for job_id, listed in asked.lists.items():
        assert caller.finish(job_id)["state"] == "succeeded"
        answers = caller.result(job_id)["items"]
        assert [only_output(answer) for answer in answers] == [[n, -n] for n in listed]
    _check_none_doubled(caller, asked)


def _questions(caller: Caller, asked: Asked, numbers, rng: random.Random) -> list:
    """Shuffled single jobs, lists of items and groups: batches mix them, and most need padding."""
    fields = {"metadata": {"mark": asked.mark}}

    def single(number: int) -> None:
        job = caller.submit("slow_echo", tensor(number, -number), **fields)
        asked.singles[job["id"]] = number

    def listed(drawn: list[int]) -> None:
        items = [tensor(number, -number) for number in drawn]
        asked.lists[caller.submit("slow_echo", {"items": items}, **fields)["id"]] = drawn

    def group(drawn: list[int]) -> None:
        jobs = echo_jobs("slow_echo", drawn, priority=rng.choice([2, 5, 9]), **fields)
        asked.groups[caller.submit_many(jobs)["group"]] = drawn

    def draw(count: int) -> list[int]:
        return [next(numbers) for _ in range(count)]

    asks = [
        *(partial(single, number) for number in draw(SINGLES // 2)),
        *(partial(listed, draw(rng.randint(1, 9))) for _ in range(LISTS // 2)),
        *(partial(group, draw(GROUP_SIZE)) for _ in range(GROUPS // 2)),
    ]
    rng.shuffle(asks)
    return asks


def _kill_mid_way(stack: Stack, caller: Caller, asked: Asked) -> None:
    """Kill the worker when some of it is done and some is not; then start it again."""

    def some() -> bool:
        done = [caller.group(group)["counts"].get("succeeded", 0) for group in asked.groups]
        assert sum(done) < GROUPS // 2 * GROUP_SIZE, "too quick to be killed half-way"
        return sum(done) > 0

    wait_until(some, 60, what="the first answers")
    stack.kill_worker()
    stack.start_worker()


def _check_groups(caller: Caller, asked: Asked) -> None:
    for group, drawn in asked.groups.items():
        assert caller.finish_group(group)["counts"]["succeeded"] == len(drawn)
        lines = caller.results(group)
        assert [line["custom_id"] for line in lines] == [f"n{n}" for n in drawn]
        assert [only_output(line["result"]) for line in lines] == [[n, -n] for n in drawn]


def _check_none_doubled(caller: Caller, asked: Asked) -> None:
    """The service holds exactly the jobs that were asked for, each succeeded once."""
    seen: list[str] = []
    params = {"metadata.mark": asked.mark, "limit": "100"}
    while True:
        page = caller.http.get("/v1/jobs", params=params).json()
        seen += [job["id"] for job in page["data"] if job["state"] == "succeeded"]
        if not page["has_more"]:
            break
        params["after"] = page["next"]
    assert len(seen) == len(set(seen)) == asked.jobs
