"""The hand-over between two stages: bounded before a thing is made, and nothing is lost."""

from __future__ import annotations

import threading

from workers.inference.handoff import Handoff


def test_a_giver_sees_room_before_it_makes_anything() -> None:
    handoff: Handoff[int] = Handoff(1)
    assert handoff.wait_for_room(0)
    handoff.put(1)
    assert not handoff.wait_for_room(0)
    assert handoff.get(0) == 1
    assert handoff.wait_for_room(0)


def test_what_was_put_before_the_end_is_still_got() -> None:
    handoff: Handoff[int] = Handoff(2)
    handoff.put(1)
    handoff.put(2)
    handoff.close()
    assert not handoff.finished()
    assert (handoff.get(0), handoff.get(0), handoff.get(0)) == (1, 2, None)
    assert handoff.finished()


def test_a_waiting_taker_is_woken_by_the_end() -> None:
    handoff: Handoff[int] = Handoff(1)
    got: list[int | None] = []
    taker = threading.Thread(target=lambda: got.append(handoff.get(20)))
    taker.start()
    handoff.close()
    taker.join(10)
    assert got == [None]


def test_whoever_waits_elsewhere_for_room_is_told() -> None:
    told: list[bool] = []
    handoff: Handoff[int] = Handoff(1, lambda: told.append(handoff.has_room))
    handoff.put(1)
    assert not told
    handoff.get(0)
    assert told == [True]
