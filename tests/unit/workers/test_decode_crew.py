"""Slow inputs are decoded side by side, quick ones where they are, and none twice or never."""

from __future__ import annotations

import threading

import pytest

from storage.queue.lanes import Lane
from storage.records.jobs import ClaimedJob
from workers.inference.batch import Work
from workers.inference.decode_crew import SLICE_S, DecodeCrew
from workers.inference.waiting import Line


def works(count: int) -> list[Work]:
    line = Line("v", Lane.NORMAL)
    jobs = [ClaimedJob(f"j{n}", "t", 1, "v", 5, 0, 3, 0, 1, 1, b"") for n in range(count)]
    return [Work(job, "s", line, 0.0) for job in jobs]


class Clock:
    """Every input takes as long as the test says."""

    def __init__(self, each_s: float) -> None:
        self.each_s, self.now_s = each_s, 0.0
        self.seen: list[str] = []
        self.threads: set[int] = set()

    def __call__(self) -> float:
        return self.now_s

    def decode(self, work: Work) -> None:
        self.seen.append(work.job.id)
        self.threads.add(threading.get_ident())
        self.now_s += self.each_s


def test_quick_inputs_are_decoded_at_once_on_one_thread() -> None:
    clock = Clock(0.00001)
    some = works(500)
    assert DecodeCrew(4, clock).run(some, clock.decode) == 500
    assert clock.seen == [work.job.id for work in some]
    assert clock.threads == {threading.get_ident()}


def test_slow_inputs_are_handed_on_before_all_of_them_are_decoded() -> None:
    clock = Clock(0.4 * SLICE_S)
    assert DecodeCrew(1, clock).run(works(100), clock.decode) == 3


def test_slow_inputs_are_decoded_side_by_side() -> None:
    crew = DecodeCrew(2)
    crew._each_s["v"] = 1.0
    both = threading.Barrier(2, timeout=20)
    ids: list[str] = []

    def decode(work: Work) -> None:
        both.wait()
        ids.append(work.job.id)

    assert crew.run(works(4), decode) == 4
    assert sorted(ids) == ["j0", "j1", "j2", "j3"]
    crew.close()


def test_trouble_on_any_thread_is_the_callers() -> None:
    crew = DecodeCrew(2)
    crew._each_s["v"] = 1.0

    def decode(work: Work) -> None:
        if work.job.id == "j1":
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        crew.run(works(4), decode)
    crew.close()
