"""An estimated start is right within a factor of two, and costs a submit nothing."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

import pytest

from producers import estimates
from producers.estimates import (
    GUESSED_S_PER_JOB,
    IN_FLIGHT_S,
    Estimates,
    Waiting,
    costs_of,
    share_ahead,
    usual_cost,
    wait_of,
)
from storage.records.errors import DatabaseUnavailable
from storage.records.jobs import BULK_PRIORITY, backlog_rank
from storage.records.latency import VersionCost
from storage.records.sessions import NewSession, Session
from tests.support.household import Household, new_id, tensor

NOW = 1_800_000_000_000


@dataclass(eq=False)
class Queued:
    tenant: str
    priority: int
    created_at: int
    seconds: float

    @property
    def rank(self) -> int:
        return backlog_rank(self.created_at, self.priority)

    @property
    def bulk(self) -> bool:
        return self.priority <= BULK_PRIORITY


def drain_until(queue: list[Queued], mine: Queued, workers: int, batch: int) -> float:
    """When ``mine`` starts: tenants share device time, rank decides within one, bulk comes last."""
    rows: dict[tuple[bool, str], list[Queued]] = {}
    for one in sorted([*queue, mine], key=lambda one: (-one.rank, one is not mine)):
        rows.setdefault((one.bulk, one.tenant), []).append(one)  # the next one is the last
    served: dict[str, float] = {}
    free_s = [0.0] * workers
    while True:
        online = [key for key, waiting in rows.items() if waiting and not key[0]]
        keys = online or [key for key, waiting in rows.items() if waiting]
        key = min(keys, key=lambda key: (served.get(key[1], 0.0), key))
        at = free_s.index(min(free_s))
        passed = [rows[key].pop() for _ in range(min(batch, len(rows[key])))]
        if mine in passed:
            return free_s[at]
        seconds = sum(one.seconds for one in passed)
        served[key[1]] = served.get(key[1], 0.0) + seconds
        free_s[at] += seconds


def scene(chance: random.Random) -> tuple[list[Queued], int]:
    """A backlog that came over some minutes."""
    queue = []
    for number in range(chance.randint(1, 5)):
        seconds = chance.choice((0.0005, 0.004, 0.02))
        for priority in chance.sample((0, 5, 9), chance.randint(1, 2)):
            span_ms = chance.choice((1_000, 60_000, 400_000))
            jobs = chance.choice((3, 200, 4_000))
            for place in range(jobs):
                created_at = NOW - span_ms + span_ms * place // jobs
                queue.append(Queued(f"tenant-{number}", priority, created_at, seconds))
    return queue, chance.choice((1, 2, 4))


def waiting_of(queue: list[Queued]) -> list[Waiting]:
    """What a sample makes of it."""
    found: dict[tuple[str, int], Waiting] = {}
    for one in queue:
        key = (one.tenant, one.priority)
        group = found.setdefault(key, Waiting(*key, 0.0, one.created_at))
        group.seconds += one.seconds
        group.oldest_at = min(group.oldest_at, one.created_at)
    return list(found.values())


@pytest.mark.parametrize("seed", range(24))
def test_in_a_simulated_drain_the_estimate_is_within_a_factor_of_two(seed):
    chance = random.Random(seed)
    queue, workers = scene(chance)
    names = [*sorted({one.tenant for one in queue}), "newcomer"]
    mine = Queued(chance.choice(names), chance.choice((0, 5, 5, 9)), NOW, 0.001)
    truth_s = drain_until(queue, mine, workers, batch=32)
    told_s = wait_of(waiting_of(queue), mine.tenant, mine.priority, now=NOW, workers=workers)
    grain_s = 2 * IN_FLIGHT_S  # what is in a worker's hands is not told apart
    said = f"seed {seed}: told {told_s:.2f} s, truth {truth_s:.2f} s, {mine}"
    assert told_s <= 2 * truth_s + grain_s, said
    assert told_s >= truth_s / 2 - grain_s, said


def test_a_light_tenant_is_not_told_to_wait_for_anothers_million():
    million = [Waiting("heavy", 5, 1_000_000 * 0.0002, NOW - 60_000)]
    assert wait_of(million, "light", 5, now=NOW, workers=1) <= IN_FLIGHT_S
    assert wait_of(million, "heavy", 5, now=NOW, workers=2) == pytest.approx(100)


def test_bulk_work_is_told_to_wait_for_all_online_work_and_never_the_reverse():
    both = [Waiting("a", 5, 30.0, NOW), Waiting("b", 1, 500.0, NOW)]
    assert wait_of(both, "c", 1, now=NOW, workers=1) == pytest.approx(30)
    assert wait_of(both, "b", 5, now=NOW, workers=1) <= IN_FLIGHT_S


def test_an_urgent_job_passes_what_came_lately_and_not_what_waited_long():
    lately = Waiting("a", 5, 60.0, NOW - 60_000)
    assert share_ahead(lately, 9, NOW) == 0.0
    long_ago = Waiting("a", 5, 60.0, NOW - 240_000)
    assert share_ahead(long_ago, 9, NOW) == pytest.approx(0.5)
    assert share_ahead(long_ago, 4, NOW) == 1.0


def test_nothing_waiting_means_now():
    assert wait_of([], "a", 5, now=NOW, workers=1) == 0.0


def cost(device_s: float, path_s: float, at: int = 0) -> VersionCost:
    return VersionCost("v", f"device {at}", device_s, path_s, 2.0, 0, updated_at=at)


def test_a_version_costs_its_path_or_else_its_device_time():
    assert costs_of([cost(0.01, 0.03)])[0] == {"v": 0.03}
    assert costs_of([cost(0.01, 0.0)])[0] == {"v": 0.01}
    assert costs_of([cost(0.0, 0.0)]) == ({}, {"v": 2.0})
    assert costs_of([cost(0.02, 0.05, 2), cost(0.01, 0.04, 1)])[0] == {"v": 0.05}


def session(jobs_per_s: float) -> Session:
    return Session("s", "n", "h", "cpu", "default", 0, 1, jobs_per_s, None)


def test_an_unknown_version_costs_what_the_pool_does_lately():
    assert usual_cost([session(100), session(300)]) == pytest.approx(2 / 400)
    assert usual_cost([session(0.0)]) == usual_cost([]) == GUESSED_S_PER_JOB


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 50.0

    def monotonic_s(self) -> float:
        return self.at_s

    def now_ms(self) -> int:
        return int(self.at_s * 1000)


class Reads:
    """A database that counts how often it is read, and may be down."""

    def __init__(self, database) -> None:
        self._database, self.count, self.down = database, 0, False
        self.read_once = threading.Event()

    def read(self):
        self.count += 1
        self.read_once.set()
        if self.down:
            raise DatabaseUnavailable("down")
        return self._database.read()


@pytest.fixture
def house(tmp_path):
    house = Household.on_sqlite(tmp_path)
    yield house
    house.database.close()


@pytest.fixture
def clock():
    return Hands()


@pytest.fixture
def reads(house):
    return Reads(house.database)


@pytest.fixture
def told(reads, clock):
    told = Estimates(reads, clock)
    yield told
    told.close()


def live_session(house, node: str = "a") -> str:
    with house.database.begin() as tx:
        id_ = new_id()
        tx.sessions.open(NewSession(id_, node, "host", "cpu", "default"), 60_000)
    return id_


def save_cost(house, path_s: float, version=None) -> None:
    version_id = (version or house.version).id
    with house.database.begin() as tx:
        tx.latency.save_costs([VersionCost(version_id, "cpu", path_s / 2, path_s, 7.0, 0)])


def now_of(house) -> int:
    with house.database.read() as tx:
        return tx.now()


def test_without_a_worker_there_is_no_start(told):
    assert told.sample("default") is not None
    assert told.start_at("default", "default", 5, 1) is None


def test_what_waits_is_told_in_seconds_for_those_who_live(house, told, clock):
    house.submit([tensor(1)] * 40)
    save_cost(house, 0.5)
    assert told.sample("default").backlog_s() == pytest.approx(20)
    live_session(house)
    live_session(house, "b")
    live_session(house, "b")  # a process that lost its session and opened another
    clock.at_s += 60
    assert told.sample("default").backlog_s() == pytest.approx(10)


def test_a_start_is_after_what_waits_already(house, told):
    live_session(house)
    house.submit([tensor(1)] * 40)
    save_cost(house, 0.5)
    told.sample("default")
    before = now_of(house)
    start = told.start_at("default", "default", 5, 1, house.version.id)
    wait_ms = start - before
    assert 20_000 + 7_000 - 1_000 < wait_ms < 20_000 + 7_000 + 1_000  # it has to be loaded too


def test_a_version_that_a_worker_holds_needs_no_loading(house, told):
    id_ = live_session(house)
    save_cost(house, 0.5)
    with house.database.begin() as tx:
        tx.sessions.renew(id_, 60_000, 0.0, {"loaded": {house.version.id: 12}})
    told.sample("default")
    start = told.start_at("default", "default", 5, 1, house.version.id)
    assert start - now_of(house) < 1_000


def test_what_was_accepted_since_the_sample_counts_too(house, told, clock):
    live_session(house)
    save_cost(house, 0.5)
    told.start_at("default", "default", 5, 100, house.version.id)
    clock.at_s += 0.3
    told._samples["default"].good_until_s = clock.at_s + 10
    first = told.start_at("default", "default", 5, 100, house.version.id)
    clock.at_s += 0.3
    second = told.start_at("default", "default", 5, 1, house.version.id)
    assert 49_000 < second - first < 51_000


def test_many_submits_are_one_look_at_the_database(house, told, reads, clock):
    live_session(house)
    told.sample("default")
    reads.count = 0
    for _ in range(1_000):
        told.start_at("default", "default", 5, 1, house.version.id)
    assert reads.count == 0
    clock.at_s += 1_000
    reads.read_once.clear()
    told.start_at("default", "default", 5, 1, house.version.id)
    assert reads.read_once.wait(10)
    told.close()
    assert reads.count == 1


def test_a_sample_that_takes_long_holds_long(house, told, reads, clock, monkeypatch):
    def slow(*args):
        clock.at_s += 2.0
        return take(*args)

    take = estimates.take_sample
    monkeypatch.setattr(estimates, "take_sample", slow)
    told.sample("default")
    clock.at_s += 90
    told.sample("default")
    assert reads.count == 1
    clock.at_s += 20
    told.sample("default")
    assert reads.count == 2


def test_a_database_that_is_down_gives_no_estimate_and_no_error(house, told, reads, clock):
    live_session(house)
    reads.down = True
    assert told.start_at("default", "default", 5, 1) is None
    assert told.sample("default") is None
    reads.down = False
    clock.at_s += 60
    told.sample("default")
    assert told.start_at("default", "default", 5, 1) is not None
