"""What enters the window: online before bulk, nothing starves, what expires soon goes first."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.window.choice import AGED_EVERY, BULK_SHARE
from producers.window.packing import LEAST_CHUNK, chunk_size, messages
from storage.queue.lanes import Lane
from tests.support.window_pool import WINDOW, PoolInNumbers

OLD_MS = 1  # before everything else


def lanes(picks) -> dict[str, set[Lane]]:
    found: dict[str, set[Lane]] = {}
    for pick in picks:
        found.setdefault(pick.head.tenant, set()).add(pick.lane)
    return found


def test_high_priority_travels_high_and_bulk_apart():
    pool = PoolInNumbers()
    pool.backlog.update({"urgent": 3, "plain": 3, "bulk": 3})
    pool.priority.update({"urgent": 8, "bulk": 2})
    assert lanes(pool.look()) == {
        "urgent": {Lane.HIGH},
        "plain": {Lane.NORMAL},
        "bulk": {Lane.BULK},
    }


def test_bulk_leaves_room_for_online_work_that_may_come():
    pool = PoolInNumbers()
    pool.backlog["night"], pool.priority["night"] = 100_000, 0
    assert len(pool.look()) == WINDOW * BULK_SHARE
    assert pool.look() == []
    pool.backlog["day"] = 100_000
    assert Counter(pick.head.tenant for pick in pool.look())["day"] == WINDOW * (1 - BULK_SHARE)


def test_online_work_goes_first_and_bulk_fills_what_is_left():
    pool = PoolInNumbers()
    pool.backlog.update({"night": 100_000, "day": 200})
    pool.priority["night"] = 2
    picks = pool.look()
    assert [pick.head.tenant for pick in picks] == ["day"] * 200 + ["night"] * (WINDOW - 200)


def test_bulk_that_has_not_waited_long_gets_nothing_while_online_work_waits():
    pool = PoolInNumbers()
    pool.backlog.update({"night": 1000, "day": 10**9})
    pool.priority["night"] = 2
    for _ in range(20):
        pool.look()
        pool.work(100)
    assert pool.taken["night"] == 0


@settings(max_examples=30, deadline=None)
@given(
    bulk_cost=st.floats(0.1, 50),
    online_cost=st.floats(0.1, 5),
    capacity=st.integers(1, 300),
    rounds=st.integers(30, 60),
)
def test_aged_bulk_gets_its_part_of_the_places_however_much_online_work_waits(
    bulk_cost, online_cost, capacity, rounds
):
    """The bound: of every ``AGED_EVERY`` device-seconds of places one is bulk's, but for a job."""
    pool = PoolInNumbers()
    pool.backlog.update({"night": 10**9, "day": 10**9})
    pool.priority["night"], pool.created_ms["night"] = 0, OLD_MS
    pool.cost.update({"night": bulk_cost, "day": online_cost})
    for _ in range(rounds):
        pool.look()
        pool.work(capacity)
    bulk_s, online_s = pool.taken["night"] * bulk_cost, pool.taken["day"] * online_cost
    assert abs(bulk_s - online_s / (AGED_EVERY - 1)) <= bulk_cost + online_cost


def test_aged_bulk_travels_with_the_others_so_that_workers_take_it():
    pool = PoolInNumbers()
    pool.backlog.update({"night": 10**9, "day": 10**9})
    pool.priority["night"], pool.created_ms["night"] = 2, OLD_MS
    found = lanes(pool.look())
    assert found["night"] == {Lane.NORMAL}


@settings(max_examples=20, deadline=None)
@given(capacity=st.integers(1, 40))
def test_a_bulk_tenant_owes_nobody_for_what_was_left_over(capacity):
    """A ran bulk all night; its first online jobs have the same turn as a newcomer's."""
    pool = PoolInNumbers()
    pool.backlog["a"], pool.priority["a"] = 10**6, 0
    for _ in range(30):
        pool.look()
        pool.work(200)
    assert pool.books.online.turns == {}
    pool.priority["a"], pool.backlog["b"] = 5, 10**6
    pool.lanes[Lane.BULK].clear()
    for _ in range(30):
        pool.look()
        pool.work(capacity)
    assert abs(pool.served["b"] - (pool.served["a"] - 30 * 200)) <= 2 * WINDOW


