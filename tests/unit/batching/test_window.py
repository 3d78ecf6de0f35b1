"""What leaves the window, and what a pick may hold, whatever comes in whatever order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.batching.candidates import always, candidate, limits, window
from workers.inference.batching import MIXED, UNLIMITED, Candidate, LatencyBook, Limits, Window

SIZES = (2, 4, 8, 16)
MAX_COST = 40.0
ROW_COST = {"": 1.0, "wide": 4.0, MIXED: 2.0}


@dataclass(frozen=True)
class Step:
    """Something that happens to a window."""

    verb: str
    after_s: float
    comes: tuple[Candidate, ...] = ()
    version: str = "a"
    rows: int = 1


def candidates() -> st.SearchStrategy[Candidate]:
    return st.builds(
        lambda version, tenant, shape, rows, rank_ms, bulk, latest_start_s, companions: candidate(
            version,
            tenant=tenant,
            shape=shape,
            rows=rows,
            row_cost=ROW_COST[shape],
            rank_ms=rank_ms,
            bulk=bulk,
            latest_start_s=latest_start_s,
            companions=companions,
        ),
        st.sampled_from("ab"),
        st.sampled_from("xyz"),
        st.sampled_from(list(ROW_COST)),
        st.one_of(st.just(1), st.integers(0, 40)),
        st.integers(-300_000, 300_000),
        st.booleans(),
        st.one_of(st.just(math.inf), st.floats(0, 20)),
        st.sampled_from([UNLIMITED, UNLIMITED, 8, 1]),
    )


def steps() -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(
            Step,
            st.sampled_from(["add", "add", "pick", "pick", "expire", "discard", "shrink"]),
            st.floats(0, 3),
            st.lists(candidates(), max_size=12).map(tuple),
            st.sampled_from("ab"),
            st.sampled_from(SIZES),
        ),
        max_size=30,
    )


def of_version(version_id: str) -> Limits:
    return Limits(SIZES, MAX_COST if version_id == "a" else None, 0.05)


class Replay:
    """Runs steps on a window and keeps what came and what left."""

    def __init__(self) -> None:
        self.book = LatencyBook()
        self.window = Window(self.book, limits=of_version)
        self.now_s = 0.0
        self.came: list[Candidate] = []
        self.picked: list[Candidate] = []
        self.expired: list[Candidate] = []
        self.discarded: list[Candidate] = []

    def step(self, step: Step) -> None:
        self.now_s += step.after_s
        if step.verb == "add":
            self.window.add(step.comes, self.now_s)
            self.came += step.comes
        elif step.verb == "pick":
            self.pick()
        elif step.verb == "expire":
            self.expire()
        elif step.verb == "discard":
            gone = self.window.discard(step.version)
            assert all(one.version_id == step.version for one in gone)
            self.discarded += gone
        else:
            self.book.shrink(step.version, "", step.rows)

    def pick(self) -> bool:
        picked = self.window.pick(self.now_s, always)
        if picked is None:
            return False
        assert picked.candidates
        assert {(c.version_id, c.shape) for c in picked.candidates} == {
            (picked.version_id, picked.shape)
        }
        assert picked.rows == sum(one.rows for one in picked.candidates)
        assert picked.bucket in SIZES
        assert 0 <= picked.fill <= 1
        assert picked.bulk is all(one.bulk for one in picked.candidates)
        assert all(one.latest_start_s >= self.now_s for one in picked.candidates)
        assert len(picked.candidates) <= min(one.companions for one in picked.candidates)
        assert len({one.companions for one in picked.candidates}) == 1
        if len(picked.candidates) > 1:
            assert picked.shape != MIXED
            assert picked.rows <= picked.bucket
            cap = self.book.cap(picked.version_id, picked.shape)
            assert cap is None or picked.bucket <= max(cap, SIZES[0])
            if picked.version_id == "a":
                cost = picked.bucket * ROW_COST[picked.shape]
                assert cost <= MAX_COST or picked.bucket == SIZES[0]
        self.picked += picked.candidates
        self.window.charge(picked, 0.004 + 0.001 * picked.bucket)
        self.book.observe(picked.version_id, picked.shape, picked.bucket, 0.004)
        return True

    def expire(self) -> None:
        gone = self.window.expire(self.now_s)
        assert all(one.latest_start_s < self.now_s for one in gone)
        self.expired += gone

    def left(self) -> list[Candidate]:
        return self.picked + self.expired + self.discarded


@settings(print_blob=True, max_examples=150)
@given(steps())
def test_everyone_leaves_once_and_no_pass_breaks_a_limit(script: list[Step]) -> None:
    replay = Replay()
    for step in script:
        replay.step(step)
        assert replay.window.jobs == len(replay.came) - len(replay.left())
    while replay.pick():
        pass
    replay.expire()
    assert sorted(c.job_id for c in replay.left()) == sorted(c.job_id for c in replay.came)
    assert replay.window.jobs == 0
    for version in "ab":
        for bulk in (False, True):
            assert replay.window.waiting(version, bulk) == (0, 0)


@settings(print_blob=True, max_examples=50)
@given(steps())
def test_clearing_gives_back_everyone_who_is_still_there(script: list[Step]) -> None:
    replay = Replay()
    for step in script:
        replay.step(step)
    replay.discarded += replay.window.clear()
    assert sorted(c.job_id for c in replay.left()) == sorted(c.job_id for c in replay.came)
    assert replay.window.jobs == 0


def test_what_arrives_before_the_device_is_free_is_in_the_pass() -> None:
    ready = window()
    ready.add([candidate() for _ in range(3)], 0.0)
    ready.add([candidate()], 0.9)
    picked = ready.pick(1.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket, picked.fill) == (4, 4, 1.0)
    assert ready.pick(1.0, always) is None


def test_nothing_waits_for_a_pass_to_fill() -> None:
    ready = window()
    ready.add([candidate()], 5.0)
    picked = ready.pick(5.0, always)
    assert picked is not None
    assert picked.rows == 1


def test_a_version_that_is_not_free_is_left_waiting() -> None:
    ready = window()
    ready.add([candidate("busy"), candidate("idle")], 0.0)
    picked = ready.pick(0.0, lambda version_id: version_id == "idle")
    assert picked is not None
    assert picked.version_id == "idle"
    assert ready.waiting("busy", False) == (1, 1)
    assert ready.pick(0.0, lambda version_id: version_id == "idle") is None


def test_within_a_tenant_rank_decides_who_is_in_a_full_pass() -> None:
    ready = window(of=lambda version_id: limits((4,)))
    ready.add([candidate(rank_ms=rank) for rank in (5, 1, 7, 3, 2, 9)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert [one.rank_ms for one in picked.candidates] == [1, 2, 3, 5]


def test_a_job_larger_than_any_pass_goes_alone_and_says_so_by_its_rows() -> None:
    ready = window(of=lambda version_id: limits((4, 8)))
    ready.add([candidate(rows=20, rank_ms=0), candidate(rank_ms=1)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (len(picked.candidates), picked.rows, picked.bucket) == (1, 20, 8)
    assert picked.fill == 20 / 24


def test_small_jobs_behind_one_that_does_not_fit_fill_the_pass() -> None:
    ready = window(of=lambda version_id: limits((8,)))
    ready.add([candidate(rows=rows, rank_ms=n) for n, rows in enumerate((5, 6, 2, 1))], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert [one.rows for one in picked.candidates] == [5, 2, 1]
    last = ready.pick(0.0, always)
    assert last is not None
    assert [one.rows for one in last.candidates] == [6]


def by_the_row() -> Window:
    """A version whose passes take 1 ms a row and nothing else: a full size is always cheapest."""
    book = LatencyBook()
    for size in (64, 128):
        for _ in range(2):
            book.observe("v", "", size, 0.001 * size)
    return Window(book, limits=lambda version_id: limits((64, 128)))


def test_a_smaller_size_that_jobs_cannot_fill_is_not_cheaper() -> None:
    ready = by_the_row()
    ready.add([candidate(rows=40) for _ in range(3)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket) == (120, 128)


def test_beside_a_job_that_needs_a_larger_size_others_fill_it() -> None:
    ready = by_the_row()
    ready.add([candidate(rows=100, rank_ms=0), candidate(rank_ms=1)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket) == (101, 128)


def test_cost_bounds_a_pass_with_its_padding() -> None:
    ready = window(of=lambda version_id: limits((4, 8, 16), max_cost=900))
    ready.add([candidate(shape="128", row_cost=100) for _ in range(16)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket) == (8, 8)


def test_a_row_that_costs_more_than_is_allowed_still_goes() -> None:
    ready = window(of=lambda version_id: limits((1, 2), max_cost=10))
    ready.add([candidate(shape="big", row_cost=100) for _ in range(2)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket) == (1, 1)


def test_sizes_that_never_ran_are_reached_step_by_step() -> None:
    """Nobody knows yet whether a row takes a microsecond or a second."""
    book = LatencyBook()
    sizes = (1, 16, 64, 256, 1024)
    ready = Window(book, limits=lambda version_id: limits(sizes))
    ready.add([candidate() for _ in range(3000)], 0.0)
    buckets = []
    for _ in range(4):
        picked = ready.pick(0.0, always)
        assert picked is not None
        buckets.append(picked.bucket)
        book.observe("v", "", picked.bucket, 0.005)
    assert buckets == [64, 256, 1024, 1024]


def test_a_slow_version_runs_no_larger_passes_than_pay() -> None:
    book = LatencyBook()
    for size in (1, 4, 16, 64):
        for _ in range(2):
            book.observe("v", "", size, 0.010 + 0.030 * size)
    ready = Window(book, limits=lambda version_id: limits((1, 4, 16, 64), objective_s=0.05))
    ready.add([candidate() for _ in range(100)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert picked.bucket == 16


def test_what_did_not_fit_in_memory_is_not_tried_again() -> None:
    book = LatencyBook()
    ready = Window(book, limits=lambda version_id: limits())
    book.shrink("v", "", 16)
    ready.add([candidate() for _ in range(64)], 0.0)
    picked = ready.pick(0.0, always)
    assert picked is not None
    assert picked.bucket == 8


def test_suspects_run_among_few_or_alone_and_never_with_innocents() -> None:
    ready = window()
    few = [candidate(companions=8, rank_ms=-1) for _ in range(10)]
    alone = [candidate(companions=1, rank_ms=-2) for _ in range(2)]
    innocent = [candidate() for _ in range(20)]
    ready.add(few + alone + innocent, 0.0)
    passes = []
    while (picked := ready.pick(0.0, always)) is not None:
        passes.append([one.companions for one in picked.candidates])
    assert all(len(set(one)) == 1 for one in passes)
    assert max(len(one) for one in passes if one[0] == 8) == 8
    assert [one for one in passes if one[0] == 1] == [[1], [1]]
    assert sum(len(one) for one in passes) == 32
