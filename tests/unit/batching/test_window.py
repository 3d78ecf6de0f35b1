"""What leaves the window, and what a pick may hold."""

from __future__ import annotations

from tests.unit.batching.candidates import always, candidate, window


def test_what_arrives_before_the_device_is_free_is_in_the_pass() -> None:
    ready = window()
    ready.add([candidate() for _ in range(3)], 0.0)
    ready.add([candidate()], 0.9)
    picked = ready.pick(1.0, always)
    assert picked is not None
    assert (picked.rows, picked.bucket, picked.fill) == (4, 4, 1.0)
    assert ready.pick(1.0, always) is None
    assert ready.jobs == 0


def test_a_version_that_is_not_free_is_left_waiting() -> None:
    ready = window()
    ready.add([candidate("busy"), candidate("idle")], 0.0)
    picked = ready.pick(0.0, lambda version_id: version_id == "idle")
    assert picked is not None
    assert picked.version_id == "idle"
    assert ready.waiting("busy", False) == (1, 1)
