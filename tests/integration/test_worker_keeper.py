"""The keeper's duties on real rows: deadlines are kept, and nobody collects what is alive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from storage.database import Database
from storage.objects import open_objects
from storage.objects.packs import PackWriter, pack_key
from storage.records.errors import DatabaseUnavailable, NotFound
from storage.records.jobs import JobState
from storage.records.packs import NewPack, PackKind
from storage.records.sessions import NewSession
from tests.support.household import Household, new_id, now_ms, tensor
from tests.support.waiting import wait_until
from workers.inference.ledger import Ledger
from workers.keeper.duty import Moved
from workers.keeper.expiry import Expiry
from workers.keeper.loop import Keeper
from workers.keeper.pack_collection import PackCollection, PackCollectionConfig
from workers.keeper.reaper import Reaper
from workers.keeper.recovery import recover_alone
from workers.keeper.retention import Retention
from workers.keeper.sweep import Sweep
from workers.supervisor import LoadingDeaths, settle_death


class MovingClock:
    """The database's clock, moved by hand."""

    def __init__(self) -> None:
        self.ms = now_ms()

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def house(tmp_path: Path, clock: MovingClock) -> Household:
    database = Database.open(f"sqlite:///{tmp_path}/forebay.db", clock=clock)
    return Household(database, open_objects(f"file://{tmp_path}/objects"))


def claim(house: Household, ids: list[str], lease_ttl_ms: int = 15_000) -> str:
    session_id = new_id()
    with house.database.begin() as tx:
        tx.sessions.open(NewSession(session_id, "n", "h", "cpu", "default"), lease_ttl_ms)
        assert len(tx.jobs.claim(session_id, ids)) == len(ids)
    return session_id


def test_a_lost_message_is_published_again_but_not_too_soon(
    house: Household, clock: MovingClock
) -> None:
    ids = house.submit([tensor(1)])
    with house.database.begin() as tx:
        tx.backlog.mark_published(ids)
    clock.ms += 14_000
    assert Sweep().run_once(house.database, house.objects).rows == 0
    clock.ms += 2_000
    assert Sweep().run_once(house.database, house.objects).rows == 1
    assert house.job(ids[0]).published_at is None


def test_jobs_of_a_dead_session_come_back_and_those_of_a_living_one_do_not(
    house: Household, clock: MovingClock
) -> None:
    dead, alive = house.submit([tensor(1)]), house.submit([tensor(2)])
    claim(house, dead, 10_000)
    claim(house, alive, 60_000)
    clock.ms += 11_000
    assert Reaper().run_once(house.database, house.objects).rows == 1
    assert house.states([*dead, *alive]) == [JobState.QUEUED, JobState.RUNNING]
    assert (house.job(dead[0]).losses, house.job(dead[0]).attempts) == (1, 0)


def test_every_deadline_is_kept(house: Household, clock: MovingClock) -> None:
    late = house.submit([tensor(1)], expires_in_ms=5_000)
    stuck = house.submit([tensor(2)], run_timeout_ms=5_000, max_attempts=1)
    fine = house.submit([tensor(3)])
    claim(house, stuck, 60_000)
    clock.ms += 6_000
    counts = Expiry().run_once(house.database, house.objects)
    assert (counts.expired, counts.timed_out) == (1, 1)
    assert house.states([*late, *stuck, *fine]) == [
        JobState.EXPIRED,
        JobState.FAILED,
        JobState.QUEUED,
    ]


def test_only_a_pack_whose_writer_is_dead_is_collected(
    house: Household, clock: MovingClock
) -> None:
    def write(live: bool) -> tuple[str, str]:
        pack_id = new_id()
        key = pack_key(PackKind.INPUT, "default", "2099-01-01", pack_id)
        writer = PackWriter(pack_id)
        writer.add("one", b"data")
        data, summary = writer.finish()
        with house.database.begin() as tx:
            tx.packs.open(NewPack(pack_id, "default", PackKind.INPUT, key))
        house.objects.put(key, data)
        if live:
            with house.database.begin() as tx:
                assert tx.packs.publish(summary)
        return pack_id, key

    stale, live = write(False), write(True)
    clock.ms += 3_601_000
    fresh = write(False)
    counts = PackCollection().run_once(house.database, house.objects)
    assert (counts.doomed, counts.deleted) == (1, 1)
    with house.database.read() as tx:
        kept = [tx.packs.get(pack_id) is not None for pack_id, _ in (stale, live, fresh)]
    assert kept == [False, True, True]
    assert [house.objects.exists(key) for _, key in (stale, live, fresh)] == [False, True, True]
    with pytest.raises(NotFound):
        house.objects.get(stale[1])


