"""The echo test: models whose answers name their question, under mixed submissions and a kill.

Batches are padded, lengths are padded with masks, poisoned rows have their batches bisected, more
versions are asked than may be loaded, and the process that computes is killed half-way. Not one
answer crosses, none is lost, none is doubled.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.acceptance.conftest import MAX_MODELS, serve
from tests.support.caller import TERMINAL, Caller, only_output, tensor
from tests.support.misbehaviour import POISON
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.zoo import Zoo

SINGLES, LISTS = 30, 15  # in each of two rounds, of all models
GROUPS, GROUP_SIZE, SMALL_GROUP = 2, 400, 30  # of the slow model, and one of each other
LENGTHS, POISONED = (4, 12, 32), 0.15
LARGEST = 500_000  # times the largest length, it is an exact float32
PADDED = {"serving": {"pad": {"tokens": {"sizes": list(LENGTHS), "mask": "mask"}}}}
Answer = list[float] | str  # the only output, or the code of what went wrong


@dataclass(frozen=True)
class Question:
    """An input and the one right answer to it."""

    model: str
    input: dict[str, Any]
    answer: Answer


@dataclass
class Asked:
    """What was asked, by job id; groups by theirs, with the custom ids of their jobs."""

    mark: str
    singles: dict[str, Question] = field(default_factory=dict)
    lists: dict[str, list[Question]] = field(default_factory=dict)
    groups: dict[str, dict[str, Question]] = field(default_factory=dict)

    def failing(self) -> int:
        """Jobs that must fail; a list never does."""
        each = [*self.singles.values(), *(q for one in self.groups.values() for q in one.values())]
        return sum(isinstance(one.answer, str) for one in each)

    @property
    def jobs(self) -> int:
        return len(self.singles) + len(self.lists) + sum(map(len, self.groups.values()))


def _echo(model: str, number: int, rng: random.Random) -> Question:
    return Question(model, tensor(number, -number), [number, -number])


def _double(model: str, number: int, rng: random.Random) -> Question:
    return Question(model, tensor(number, -number), [2 * number, -2 * number])


def _sometimes_poisoned(model: str, number: int, rng: random.Random) -> Question:
    if rng.random() < POISONED:
        return Question(model, tensor(POISON, number), "model_error")
    return _echo(model, number, rng)


def _of_any_length(model: str, number: int, rng: random.Random) -> Question:
    length = rng.randint(1, LENGTHS[-1])
    return Question(model, tensor(*[number] * length), [number])


def _pair(model: str, number: int, rng: random.Random) -> Question:
    last = rng.randrange(256)
    asked = {"left": [number, -number], "right": [last]}
    return Question(model, {"inputs": asked}, [number, -number, last])


SLOW = "slow_echo"
MODELS: dict[str, Callable[[str, int, random.Random], Question]] = {
    SLOW: _echo,
    "echo": _echo,
    "twice": _double,
    "poisoned": _sometimes_poisoned,
    "lengths_echo": _of_any_length,
    "pair": _pair,
    **{f"echo_{n}": _echo for n in range(MAX_MODELS - 5)},  # all of them never fit
}


class _Sober(random.Random):
    """Chance that poisons nobody."""

    def random(self) -> float:
        return 0.5


@pytest.fixture
def everybody(stack: Stack, caller: Caller, zoo: Zoo) -> Caller:
    """A caller for whom every model of the test is there."""
    pushed = stack.run("models", "push", "poisoned", str(zoo.menace), "--trusted")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    caller.push("twice", zoo.double)
    caller.push("lengths_echo", zoo.masked, PADDED)
    for name, make in MODELS.items():
        if name.startswith("echo_"):
            caller.push(name, zoo.echo)
        serve(caller, caller.version(name, 1), make(name, 1, _Sober()).input)
    return caller


def test_not_one_answer_crosses_is_lost_or_doubled(
    stack: Stack, everybody: Caller, rng: random.Random
) -> None:
    caller = everybody
    numbers = iter(rng.sample(range(1, LARGEST), 8_000))
    asked = Asked(uuid.uuid4().hex)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda ask: ask(), _questions(caller, asked, numbers, rng)))
    _kill_mid_way(stack, caller, asked)
    with ThreadPoolExecutor(6) as pool:  # more of it, in front of and behind what came back
        list(pool.map(lambda ask: ask(), _questions(caller, asked, numbers, rng)))

    _check_groups(caller, asked)
    for job_id, question in asked.singles.items():
        job = caller.finish(job_id)
        if job["state"] == "succeeded":
            assert only_output(caller.result(job_id)) == question.answer
        else:
            assert job["error"]["code"] == question.answer, (job, question)
    for job_id, listed in asked.lists.items():
        assert caller.finish(job_id)["state"] == "succeeded"
        answers = [_answer(item) for item in caller.result(job_id)["items"]]
        assert answers == [question.answer for question in listed]
    _check_none_doubled(caller, asked)
    _check_what_happened(caller)


def _questions(
    caller: Caller, asked: Asked, numbers: Iterator[int], rng: random.Random
) -> list[Callable[[], None]]:
    """Shuffled single jobs, lists of items and groups: batches mix them, and most need padding."""
    fields = {"metadata": {"mark": asked.mark}, "max_attempts": 2}

    def single(question: Question) -> None:
        job = caller.submit(question.model, question.input, **fields)
        asked.singles[job["id"]] = question

    def listed(drawn: list[Question]) -> None:
        items = {"items": [question.input for question in drawn]}
        asked.lists[caller.submit(drawn[0].model, items, **fields)["id"]] = drawn

    def group(drawn: list[Question]) -> None:
        named = {f"n{place}": question for place, question in enumerate(drawn)}
        priority = rng.choice([2, 5, 9])
        jobs = [
            {"model": one.model, "input": one.input, "custom_id": name, "priority": priority}
            for name, one in named.items()
        ]
        asked.groups[caller.submit_many([{**job, **fields} for job in jobs])["group"]] = named

    def draw(model: str, count: int) -> list[Question]:
        return [MODELS[model](model, next(numbers), rng) for _ in range(count)]

    anyone = list(MODELS)
    asks: list[Callable[[], None]] = [
        *(partial(single, *draw(rng.choice(anyone), 1)) for _ in range(SINGLES)),
        *(partial(listed, draw(rng.choice(anyone), rng.randint(1, 9))) for _ in range(LISTS)),
        *(partial(group, draw(SLOW, GROUP_SIZE)) for _ in range(GROUPS)),
        *(partial(group, draw(model, SMALL_GROUP)) for model in anyone if model != SLOW),
    ]
    rng.shuffle(asks)
    return asks


def _kill_mid_way(stack: Stack, caller: Caller, asked: Asked) -> None:
    """Kill what computes when some of it is done and some is not; it is started again."""
    slow = [group for group, named in asked.groups.items() if len(named) == GROUP_SIZE]

    def some() -> bool:
        done = [caller.group(group)["counts"].get("succeeded", 0) for group in slow]
        assert sum(done) < GROUPS * GROUP_SIZE, "too quick to be killed half-way"
        return sum(done) > 0

    wait_until(some, 60, what="the first answers")
    stack.kill_device()


def _answer(result: dict[str, Any]) -> Answer:
    return str(result["error"]["code"]) if "error" in result else list(only_output(result))


def _check_groups(caller: Caller, asked: Asked) -> None:
    for group, named in asked.groups.items():
        caller.finish_group(group)
        lines = caller.results(group)
        assert [line["custom_id"] for line in lines] == list(named)
        answers = [_answer(line["result"] or {"error": line["error"]}) for line in lines]
        assert answers == [question.answer for question in named.values()]


def _check_none_doubled(caller: Caller, asked: Asked) -> None:
    """The service holds exactly the jobs that were asked for, each ended once as it must."""
    seen: dict[str, str] = {}
    count = 0
    params = {"metadata.mark": asked.mark, "limit": "100"}
    while True:
        page = caller.http.get("/v1/jobs", params=params).json()
        seen |= {job["id"]: job["state"] for job in page["data"]}
        count += len(page["data"])
        if not page["has_more"]:
            break
        params["after"] = page["next"]
    assert count == len(seen) == asked.jobs
    assert set(seen.values()) <= TERMINAL
    assert list(seen.values()).count("failed") == asked.failing()
    assert list(seen.values()).count("succeeded") == asked.jobs - asked.failing()


def _check_what_happened(caller: Caller) -> None:
    """It was as hard as it was meant to be: versions left, passes were split and padded."""

    def total(name: str) -> float:
        lines = caller.http.get("/metrics").text.splitlines()
        return sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith(name + "{"))

    for name in ("forebay_model_evictions_total", "forebay_bisections_total"):
        wait_until(partial(total, name), 20, what=name)
    slots, rows = total("forebay_batch_slots_total"), total("forebay_batch_rows_sum")
    assert slots > rows, "no pass was padded"
