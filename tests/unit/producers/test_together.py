"""Questions that arrive together are answered together, and each by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from producers.api import together as module
from producers.api.lanes import Lane
from producers.api.together import Together
from storage.records.errors import Conflict, DatabaseUnavailable, Overloaded


class Oracle:
    """Answers are the questions in capitals; calls are recorded and may be held."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.trouble: Exception | None = None

    def answer(self, asked: Sequence[str]) -> list[str | Exception]:
        self.calls.append(list(asked))
        self.begun.release()
        assert self.gate.wait(10)
        if self.trouble is not None:
            raise self.trouble
        return [Conflict(one) if one.startswith("bad") else one.upper() for one in asked]

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.acquire)


Test = Callable[[Oracle, "Together[str, str]"], Awaitable[None]]


def run(test: Test, **more: int) -> None:
    oracle, lane = Oracle(), Lane("test", 4)

    async def main() -> None:
        async with asyncio.timeout(20):
            try:
                await test(oracle, Together(lane, oracle.answer, **more))
            finally:
                oracle.gate.set()

    asyncio.run(main())
    lane.close()


def asking(together: Together[str, str], *asked: str) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(together.ask(one)) for one in asked]


def test_one_that_comes_alone_is_not_kept_waiting(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1000)

    async def test(oracle, together):
        (alone,) = asking(together, "a")
        await oracle.has_begun()
        oracle.gate.set()
        assert await alone == "A" and oracle.calls == [["a"]]

    run(test)


def test_what_comes_meanwhile_shares_the_next_call(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1000)

    async def test(oracle, together):
        first = asking(together, "a")
        await oracle.has_begun()
        others = asking(together, *"bcdefg")
        await asyncio.sleep(0)
        oracle.gate.set()
        assert await asyncio.gather(*first, *others) == list("ABCDEFG")
        assert oracle.calls == [["a"], list("bcdefg")]

    run(test)


def test_a_call_has_its_size(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1000)

    async def test(oracle, together):
        oracle.gate.set()
        assert await asyncio.gather(*asking(together, *"abcdefg")) == list("ABCDEFG")
        assert [len(call) for call in oracle.calls] == [3, 3, 1]

    run(test, most=3)


def test_the_error_of_one_is_its_own():
    async def test(oracle, together):
        oracle.gate.set()
        good, bad, better = asking(together, "good", "bad", "better")
        assert (await good, await better) == ("GOOD", "BETTER")
        with pytest.raises(Conflict):
            await bad
        assert len(oracle.calls) == 1

    run(test)


def test_the_error_of_a_call_is_everybodys_and_the_next_is_tried():
    async def test(oracle, together):
        oracle.gate.set()
        oracle.trouble = DatabaseUnavailable("gone")
        for task in asking(together, "a", "b"):
            with pytest.raises(DatabaseUnavailable):
                await task
        oracle.trouble = None
        assert await together.ask("c") == "C"

    run(test)


def test_a_call_that_hangs_holds_up_only_its_own():
    async def test(oracle, together):
        (stuck,) = asking(together, "a")
        await oracle.has_begun()
        (free,) = asking(together, "b")
        await oracle.has_begun()  # although the first is not back
        assert oracle.calls == [["a"], ["b"]] and not stuck.done()
        oracle.gate.set()
        assert [await stuck, await free] == ["A", "B"]

    run(test)


def test_a_caller_who_leaves_harms_nobody(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1000)

    async def test(oracle, together):
        (first,) = asking(together, "a")
        await oracle.has_begun()
        leaving, staying = asking(together, "b", "c")
        await asyncio.sleep(0)
        leaving.cancel()
        first.cancel()
        oracle.gate.set()
        assert await staying == "C"
        assert oracle.calls == [["a"], ["b", "c"]]  # what was asked is done

    run(test)


def test_there_is_an_end_to_the_queue():
    async def test(oracle, together):
        waiting = asking(together, "a", "b")
        await asyncio.sleep(0)
        waiting += asking(together, "c", "d", "e")
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await together.ask("f")
        oracle.gate.set()
        assert await asyncio.gather(*waiting) == list("ABCDE")

    run(test, max_waiting=3)
