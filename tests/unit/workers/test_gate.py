"""While storage does not answer nothing is claimed; when it does, claiming goes on by itself."""

from __future__ import annotations

import threading

from storage.clock import SystemClock
from storage.records.errors import ObjectsUnavailable
from tests.support.waiting import wait_until
from workers.inference.gate import Gate


def test_it_opens_again_by_itself_once_every_probe_answers() -> None:
    down, probes = threading.Event(), []
    down.set()

    def probe() -> None:
        probes.append(1)
        if down.is_set():
            raise ObjectsUnavailable("away")

    gate, stop = Gate((probe,), SystemClock()), threading.Event()
    thread = threading.Thread(target=gate.run, args=(stop,), daemon=True)
    thread.start()
    try:
        assert gate.is_open
        gate.trip(ObjectsUnavailable("away"))
        assert not gate.wait_open(0)
        wait_until(lambda: len(probes) >= 2, what="a second question")
        assert not gate.is_open
        down.clear()
        assert gate.wait_open(10)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


class HandClock(SystemClock):
    """Moved by hand."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_it_tells_how_long_storage_has_not_answered() -> None:
    clock = HandClock()
    gate = Gate((), clock)
    assert gate.closed_for_s == 0
    gate.trip(ObjectsUnavailable("away"))
    clock.now_s += 3
    gate.trip(ObjectsUnavailable("still away"))
    assert gate.closed_for_s == 3
