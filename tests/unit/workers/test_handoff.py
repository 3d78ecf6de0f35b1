"""The hand-over between two stages: bounded before a thing is made, and nothing is lost."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from workers.inference.handoff import OVERTAKEN_AT_MOST, Handoff


@dataclass(frozen=True)
class Thing:
    number: int
    bulk: bool = False


def things(*numbers: int) -> list[Thing]:
    return [Thing(number) for number in numbers]


def test_a_giver_sees_room_before_it_makes_anything() -> None:
    handoff: Handoff[Thing] = Handoff(1)
    assert handoff.wait_for_room(0)
    handoff.put(Thing(1))
    assert not handoff.wait_for_room(0)
    assert handoff.get(0) == Thing(1)
    assert handoff.wait_for_room(0)


def test_what_was_put_before_the_end_is_still_got() -> None:
    handoff: Handoff[Thing] = Handoff(2)
    handoff.put(Thing(1))
    handoff.put(Thing(2))
    handoff.close()
    assert not handoff.finished()
    assert (handoff.get(0), handoff.get(0), handoff.get(0)) == (*things(1, 2), None)
    assert handoff.finished()


def test_a_waiting_taker_is_woken_by_the_end() -> None:
    handoff: Handoff[Thing] = Handoff(1)
    got: list[Thing | None] = []
    taker = threading.Thread(target=lambda: got.append(handoff.get(20)))
    taker.start()
    handoff.close()
    taker.join(10)
    assert got == [None]


def test_everything_can_be_taken_back() -> None:
    handoff: Handoff[Thing] = Handoff(2)
    handoff.put(Thing(1))
    handoff.put(Thing(2))
    assert handoff.drain() == things(1, 2)
    assert handoff.wait_for_room(0)


def test_bulk_lets_the_others_pass_but_not_for_ever() -> None:
    handoff: Handoff[Thing] = Handoff(9)
    handoff.put(Thing(0, bulk=True))
    for number in range(1, OVERTAKEN_AT_MOST + 3):
        handoff.put(Thing(number))
    order = [one.number for one in iter(lambda: handoff.get(0), None)]
    assert order[:2] == [1, 2]
    assert order.index(0) == OVERTAKEN_AT_MOST
