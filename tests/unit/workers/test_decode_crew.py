"""Slow inputs are decoded side by side, quick ones where they are, and none twice or never."""

from __future__ import annotations

import threading

import pytest

from storage.queue.lanes import Lane
from storage.records.jobs import ClaimedJob
from workers.inference.batch import Work
from workers.inference.decode_crew import SLICE_S, DecodeCrew, fitting_threads
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


def test_slow_inputs_are_found_out_and_given_to_the_crew() -> None:
    clock = Clock(0.002)
    crew = DecodeCrew(4, clock)
    for _ in range(20):
        crew.run(works(20), clock.decode)
    assert clock.threads - {threading.get_ident()}
    crew.close()


def test_a_wait_for_a_core_does_not_make_quick_inputs_slow() -> None:
    """Not on this thread, where one takes long now and then; and not on the crew's for good."""
    clock = Clock(0.0001)
    crew = DecodeCrew(4, clock)

    def decode(work: Work) -> None:
        clock.decode(work)
        clock.now_s += 0.02 if work.job.id.endswith("7") else 0.0

    for _ in range(20):
        crew.run(works(100), decode)
    assert clock.threads == {threading.get_ident()}
    crew._each_s["v"] = 0.002
    for _ in range(20):
        crew.run(works(100), clock.decode)
    assert crew._each_s["v"] < 0.001
    crew.close()


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


def test_the_crew_leaves_a_core_to_the_passes() -> None:
    assert [fitting_threads(cores) for cores in (1, 2, 3, 5, 64)] == [1, 1, 2, 4, 4]
