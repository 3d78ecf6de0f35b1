"""The watcher: one bulk look for all, ever rarer as a wait ages, and everybody is woken."""

from __future__ import annotations

import asyncio
import threading
import time

from producers.api import watcher as watcher_module
from producers.api.lanes import Lane
from producers.api.watch import ALONE, HEARING, Pace
from producers.api.watcher import GATHERED_SHARE, Watcher
from storage.records.errors import DatabaseUnavailable, Overloaded

HOUR_S = 3600.0  # what is due then does not happen here


class World:
    """What a look finds; looks are counted and may fail."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, bool]] = {}
        self.looks: list[list[str]] = []
        self.trouble: Exception | None = None

    def look(self, ids):
        self.looks.append(sorted(ids))
        if self.trouble:
            raise self.trouble
        return {id_: self.seen[id_] for id_ in ids if id_ in self.seen}


def with_watcher(test, **more):
    world, lane = World(), Lane("watch", 1)
    looks = {"job": world.look, "group": world.look}
    watcher = Watcher(looks, lane, max_waits=more.get("max_waits", 100))

    async def main():
        async with asyncio.timeout(20):
            try:
                await test(world, watcher)
            finally:
                watcher.close()

    asyncio.run(main())
    lane.close()


def over(seen):
    return seen is None or seen[1]


def test_all_waits_share_one_look():
    async def test(world, watcher):
        ids = [f"j{n}" for n in range(50)]
        world.seen = dict.fromkeys(ids, (1, False))
        waits = [asyncio.create_task(watcher.until("job", i, over, 15)) for i in ids]
        while not any(len(look) == 50 for look in world.looks):
            await asyncio.sleep(0.005)
        world.seen = dict.fromkeys(ids, (2, True))
        assert await asyncio.gather(*waits) == [True] * 50
        assert watcher.watching == 0

    with_watcher(test)


def test_a_look_takes_along_who_is_due_soon(monkeypatch):
    """Two waits on either side of the grid would else be looked at in turns for good."""
    monkeypatch.setattr(watcher_module, "ALONE", Pace(0.4, 0.1))

    async def test(world, watcher):
        world.seen = {"a": (1, False), "b": (1, False)}
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.3 - loop.time() % 0.4 + 0.4)  # a quarter of the grid before its line
        first = asyncio.create_task(watcher.until("job", "a", over, 15))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(watcher.until("job", "b", over, 15))
        while not world.looks:
            await asyncio.sleep(0.005)
        assert world.looks == [["a", "b"]]
        world.seen = {"a": (2, True), "b": (2, True)}
        assert await first and await second

    with_watcher(test)


def test_a_wait_ends_after_its_time():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        assert await watcher.until("job", "j", over, 0.05)
        assert watcher.watching == 0

    with_watcher(test)


def test_a_cancelled_wait_leaves_nothing_behind():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        wait = asyncio.create_task(watcher.until("job", "j", over, 15))
        while not world.looks:
            await asyncio.sleep(0.005)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        assert watcher.watching == 0
        count = len(world.looks)
        await asyncio.sleep(0.1)
        assert len(world.looks) <= count + 1

    with_watcher(test)


def test_trouble_passes_and_the_wait_goes_on():
    async def test(world, watcher):
        world.seen, world.trouble = {"j": (1, True)}, DatabaseUnavailable("gone")
        wait = asyncio.create_task(watcher.until("job", "j", over, 15))
        while not world.looks:
            await asyncio.sleep(0.005)
        world.trouble = RuntimeError("unforeseen")
        while len(world.looks) < 2:
            await asyncio.sleep(0.005)
        world.trouble = None
        assert await wait

    with_watcher(test)


def test_closing_wakes_everybody_and_later_waits_return_at_once():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        waits = [asyncio.create_task(watcher.until("job", "j", over, 15)) for _ in range(5)]
        while not world.looks:
            await asyncio.sleep(0.005)
        watcher.close()
        await asyncio.gather(*waits)
        assert await watcher.until("job", "j", over, 15)

    with_watcher(test)


def test_more_than_the_limit_are_refused():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        first = asyncio.create_task(watcher.until("job", "j", over, 0.2))
        await asyncio.sleep(0)
        assert await watcher.until("job", "j", over, 15) is False
        assert await first

    with_watcher(test, max_waits=1)


def test_news_wake_exactly_those_who_wait_for_them(monkeypatch):
    """Without a look: nothing is due for an hour."""
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))

    async def test(world, watcher):
        waits = {i: asyncio.create_task(watcher.until("job", i, over, HOUR_S)) for i in "abc"}
        await asyncio.sleep(0)
        await asyncio.to_thread(watcher.tell, ["b", "nobody", "c"])
        await asyncio.wait({waits["b"], waits["c"]})
        assert not waits["a"].done() and world.looks == []
        watcher.tell(["a"])
        await waits["a"]

    with_watcher(test)


def test_what_happens_while_the_caller_looks_is_not_missed(monkeypatch):
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))

    async def test(world, watcher):
        with watcher.watch("job", "j") as watch:
            watcher.tell(["j"])
            await asyncio.sleep(0)
            assert await watch.change(over, HOUR_S)  # told before it waited
            waiting = asyncio.create_task(watch.change(over, HOUR_S))
            await asyncio.sleep(0)
            assert not waiting.done()  # and told once only
            watcher.tell(["j"])
            assert await waiting

    with_watcher(test)


def test_lost_news_only_cost_time():
    async def test(world, watcher):
        watcher.hears(True)
        world.seen = {"j": (1, False)}
        wait = asyncio.create_task(watcher.until("job", "j", over, HOUR_S))
        while len(world.looks) < 2:
            await asyncio.sleep(0.005)
        world.seen = {"j": (2, True)}  # and nobody tells
        assert await wait

    with_watcher(test)


def test_a_new_connection_is_a_reason_to_look(monkeypatch):
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))
    monkeypatch.setattr(watcher_module, "HEARING", Pace(HOUR_S, 0.1))

    async def test(world, watcher):
        wait = asyncio.create_task(watcher.until("job", "j", over, HOUR_S))
        await asyncio.sleep(0)
        world.seen = {"j": (2, True)}
        await asyncio.to_thread(watcher.hears, True)
        assert await wait and world.looks == [["j"]]

    with_watcher(test)


def test_a_group_is_looked_at_when_it_may_be_over(monkeypatch):
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))

    async def test(world, watcher):
        world.seen = {"g": (40, False)}
        wait = asyncio.create_task(watcher.until("group", "g", over, HOUR_S))
        await asyncio.sleep(0)
        watcher.tell(["x"])  # how many are missing is not known yet: this is worth a look
        while not world.looks:
            await asyncio.sleep(0.001)
        for start in (0, 20):
            assert world.looks == [["g"]]
            if start:
                world.seen = {"g": (0, True)}
            watcher.tell([f"m{start + n}" for n in range(20)])
            await asyncio.sleep(0.02)  # fewer than are missing cannot have ended it
        assert await wait and world.looks == [["g"], ["g"]]

    with_watcher(test)


def test_news_that_come_while_a_group_is_looked_at_count(monkeypatch):
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))
    inside, gate = threading.Event(), threading.Event()

    async def test(world, watcher):
        world.seen = {"g": (2, False)}
        usual = world.look

        def slow(ids):
            found = usual(ids)  # what it sees, it sees before the gate
            inside.set()
            assert gate.wait(10)
            return found

        watcher._looks["group"] = slow
        wait = asyncio.create_task(watcher.until("group", "g", over, HOUR_S))
        await asyncio.sleep(0)
        watcher.tell(["x"])
        await asyncio.to_thread(inside.wait)
        world.seen = {"g": (0, True)}
        watcher.tell(["a", "b"])
        await asyncio.sleep(0)
        gate.set()
        assert await wait

    with_watcher(test)


def test_a_flood_of_news_is_not_a_flood_of_looks(monkeypatch):
    """Looks for the news' sake take a share of the time, however many other jobs are told."""
    look_s = 0.02
    monkeypatch.setattr(watcher_module, "ALONE", Pace(HOUR_S, 0.1))

    async def test(world, watcher):
        world.seen = {"g": (1, False)}
        usual = world.look

        def slow(ids):
            time.sleep(look_s)
            return usual(ids)

        watcher._looks["group"] = slow
        wait = asyncio.create_task(watcher.until("group", "g", over, HOUR_S))
        began = time.monotonic()
        for _ in range(200):
            watcher.tell(["somebody else's"])
            await asyncio.sleep(0.001)
        took_s = time.monotonic() - began
        assert 1 <= len(world.looks) <= 1 + took_s * GATHERED_SHARE / look_s
        world.seen = {"g": (0, True)}
        watcher.tell(["m"])
        assert await wait

    with_watcher(test)


