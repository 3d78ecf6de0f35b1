"""How often the relay looks: at once when idle, at most a third of the time in a flood."""

from __future__ import annotations

from producers.window.pace import (
    BUSY_TICK_S,
    DRAINED,
    FRESH_TICK_S,
    FULL_REST_S,
    IDLE_TICK_S,
    LEAST_AGAIN_S,
    LEAST_PAUSE_S,
    LONGEST_AGAIN_S,
    LONGEST_PAUSE_S,
    Look,
    Pace,
    next_again_s,
    rest_s,
)
from producers.window.places import FRESH_S


def test_an_idle_relay_does_not_rest():
    assert rest_s(Look(), 0.004) == 0.0


def test_a_flood_of_pokes_is_answered_a_third_of_the_time():
    assert rest_s(Look(marked=5), 0.004) == 0.008
    assert rest_s(Look(marked=5), 10.0) == BUSY_TICK_S


def test_a_full_window_is_looked_into_seldom():
    assert rest_s(Look(waiting=True), 0.0001) == FULL_REST_S


class Loop:
    """A relay's loop in numbers."""

    def __init__(self) -> None:
        self.pace, self.now_s = Pace(), 100.0

    def wait_s(self, poked: bool = False) -> float:
        return round(self.pace.wait_s(self.now_s, poked), 6)

    def looked(self, look: Look, took_s: float = 0.001, longest_s: float = IDLE_TICK_S) -> None:
        self.now_s += took_s
        self.pace.looked(look, self.now_s - took_s, self.now_s, longest_s)


def test_an_idle_relay_slows_down_and_a_poke_ends_the_wait():
    loop = Loop()
    assert loop.wait_s() == 0.0
    for _ in range(8):
        loop.looked(Look())
    assert loop.wait_s() == IDLE_TICK_S
    assert loop.wait_s(poked=True) == 0.0


def test_looks_stay_fresh_where_submits_enter_by_themselves():
    loop = Loop()
    for _ in range(8):
        loop.looked(Look(), longest_s=FRESH_TICK_S)
    assert loop.wait_s() == FRESH_TICK_S < FRESH_S


def test_a_full_window_is_looked_into_when_an_eighth_of_it_has_left():
    loop = Loop()
    loop.looked(Look(waiting=True, again_s=0.02))
    assert loop.wait_s() == 0.02
    assert next_again_s(0.04, DRAINED) == 0.04
    assert next_again_s(0.04, 2 * DRAINED) == 0.02  # it drained too far: sooner
    assert next_again_s(0.04, 0.0) == 0.08
    assert next_again_s(LEAST_AGAIN_S, 1.0) == LEAST_AGAIN_S
    assert next_again_s(LONGEST_AGAIN_S, 0.0) == LONGEST_AGAIN_S


def test_after_trouble_pokes_do_not_shorten_the_pause_which_grows_and_is_forgotten():
    loop = Loop()
    pauses = []
    for _ in range(8):
        loop.pace.failed(loop.now_s, 0.0)
        assert loop.wait_s(poked=True) == loop.wait_s()
        pauses.append(loop.wait_s())
        loop.now_s += loop.wait_s()
    assert pauses[0] == LEAST_PAUSE_S and pauses[-1] == LONGEST_PAUSE_S
    assert pauses == sorted(pauses)
    loop.looked(Look(marked=1))
    loop.pace.failed(loop.now_s, 1.5)
    assert loop.wait_s() == 1.5  # what the publisher asked for


def test_looks_add_up():
    total = Look(marked=2, returned=1) + Look(marked=3, waiting=True, again_s=0.5)
    assert total == Look(marked=5, returned=1, waiting=True, again_s=0.5)
    assert not total.failed
    assert (Look(marked=2, returned=2) + Look()).failed
