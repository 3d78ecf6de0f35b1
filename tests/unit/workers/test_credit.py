"""How much may be claimed: nobody hoards, and no class keeps another from being claimed."""

from __future__ import annotations

from storage.queue.lanes import Lane
from workers.inference.credit import TOTAL_BATCHES, Credit
from workers.inference.waiting import Line

NORMAL, HIGH, BULK = (Line("v", lane) for lane in (Lane.NORMAL, Lane.HIGH, Lane.BULK))


def test_room_shrinks_with_what_waits_and_grows_with_what_leaves() -> None:
    credit = Credit(8)
    assert credit.room(NORMAL, 8) == 8
    credit.spend(NORMAL, 3)
    assert credit.room(NORMAL, 8) == 5
    credit.spend(NORMAL, 20)  # a list turned out to have many rows
    assert credit.room(NORMAL, 8) == 0
    credit.spend(NORMAL, -23)
    assert credit.room(NORMAL, 8) == 8
    assert credit.held() == 0


def test_a_window_full_of_bulk_leaves_online_work_its_room() -> None:
    credit = Credit(8)
    for number in range(2 * TOTAL_BATCHES):
        credit.spend(Line(f"v{number}", Lane.BULK), 8)
    assert credit.room(BULK, 8) == 0
    assert (credit.room(NORMAL, 8), credit.room(HIGH, 8)) == (8, 8)


def test_a_full_ordinary_lane_leaves_the_high_one_its_room() -> None:
    credit = Credit(8)
    credit.spend(NORMAL, 8)
    assert (credit.room(NORMAL, 8), credit.room(HIGH, 8)) == (0, 8)


def test_many_versions_together_cannot_fill_the_memory() -> None:
    credit = Credit(8)
    for number in range(TOTAL_BATCHES):
        credit.spend(Line(f"v{number}", Lane.NORMAL), 8)
    assert credit.room(Line("one more", Lane.NORMAL), 8) == 0
