"""Ids in memory: nothing is run twice, and a message is settled when all it brought is."""

from __future__ import annotations

import threading

from storage.queue.lanes import DEVICE_LANES, Lane
from workers.inference.intake import Intake, Room
from workers.inference.waiting import Line


class Message:
    def __init__(self) -> None:
        self.times_settled = 0
        self.times_returned = 0

    def settled(self) -> None:
        self.times_settled += 1

    def returned(self) -> None:
        self.times_returned += 1


class Clock:
    """Moved by hand."""

    now_s = 100.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


def plenty(_: Line) -> int:
    return 1000


def only(*versions: str) -> Room:
    return lambda line: 1000 if line.version_id in versions else 0


def test_a_message_is_settled_once_and_only_when_all_its_ids_are() -> None:
    intake, message = Intake(Clock()), Message()
    intake.offer(message, "v", ["a", "b", "c"])
    taken = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert taken is not None and taken.ids == ["a", "b", "c"]
    intake.settle(["a", "b"])
    assert message.times_settled == 0
    intake.settle(["c"])
    intake.settle(["a", "b", "c"])
    assert message.times_settled == 1
    assert intake.held() == 0


def test_what_waits_is_given_back_and_what_runs_stays() -> None:
    intake, waits, both = Intake(Clock()), Message(), Message()
    intake.offer(both, "v", ["a", "b"])
    taken = intake.take(Lane.NORMAL, 1, plenty, 0)
    assert taken is not None and taken.ids == ["a"]
    intake.offer(waits, "v", ["c"])
    assert intake.give_back() == 2
    assert (waits.times_settled, waits.times_returned) == (0, 1)
    assert (both.times_settled, both.times_returned) == (0, 0)
    assert intake.take(Lane.NORMAL, 8, plenty, 0) is None
    intake.settle(["a"])
    assert (both.times_settled, both.times_returned) == (0, 1)
    assert intake.held() == 0


def test_an_id_held_already_is_attached_to_and_not_taken_twice() -> None:
    intake, first, second = Intake(Clock()), Message(), Message()
    intake.offer(first, "v", ["a"])
    assert intake.take(Lane.NORMAL, 8, plenty, 0) is not None
    intake.offer(second, "v", ["a", "a", "b"])
    taken = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert taken is not None and taken.ids == ["b"]
    intake.settle(["b"])
    assert (first.times_settled, second.times_settled) == (0, 0)
    intake.settle(["a"])
    assert (first.times_settled, second.times_settled) == (1, 1)


def test_what_arrives_while_an_id_leaves_waits_for_a_claim_of_its_own() -> None:
    intake, first, second = Intake(Clock()), Message(), Message()
    intake.offer(first, "v", ["a"])
    intake.take(Lane.NORMAL, 8, plenty, 0)
    closing = intake.detach(["a"])
    intake.offer(second, "v", ["a"])  # a release brought it back faster than the settle
    closing.settle()
    assert (first.times_settled, second.times_settled) == (1, 0)
    taken = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert taken is not None and taken.ids == ["a"]


def test_a_claim_may_bring_several_versions_but_only_those_with_room() -> None:
    intake = Intake(Clock())
    intake.offer(Message(), "cold", ["c1"])
    intake.offer(Message(), "warm", ["w1"])
    intake.offer(Message(), "late", ["l1"])
    intake.offer(Message(), "warm", ["w2"])
    taken = intake.take(Lane.NORMAL, 8, only("warm", "late"), 0)
    assert taken is not None
    assert taken.parts == (
        (Line("warm", Lane.NORMAL), ("w1", "w2")),
        (Line("late", Lane.NORMAL), ("l1",)),
    )
    assert intake.waiting_versions() == {"cold"}


def test_each_line_gives_no_more_than_it_has_room_for() -> None:
    intake = Intake(Clock())
    intake.offer(Message(), "a", ["a1", "a2", "a3"])
    intake.offer(Message(), "b", ["b1", "b2", "b3"])
    taken = intake.take(Lane.NORMAL, 8, lambda line: 2 if line.version_id == "a" else 1, 0)
    assert taken is not None and taken.ids == ["a1", "a2", "b1"]