def test_what_expires_soon_goes_first_and_high_if_it_can_still_make_it():
    pool = PoolInNumbers(target=64)
    pool.backlog["a"], pool.cost["a"] = 100, 0.5
    soon = {70: pool.now_ms + 3_000, 71: pool.now_ms + 2_000, 5: pool.now_ms + 400}
    pool.expires_ms = lambda _, n: soon.get(n, pool.now_ms + 60_000)
    pool.lanes[Lane.NORMAL].extend(["a"] * 0)
    heads = pool.heads("a", 100)
    pool.heads = lambda tenant, count: heads  # type: ignore[method-assign]
    picks = pool.look()
    assert [pick.head.id for pick in picks[:3]] == ["a-71", "a-70", "a-0"]
    assert [pick.lane for pick in picks[:3]] == [Lane.HIGH, Lane.HIGH, Lane.NORMAL]
    assert next(pick for pick in picks if pick.head.id == "a-5").lane is Lane.NORMAL


def test_deadlines_decide_among_equals_only():
    """B's jobs all expire soon: it gets its share and no more."""
    pool = PoolInNumbers()
    pool.backlog.update({"a": 10**6, "b": 10**6})
    pool.expires_ms = lambda tenant, _: pool.now_ms + (3_000 if tenant == "b" else 10**9)
    picks = pool.look()
    shares = Counter(pick.head.tenant for pick in picks)
    assert shares == {"a": WINDOW / 2, "b": WINDOW / 2}
    assert picks[0].head.tenant == "b"
    for _ in range(40):
        pool.work(100)
        pool.look()
    assert abs(pool.served["a"] - pool.served["b"]) <= 2 * WINDOW


class TestPacking:
    def packed(self, items, size):
        numbers = iter(range(10_000))
        return list(messages("p", items, size, lambda: str(next(numbers))))

    def test_jobs_of_a_version_and_lane_travel_together_in_their_order(self):
        items = [
            (lane, version, f"{n}")
            for n, (lane, version) in enumerate(
                [(Lane.NORMAL, "v"), (Lane.HIGH, "v"), (Lane.NORMAL, "w"), (Lane.NORMAL, "v")]
            )
        ]
        found = self.packed(items, 10)
        assert [(m.queue, m.wake_up.version_id, m.wake_up.job_ids) for m in found] == [
            ("infer.p", "v", ("0", "3")),
            ("infer.p.hi", "v", ("1",)),
            ("infer.p", "w", ("2",)),
        ]
        assert len({m.id for m in found}) == 3

    @settings(max_examples=50, deadline=None)
    @given(
        versions=st.lists(st.sampled_from("abc"), min_size=1, max_size=200),
        size=st.integers(1, 20),
    )
    def test_gathering_lets_no_more_than_a_message_of_each_other_version_overtake(
        self, versions, size
    ):
        items = [(Lane.NORMAL, version, str(n)) for n, version in enumerate(versions)]
        sent = [(m.wake_up.version_id, int(i)) for m in self.packed(items, size)
                for i in m.wake_up.job_ids]  # fmt: skip
        assert sorted(n for _, n in sent) == list(range(len(versions)))
        for place, (version, n) in enumerate(sent):
            earlier = Counter(v for v, other in sent[:place] if other > n)
            assert all(count < size for v, count in earlier.items() if v != version)
            assert earlier[version] == 0

    def test_workers_who_share_a_small_window_get_small_messages(self):
        assert chunk_size(8192, 1, 512) == 512
        assert chunk_size(256, 0, 512) == chunk_size(256, 1, 512) == 64
        assert chunk_size(256, 2, 512) == 32
        assert chunk_size(256, 100, 512) == LEAST_CHUNK
        assert chunk_size(8192, 100, 4) == 4


def test_nothing_here_divides_by_an_empty_window():
    pool = PoolInNumbers(target=1)
    pool.backlog["a"] = 3
    assert len(pool.look()) == 1 and math.isfinite(pool.books.owed_s)
