"""Express entry: places are booked, then sent after the commit or given back, never both."""

from __future__ import annotations

import pytest

from producers.express import booking
from producers.window.places import Entry
from storage.queue.lanes import Lane
from storage.records.jobs import JobKind, NewJob


class Window:
    """A relay with ``room``, that counts."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[tuple[str, str, int, Lane]] = []
        self.sent: list[Entry] = []

    def reserve(self, pool: str, tenant: str, jobs: int, lane: Lane) -> Lane | None:
        self.asked.append((pool, tenant, jobs, lane))
        if jobs > self.room:
            return None
        self.room -= jobs
        return Lane.HIGH if tenant == "light" else lane

    def release(self, pool: str, jobs: int) -> None:
        self.room += jobs

    def send(self, entries) -> None:
        self.sent += entries


def job(
    name: str, priority: int = 5, pool: str = "default", tenant: str = "t"
) -> tuple[str, NewJob]:
    return tenant, NewJob(name, JobKind.INFERENCE, "m", "v1", 1, pool, b"{}", priority=priority)


def test_a_commit_sends_what_was_booked():
    window = Window(10)
    with booking(window) as booked:
        booked.take([job("a"), job("b", 9)])
        assert booked.ids == {"a", "b"}
        assert window.sent == []  # before the commit nobody may hear of them
    assert sorted(window.sent, key=lambda entry: entry.job_id) == [
        Entry("default", "t", "v1", "a", Lane.NORMAL),
        Entry("default", "t", "v1", "b", Lane.HIGH),
    ]
    assert window.room == 8


def test_a_rollback_gives_the_places_back():
    window = Window(10)
    with pytest.raises(RuntimeError), booking(window) as booked:
        booked.take([job("a"), job("b", 9), job("c", pool="gpu")])
        assert window.room == 7
        raise RuntimeError("rolled back")
    assert (window.room, window.sent) == (10, [])


def test_it_is_sent_in_the_lane_that_was_granted():
    window = Window(10)
    with booking(window) as booked:
        booked.take([job("a", tenant="light"), job("b"), job("c", 0)])
    assert {entry.job_id: (entry.lane, entry.is_bulk) for entry in window.sent} == {
        "a": (Lane.HIGH, False),
        "b": (Lane.NORMAL, False),
        "c": (Lane.BULK, True),
    }


def test_tenants_and_classes_are_booked_apart():
    window = Window(1)
    with booking(window) as booked:
        booked.take([job("a"), job("b"), job("hi", 8), job("bulk", 2), job("c", tenant="u")])
        assert booked.ids == {"hi"}  # two did not fit, one did, and then there was no room
    assert window.asked == [
        ("default", "t", 2, Lane.NORMAL),
        ("default", "t", 1, Lane.HIGH),
        ("default", "t", 1, Lane.BULK),
        ("default", "u", 1, Lane.NORMAL),
    ]


def test_all_or_none_for_those_who_want_that():
    window = Window(1)
    with booking(window) as booked:
        booked.take_all("t", [job("a")[1], job("hi", 8)[1]])
        assert booked.ids == frozenset()
    assert (window.room, window.sent) == (1, [])


def test_without_a_relay_nothing_is_booked():
    with booking(None) as booked:
        booked.take([job("a")])
        assert booked.ids == frozenset()


def test_a_relay_that_fails_does_not_unsay_a_commit(caplog):
    window = Window(10)

    def broken(_):
        raise RuntimeError("no")

    window.send = broken
    with booking(window) as booked:
        booked.take([job("a")])
    assert "1 committed jobs" in caplog.text