def test_each_lane_is_claimed_apart() -> None:
    intake = Intake(Clock())
    intake.offer(Message(), "v", ["b1", "b2"], lane=Lane.BULK)
    intake.offer(Message(), "v", ["n1"])
    intake.offer(Message(), "v", ["h1"], lane=Lane.HIGH)
    taken = {lane: intake.take(lane, 8, plenty, 0) for lane in DEVICE_LANES}
    assert {lane: one and one.ids for lane, one in taken.items()} == {
        Lane.HIGH: ["h1"],
        Lane.NORMAL: ["n1"],
        Lane.BULK: ["b1", "b2"],
    }
    assert not any(intake.take(lane, 8, plenty, 0) for lane in DEVICE_LANES)


def test_each_taker_is_woken_by_its_own_lane() -> None:
    intake = Intake(Clock())
    got: dict[Lane, object] = {}

    def take(lane: Lane) -> None:
        taken = intake.take(lane, 8, plenty, 20)
        got[lane] = taken and taken.ids

    takers = {lane: threading.Thread(target=take, args=(lane,)) for lane in DEVICE_LANES}
    for taker in takers.values():
        taker.start()
    for count, lane in enumerate((Lane.BULK, Lane.HIGH, Lane.NORMAL), start=1):
        intake.offer(Message(), "v", [str(lane)], lane=lane)
        takers[lane].join(10)
        assert len(got) == count and got[lane] == [str(lane)]


def test_what_is_put_back_comes_first_next_time() -> None:
    intake = Intake(Clock())
    intake.offer(Message(), "v", ["a", "b", "c"])
    taken = intake.take(Lane.NORMAL, 2, plenty, 0)
    assert taken is not None
    intake.put_back(taken)
    again = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert again is not None and again.ids == ["a", "b", "c"]


def test_a_lost_connection_voids_messages_but_not_the_work() -> None:
    intake, before, after = Intake(Clock()), Message(), Message()
    intake.offer(before, "v", ["running", "waiting"])
    intake.take(Lane.NORMAL, 1, plenty, 0)
    intake.flush(connection_lost=True)
    intake.offer(after, "v", ["running", "waiting"])  # the broker delivers it again
    taken = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert taken is not None and taken.ids == ["waiting"]
    intake.settle(["running", "waiting"])
    assert (before.times_settled, after.times_settled) == (0, 1)


def test_a_shutdown_drops_what_waits_and_still_settles_what_runs() -> None:
    intake, whole, partly = Intake(Clock()), Message(), Message()
    intake.offer(whole, "v", ["a"])
    intake.offer(partly, "v", ["b", "c"])
    taken = intake.take(Lane.NORMAL, 2, plenty, 0)
    assert taken is not None and taken.ids == ["a", "b"]
    intake.flush(connection_lost=False)
    intake.close()
    intake.settle(["a", "b"])
    assert (whole.times_settled, partly.times_settled) == (1, 0)
    assert intake.take(Lane.NORMAL, 8, plenty, 0) is None


def test_ids_of_a_version_that_cannot_be_served_are_let_go() -> None:
    intake, message = Intake(Clock()), Message()
    intake.offer(message, "broken", ["a", "b"], lane=Lane.HIGH)
    assert intake.let_go("broken") == 2
    assert message.times_settled == 1
    assert intake.held() == 0


def test_a_message_without_ids_is_settled_at_once() -> None:
    intake, message = Intake(Clock()), Message()
    intake.offer(message, "v", [])
    assert message.times_settled == 1


def test_a_taker_is_woken_by_an_arrival() -> None:
    intake = Intake(Clock())
    got: list[object] = []
    taker = threading.Thread(target=lambda: got.append(intake.take(Lane.NORMAL, 8, plenty, 20)))
    taker.start()
    intake.offer(Message(), "v", ["a"])
    taker.join(10)
    assert not taker.is_alive()
    assert got and got[0] is not None


def test_what_waits_too_long_is_let_go_and_what_runs_is_not() -> None:
    clock = Clock()
    intake = Intake(clock)
    running, old, young = Message(), Message(), Message()
    intake.offer(running, "v", ["r"])
    assert intake.take(Lane.NORMAL, 1, plenty, 0)
    intake.offer(old, "v", ["o1", "o2"])
    clock.now_s += 20
    intake.offer(young, "v", ["y"])
    clock.now_s += 11
    assert intake.let_go_older_than(30) == 2
    assert [one.times_settled for one in (running, old, young)] == [0, 1, 0]
    taken = intake.take(Lane.NORMAL, 8, plenty, 0)
    assert taken is not None and taken.ids == ["y"]