def test_news_after_the_end_harm_nobody():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        wait = asyncio.create_task(watcher.until("job", "j", over, HOUR_S))
        await asyncio.sleep(0)
        kept.append(watcher)
        watcher.close()
        await wait

    kept: list[Watcher] = []
    with_watcher(test)
    kept[0].tell(["j"])
    kept[0].hears(False)


def test_old_waits_are_looked_at_rarely_and_together():
    for pace in (ALONE, HEARING):
        fresh = pace.after(100.0, 0.0) - 100.0
        assert 0.99 * pace.least_s <= fresh <= 2.01 * pace.least_s
        old = {pace.after(100.0 + n / 1000, 60.0) for n in range(500)}
        assert all(due - 100.0 >= 0.99 * pace.most_s for due in old)
        assert len(old) <= 10  # five hundred waits, a few looks
        middle = pace.after(100.0, 1.0) - 100.0
        assert min(pace.share, pace.most_s) <= middle <= 1.5 * min(pace.share, pace.most_s)


def test_a_lane_refuses_what_it_cannot_hold():
    gate = threading.Event()
    lane = Lane("small", 1, max_waiting=1)

    async def main():
        held = [asyncio.create_task(lane.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        try:
            await lane.run(lambda: None)
        except Overloaded as error:
            assert error.http_status == 429 and error.retry_after_s
        else:
            raise AssertionError("it took a third")
        gate.set()
        await asyncio.gather(*held)
        assert await lane.run(lambda: 7) == 7

    asyncio.run(main())
    lane.close()
