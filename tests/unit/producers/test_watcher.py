"""The watcher: one bulk look for all, ever rarer as a wait ages, and everybody is woken."""

from __future__ import annotations

import asyncio
import threading

from producers.api.lanes import Lane
from producers.api.watcher import ALONE, HEARING, Watcher
from storage.records.errors import DatabaseUnavailable, Overloaded


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
    watcher = Watcher({"job": world.look}, lane, max_waits=more.get("max_waits", 100))

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
        assert watcher.waiting == 0

    with_watcher(test)


def test_a_wait_ends_after_its_time():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        assert await watcher.until("job", "j", over, 0.05)
        assert watcher.waiting == 0

    with_watcher(test)


def test_a_cancelled_wait_leaves_nothing_behind():
    async def test(world, watcher):
        world.seen = {"j": (1, False)}
        wait = asyncio.create_task(watcher.until("job", "j", over, 15))
        while not world.looks:
            await asyncio.sleep(0.005)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        assert watcher.waiting == 0
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
