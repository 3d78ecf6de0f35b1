"""Express entry: granted only into free places of a fresh look, and never twice."""

from __future__ import annotations

import threading

import pytest

from producers.window.fairness import RESERVE_JOBS
from producers.window.places import FORGOTTEN_S, FRESH_S, Entry, Places
from storage.queue.lanes import Lane
from tests.support.database import ManualClock

ROOM = 10


class Hall:
    def __init__(self) -> None:
        self.clock = ManualClock(1_000_000)
        self.places = Places(self.clock)
        assert not self.book()  # nobody has looked yet
        self.look()

    def look(self, online_room: int = ROOM, bulk_room: int = 6, **more) -> None:
        self.places.look_begins("p")
        began_s = self.clock.monotonic_s()
        self.places.looked("p", began_s, online_room=online_room, bulk_room=bulk_room, **more)

    def book(self, jobs: int = 1, *, bulk: bool = False, pool: str = "p") -> bool:
        return self.lane(jobs, bulk=bulk, pool=pool) is not None

    def lane(self, jobs: int = 1, *, tenant: str = "t", bulk: bool = False, pool: str = "p"):
        return self.places.reserve(pool, tenant, jobs, Lane.BULK if bulk else Lane.NORMAL)

    def send(self, jobs: int) -> None:
        self.places.send([Entry("p", "t", "v", str(n), Lane.NORMAL) for n in range(jobs)])

    def free(self) -> int:
        """How many places could be booked one by one; they are given back."""
        booked = 0
        while self.book():
            booked += 1
        self.places.release("p", booked)
        return booked


@pytest.fixture
def hall() -> Hall:
    return Hall()


def test_a_booking_is_of_all_places_or_none(hall):
    assert not hall.book(ROOM + 1)
    assert hall.book(ROOM)
    assert not hall.book()


def test_what_is_given_back_is_free_again(hall):
    assert hall.book(ROOM)
    hall.places.release("p", 4)
    assert hall.free() == 4


def test_bulk_has_less_room_and_takes_it_from_the_others(hall):
    assert not hall.book(7, bulk=True)
    assert hall.book(6, bulk=True)
    assert hall.free() == ROOM - 6


def test_a_tenant_that_no_look_saw_passes_a_crowd_with_few_jobs(hall):
    hall.look(online_room=0, bulk_room=0, crowd={"loud"}, light_room=2 * RESERVE_JOBS)
    assert hall.lane(tenant="loud") is None
    assert hall.lane(RESERVE_JOBS + 1, tenant="calm") is None
    assert hall.lane(1, tenant="calm", bulk=True) is None
    assert hall.lane(RESERVE_JOBS, tenant="calm") is Lane.HIGH
    assert hall.lane(tenant="calm") is None  # until a look has seen these
    assert hall.lane(RESERVE_JOBS - 1, tenant="other") is Lane.HIGH
    assert hall.lane(2, tenant="third") is None  # all of them together have no more
    hall.look(online_room=0, bulk_room=0, crowd={"loud", "calm"}, light_room=2 * RESERVE_JOBS)
    assert hall.lane(tenant="calm") is None
    assert hall.lane(tenant="third") is Lane.HIGH
    hall.clock.pass_ms(int(FRESH_S * 1000) + 1)
    assert hall.lane(tenant="third") is None


def test_with_room_everybody_travels_in_the_lane_of_his_own(hall):
    assert hall.lane(tenant="calm") is Lane.NORMAL
    assert hall.lane(tenant="calm", bulk=True) is Lane.BULK
    assert hall.places.reserve("p", "calm", 1, Lane.HIGH) is Lane.HIGH


def test_an_old_look_grants_nothing(hall):
    hall.clock.pass_ms(int(FRESH_S * 1000))
    assert hall.free() == ROOM
    hall.clock.pass_ms(1)
    assert hall.free() == 0
    hall.look()
    assert hall.free() == ROOM


def test_a_look_that_saw_a_backlog_grants_nothing(hall):
    hall.look(online_room=0, bulk_room=0)
    assert hall.free() == 0


def test_a_pool_is_looked_at_once_somebody_asked(hall):
    assert hall.places.pools() == {"p"}
    assert not hall.book(pool="q")
    assert hall.places.pools() == {"p", "q"}


def test_a_look_does_not_free_what_is_booked_and_not_yet_sent(hall):
    assert hall.book(4)
    hall.look()
    assert hall.free() == ROOM - 4
    hall.send(4)
    assert hall.free() == ROOM - 4  # the look may have missed them
    hall.look(online_room=ROOM - 4)
    assert hall.free() == ROOM - 4  # now it counted them


def test_what_is_sent_while_a_look_counts_is_subtracted_from_both(hall):
    assert hall.book(3)
    hall.places.look_begins("p")
    hall.send(3)
    assert hall.free() == ROOM - 3
    hall.places.looked("p", hall.clock.monotonic_s(), online_room=ROOM, bulk_room=0)
    assert hall.free() == ROOM - 3


def test_a_booking_that_was_forgotten_is_free_after_a_while(hall):
    assert hall.book(ROOM)
    hall.clock.pass_ms(int(FORGOTTEN_S * 1000) + 1)
    hall.look()
    assert hall.free() == ROOM


def test_after_trouble_nothing_is_granted_before_the_next_look(hall):
    hall.places.shut()
    assert hall.free() == 0
    hall.look()
    assert hall.free() == ROOM


def test_what_was_sent_is_taken_once_and_in_order(hall):
    hall.send(2)
    assert [entry.job_id for entry in hall.places.take()] == ["0", "1"]
    assert hall.places.take() == []


def test_many_threads_never_book_more_than_there_is():
    hall = Hall()
    hall.look(online_room=1000)
    granted: list[int] = []

    def ask() -> None:
        granted.append(sum(hall.book() for _ in range(400)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(granted) == 1000