def test_a_limit_that_was_reached_means_more_at_once(house: Household, clock: MovingClock) -> None:
    for _ in range(3):
        pack_id = new_id()
        key = pack_key(PackKind.INPUT, "default", "2099-01-01", pack_id)
        with house.database.begin() as tx:
            tx.packs.open(NewPack(pack_id, "default", PackKind.INPUT, key))
    clock.ms += 3_601_000
    duty = PackCollection(PackCollectionConfig(limit=2))
    assert [duty.run_once(house.database, house.objects).more for _ in range(2)] == [True, False]


def test_a_process_alone_in_its_home_waits_for_no_lease(house: Household) -> None:
    running, published, waiting = (house.submit([tensor(n)]) for n in range(3))
    claim(house, running)
    with house.database.begin() as tx:
        tx.backlog.mark_published(published)
    assert recover_alone(house.database) == 2
    for job in house.jobs([*running, *published, *waiting]):
        assert (job.state, job.published_at) == (JobState.QUEUED, None)


def test_a_death_blames_what_was_on_the_device_and_ends_the_session(
    house: Household, tmp_path: Path
) -> None:
    guilty, innocent = house.submit([tensor(1)]), house.submit([tensor(2)])
    session_id = claim(house, [*guilty, *innocent])
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.session(session_id)
    ledger.publish(0, session_id, guilty)
    assert settle_death(house.database, path, LoadingDeaths())
    assert not path.exists()
    Reaper().run_once(house.database, house.objects)
    jobs = house.jobs([*guilty, *innocent])
    assert [job.state for job in jobs] == [JobState.QUEUED, JobState.QUEUED]
    assert [job.attempts for job in jobs] == [1, 0]
    assert [job.losses for job in jobs] == [0, 1]


class Scripted:
    """A duty that does what the test says."""

    def __init__(self, name: str, every_s: float, fault: Exception | None = None) -> None:
        self.name, self.every_s, self.fault = name, every_s, fault
        self.config = self
        self.runs, self.left, self.closed = 0, 0, 0

    def run_once(self, database: object, objects: object) -> Moved:
        self.runs += 1
        if self.fault is not None:
            raise self.fault
        moved = min(10, self.left)
        self.left -= moved
        return Moved(moved, 10)

    def close(self, database: object) -> None:
        self.closed += 1


class Stuck(Scripted):
    """One that is in the middle of something until it is let go."""

    def __init__(self) -> None:
        super().__init__("stuck", 0.01)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def run_once(self, database: object, objects: object) -> Moved:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().run_once(database, objects)


def test_each_duty_runs_at_its_own_pace_and_no_fault_stops_another(
    house: Household, clock: MovingClock
) -> None:
    down = Scripted("down", 1.0, DatabaseUnavailable("away"))
    faulty = Scripted("faulty", 2.0, RuntimeError("a fault"))
    fine = Scripted("fine", 4.0)
    keeper = Keeper(house.database, house.objects, [down, faulty, fine], clock)
    for _ in range(4):
        assert keeper.run_due() == pytest.approx(1.0)
        clock.ms += 1_000
    assert (down.runs, faulty.runs, fine.runs) == (4, 2, 1)


@contextmanager
def running(keeper: Keeper) -> Iterator[None]:
    """The keeper runs in the block, and has ended after it."""
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def test_the_loop_ends_when_it_is_told_to(house: Household) -> None:
    often, seldom = Scripted("often", 0.01), Scripted("seldom", 3_600.0)
    with running(Keeper(house.database, house.objects, [often, seldom])):
        wait_until(lambda: often.runs > 2 and seldom.runs, what="some runs")
    runs = often.runs
    assert (seldom.runs, often.closed, seldom.closed) == (1, 1, 1)
    assert not [one for one in threading.enumerate() if one.name.startswith("keeper-")]
    assert often.runs == runs


def test_a_slow_duty_and_one_that_fails_delay_no_other(house: Household) -> None:
    slow, faulty, fine = (
        Stuck(),
        Scripted("faulty", 0.01, RuntimeError("x")),
        Scripted("fine", 0.01),
    )
    with running(Keeper(house.database, house.objects, [slow, faulty, fine])):
        assert slow.begun.wait(30)
        runs = fine.runs
        wait_until(lambda: fine.runs > runs + 5 and faulty.runs > 5, what="the others to run on")
        assert slow.runs == 0
        slow.go_on.set()
        wait_until(lambda: slow.runs > 1, what="the slow one to get on")


