"""How often the relay looks: at once when idle, at most a third of the time in a flood."""

from __future__ import annotations

from producers.window.pace import BUSY_TICK_S, FULL_REST_S, Look, rest_s


def test_an_idle_relay_does_not_rest():
    assert rest_s(Look(), 0.004) == 0.0


def test_a_flood_of_pokes_is_answered_a_third_of_the_time():
    assert rest_s(Look(marked=5), 0.004) == 0.008
    assert rest_s(Look(marked=5), 10.0) == BUSY_TICK_S


def test_a_full_window_is_looked_into_seldom():
    assert rest_s(Look(waiting=True), 0.0001) == FULL_REST_S
