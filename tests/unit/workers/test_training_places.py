"""Who gets a place for a training, and who is let go."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from storage.clock import SystemClock
from workers.training.places import Places


class Clock(SystemClock):
    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_a_place_goes_to_who_has_waited_longest() -> None:
    places = Places(2, Clock())
    places.offer(["a", "b"])
    places.offer(["a", "c"])
    assert [places.admit(0), places.admit(0), places.admit(0)] == ["a", "b", None]
    places.leave()
    assert (places.admit(0), places.free) == ("c", 0)


def test_who_waits_is_woken_by_an_offer_and_by_a_free_place() -> None:
    places = Places(1, Clock())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(places.admit, 20)
        places.offer(["a", "b"])
        assert first.result(10) == "a"
        second = pool.submit(places.admit, 20)
        places.leave()
        assert second.result(10) == "b"


def test_only_who_has_waited_too_long_is_let_go() -> None:
    clock = Clock()
    places = Places(0, clock)
    places.offer(["a"])
    clock.now_s += 2
    places.offer(["a", "b"])  # "a" has waited since it first came
    clock.now_s += 1.5
    assert places.pop_older(3) == ["a"]
    assert places.pop_older(3) == []
    assert places.pop_older(0) == ["b"]