def test_what_a_duty_has_under_way_is_brought_to_an_end_whatever_that_takes(
    house: Household,
) -> None:
    class Bad(Scripted):
        def close(self, database: object) -> None:
            super().close(database)
            raise RuntimeError("at its end")

    bad, good = Bad("bad", 0.01), Scripted("good", 0.01)
    with running(Keeper(house.database, house.objects, [bad, good])):
        wait_until(lambda: bad.runs and good.runs, what="some runs")
    assert (bad.closed, good.closed) == (1, 1)


def lags(house: Household, clock: MovingClock) -> dict[str, float]:
    with house.database.read() as tx:
        return {one.name: one.lag_ms(clock.ms) / 1000 for one in tx.duties.notes()}


def keep_for(keeper: Keeper, clock: MovingClock, seconds: int) -> None:
    for _ in range(seconds):
        keeper.run_due()
        clock.ms += 1_000


def test_a_duty_that_has_more_to_do_than_it_manages_lags_until_it_has_caught_up(
    house: Household, clock: MovingClock
) -> None:
    busy, fine = Scripted("busy", 1.0), Scripted("fine", 1.0)
    keeper = Keeper(house.database, house.objects, [busy, fine], clock)
    for _ in range(20):
        keep_for(keeper, clock, 1)
        assert lags(house, clock) == {"busy": 0, "fine": 0}  # however seldom it is noted
    busy.left = 1_000
    keep_for(keeper, clock, 60)
    assert lags(house, clock)["fine"] == 0 and 50 <= lags(house, clock)["busy"] <= 60
    busy.left = 0
    keep_for(keeper, clock, 1)
    assert lags(house, clock) == {"busy": 0, "fine": 0}


def test_a_duty_that_fails_lags_though_it_runs(house: Household, clock: MovingClock) -> None:
    faulty = Scripted("faulty", 1.0, RuntimeError("a fault"))
    keeper = Keeper(house.database, house.objects, [faulty], clock)
    keep_for(keeper, clock, 60)
    assert 50 <= lags(house, clock)["faulty"] <= 60
    faulty.fault = None
    keep_for(keeper, clock, 1)
    assert lags(house, clock)["faulty"] == 0


def test_a_keeper_that_is_dead_lags_more_and_more_until_there_is_another(
    house: Household, clock: MovingClock
) -> None:
    keep_for(Keeper(house.database, house.objects, [Scripted("sweep", 1.0)], clock), clock, 3)
    seen = []
    for _ in range(3):
        clock.ms += 60_000
        seen.append(lags(house, clock)["sweep"])
    assert seen == sorted(seen) and seen[0] > 50 and seen[2] - seen[0] == 120
    keep_for(Keeper(house.database, house.objects, [Scripted("sweep", 1.0)], clock), clock, 1)
    assert lags(house, clock)["sweep"] == 0


def test_counts_say_themselves_whether_running_again_soon_means_being_behind(
    house: Household, clock: MovingClock
) -> None:
    @dataclass(frozen=True)
    class Under:
        way: int = 1
        more: ClassVar[bool] = True
        clear: ClassVar[bool] = True

    class Courier(Scripted):
        def run_once(self, database: object, objects: object) -> Under:  # type: ignore[override]
            return Under()

    courier = Courier("courier", 1.0)
    keep_for(Keeper(house.database, house.objects, [courier], clock), clock, 30)
    assert lags(house, clock)["courier"] == 0


def test_leftovers_go_when_nobody_needs_them_and_not_before(
    house: Household, clock: MovingClock
) -> None:
    ended, living = new_id(), new_id()
    with house.database.begin() as tx:
        tx.sessions.open(NewSession(ended, "n", "h", "cpu", "default"), 15_000)
        tx.sessions.close(ended)
        tx.sessions.open(NewSession(living, "n", "h", "cpu", "default"), 10 * 86_400_000)
        tx.idempotency.remember("alice", "monday", "f", "job-1", 86_400_000)
        tx.idempotency.remember("alice", "week", "f", "job-2", 7 * 86_400_000)
    clock.ms += 86_000_000
    early = Retention().run_once(house.database, house.objects)
    assert (early.sessions, early.keys) == (0, 0)
    clock.ms += 401_000
    late = Retention().run_once(house.database, house.objects)
    assert (late.sessions, late.keys, late.more) == (1, 1, False)
    with house.database.read() as tx:
        assert [session.id for session in tx.sessions.live()] == [living]
        assert tx.idempotency.recall("alice", "week") is not None
