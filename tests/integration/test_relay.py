"""The relay on real databases: it marks first, takes marks off again, and is fair."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from kombu import Connection

from producers.relay import Relay
from producers.settings import RelaySettings
from producers.window.fairness import LEAD_JOBS, RESERVE_JOBS
from producers.window.pace import Look
from producers.window.places import Entry
from storage.clock import SystemClock, random_bits
from storage.database import Database
from storage.queue.lanes import Lane, class_of, lane_of
from storage.queue.messages import Message, PublishReport
from storage.queue.publisher import open_publisher
from storage.queue.topology import declare
from storage.records.errors import BrokerUnavailable
from storage.records.ids import uuid7, uuid7_series
from storage.records.jobs import JobKind, NewJob
from storage.records.latency import VersionCost
from storage.records.models import ModelFormat, NewVersion
from tests.support.backlog import backlog_of, take_out
from tests.support.waiting import wait_until


@dataclass
class Recorder:
    """A publisher that notes what it is given. ``fate`` says what becomes of each message."""

    fate: Callable[[Message], str] = lambda _: "confirmed"
    sent: list[Message] = field(default_factory=list)
    calls: list[list[Message]] = field(default_factory=list)

    def publish(self, messages: Sequence[Message]) -> PublishReport:
        self.calls.append(list(messages))
        self.sent += messages
        fates: dict[str, set[str]] = {"confirmed": set(), "unroutable": set()}
        fates |= {"refused": set(), "unknown": set()}
        for message in messages:
            fates[self.fate(message)].add(message.id)
        return PublishReport(**{name: frozenset(ids) for name, ids in fates.items()})

    def close(self) -> None: ...


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.version: dict[str, str] = {}

    def tenant(self, name: str) -> None:
        with self.database.begin() as tx:
            tx.tenants.ensure(name)
            version = tx.models.push(
                name,
                NewVersion(new_id(), "m", ModelFormat.KERAS, "ab" * 32, 1, "k", {}),
            )
        self.version[name] = version.id

    def submit(self, tenant: str, count: int, *, published: bool = False, **fields) -> list[str]:
        ids = uuid7_series(count, SystemClock().now_ms(), random_bits(80))
        jobs = [
            NewJob(
                id=id_,
                kind=JobKind.INFERENCE,
                model_name="m",
                version_id=self.version[tenant],
                version=1,
                pool="default",
                payload=b"{}",
                **fields,
            )
            for id_ in ids
        ]
        with self.database.begin() as tx:
            for start in range(0, count, 10_000):
                tx.jobs.submit(tenant, jobs[start : start + 10_000], published=published)
        return ids

    def window(self) -> dict[str, int]:
        with self.database.read() as tx:
            return tx.backlog.window("default")

    def drain(self, relay_ids: Sequence[str]) -> None:
        """What a worker takes out of the window."""
        with self.database.begin() as tx:
            for tenant in self.version:
                for id_ in relay_ids:
                    tx.jobs.request_cancel(tenant, id_)


def new_id() -> str:
    return uuid7(SystemClock().now_ms(), random_bits(80))


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request, tmp_path) -> Iterator[House]:
    if request.param == "sqlite":
        database = Database.open(f"sqlite:///{tmp_path}/relay.db")
    else:
        database = Database.open(request.getfixturevalue("postgres_database_url"))
    database.migrate()
    house = House(database)
    house.tenant("a")
    house.tenant("b")
    yield house
    database.close()


def relay(house, publisher, **more) -> Relay:
    return Relay(house.database, publisher, SystemClock(), **more)


def entry(house: House, tenant: str, job_id: str, lane: Lane = Lane.NORMAL) -> Entry:
    return Entry("default", tenant, house.version[tenant], job_id, lane)


def test_one_job_travels_alone_and_many_in_chunks_of_one_version(house):
    recorder = Recorder()
    one = relay(house, recorder)
    (alone,) = house.submit("a", 1)
    assert one.look().marked == 1
    assert [m.wake_up.job_ids for m in recorder.sent] == [(alone,)]
    ids = house.submit("a", 150) + house.submit("b", 10)
    one.look()
    sent = recorder.sent[1:]
    assert {i for m in sent for i in m.wake_up.job_ids} == set(ids)
    assert max(len(m.wake_up.job_ids) for m in sent) == 64
    for message in sent:
        assert message.queue in ("infer.default", "infer.default.hi")
        owners = {"a" if i in ids[:150] else "b" for i in message.wake_up.job_ids}
        assert [house.version[owner] for owner in owners] == [message.wake_up.version_id]
    assert one.look().marked == 0


def test_a_row_is_marked_before_its_message_exists(house):
    seen = []

    def fate(message):
        seen.append(sum(house.window().values()))  # committed: another connection sees it
        return "confirmed"

    house.submit("a", 3)
    relay(house, Recorder(fate)).look()
    assert seen == [3]


@pytest.mark.parametrize("fate", ["refused", "unroutable", "unknown"])
def test_what_was_not_confirmed_goes_back_to_the_backlog(house, fate):
    recorder = Recorder(lambda _: fate)
    one = relay(house, recorder)
    house.submit("a", 5)
    look = one.look()
    assert (look.marked, look.returned) == (5, 5)
    assert house.window() == {}
    assert one.trouble
    recorder.fate = lambda _: "confirmed"
    assert one.look().marked == 5
    assert one.trouble is None


def test_a_queue_that_is_gone_is_declared_again(house):
    declared = []
    recorder = Recorder()
    one = relay(house, recorder, declare=lambda pools: declared.append(list(pools)))
    house.submit("a", 1)
    one.look()
    house.submit("a", 1)
    one.look()
    assert declared == [["default"]]
    recorder.fate = lambda _: "unroutable"
    house.submit("a", 1)
    one.look()
    one.look()
    assert declared == [["default"]] * 2


def test_a_relay_that_dies_between_mark_and_publish_loses_nothing(house):
    class Dead(BaseException):
        pass

    def die(_):
        raise Dead

    ids = house.submit("a", 3)
    with pytest.raises(Dead):
        relay(house, Recorder(die)).look()
    assert house.window() == {"a": 3}
    with house.database.begin() as tx:
        assert tx.jobs.sweep(-1) == 3  # what the keeper does once publish_ttl_s has passed
    recorder = Recorder()
    relay(house, recorder).look()
    assert {i for m in recorder.sent for i in m.wake_up.job_ids} == set(ids)


def test_several_relays_publish_each_row_once(house):
    ids = house.submit("a", 200) + house.submit("b", 50)
    recorders = [Recorder() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda r=r: [relay(house, r).look() for _ in range(5)])
        for r in recorders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sent = [i for r in recorders for m in r.sent for i in m.wake_up.job_ids]
    assert sorted(sent) == sorted(ids)


def test_the_window_is_bounded_and_refilled(house):
    house.submit("a", 1000)
    recorder = Recorder()
    one = relay(house, recorder, settings=RelaySettings(min_window_jobs=100))
    assert (one.look().marked, one.look().marked) == (100, 0)
    house.drain([i for m in recorder.sent for i in m.wake_up.job_ids][:40])
    look = one.look()
    assert look.marked == 40 and look.waiting


def test_a_glance_into_a_full_window_sees_whoever_is_new_and_nobody_else(house):
    """New is also who has online jobs now and had only bulk ones when it was filled."""
    house.submit("a", 1_000, priority=1)
    recorder = Recorder()
    one = relay(house, recorder, settings=RelaySettings(min_window_jobs=100))
    assert one.look().waiting
    house.submit("a", 10, priority=1)
    assert one.look(glance=True).marked == 0
    (online,) = house.submit("a", 1)
    assert one.look(glance=True).marked == 1
    assert recorder.sent[-1].wake_up.job_ids == (online,)
    (other,) = house.submit("b", 1)
    assert one.look(glance=True).marked == 1
    assert recorder.sent[-1].wake_up.job_ids == (other,)
    assert one.look(glance=True).marked == 0


def test_a_poke_is_noticed_at_once_and_idling_is_slow(house):
    recorder = Recorder()
    one = relay(house, recorder)
    stop, looked = threading.Event(), threading.Event()
    look = one.look

    def told(**how):
        seen = look(**how)
        looked.set()
        return seen

    one.look = told
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        assert looked.wait(5)  # into an empty backlog: it idles from here on
        ids = house.submit("a", 1)
        one.poke()
        wait_until(lambda: recorder.sent, 5, what="the wake-up")
        assert recorder.sent[0].wake_up.job_ids == tuple(ids)
    finally:
        stop.set()
        one.poke()
        thread.join(5)
    assert not thread.is_alive()


def test_trouble_with_the_broker_ends_no_relay_and_blocks_no_submit(house):
    recorder = Recorder()
    down = [True]

    def declare(_):
        if down[0]:
            raise BrokerUnavailable("the broker does not answer")

    one = relay(house, recorder, declare=declare)
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        ids = house.submit("a", 3)
        one.poke()
        wait_until(lambda: one.trouble, 5, what="the relay to notice")
        ids += house.submit("a", 3)
        down[0] = False
        wait_until(lambda: len(recorder.sent) and not one.trouble, 20, what="the wake-ups")
        wait_until(lambda: {i for m in recorder.sent for i in m.wake_up.job_ids} == set(ids), 10)
    finally:
        stop.set()
        one.poke()
        thread.join(10)


def test_wake_ups_reach_a_real_broker(house, broker_url):
    publisher = open_publisher(broker_url)
    one = relay(house, publisher, declare=functools.partial(declare, broker_url))
    try:
        ids = house.submit("a", 5)
        assert one.look().marked == 5 and one.trouble is None
        with Connection(broker_url) as connection, connection.channel() as channel:
            message = channel.basic_get("infer.default", no_ack=True)
            assert message is not None
            assert all(job_id in message.body for job_id in ids)
            channel.queue_delete("infer.default")
        house.submit("a", 2)
        assert one.look().returned == 2  # unroutable: the queue is gone
        assert one.look().returned == 0  # declared again
        assert sum(house.window().values()) == 7
    finally:
        publisher.close()


class TestExpress:
    """Submits that enter an empty window by themselves."""

    @staticmethod
    def enter(house: House, one: Relay, tenant: str, count: int, **fields) -> list[str] | None:
        """What a submit does; None when it has to go the slow way."""
        lane = one.reserve("default", tenant, count, class_of(fields.get("priority", 5)))
        if lane is None:
            return None
        ids = house.submit(tenant, count, published=True, **fields)
        one.send([entry(house, tenant, job_id, lane) for job_id in ids])
        return ids

    @pytest.fixture
    def recorder(self):
        return Recorder()

    @pytest.fixture
    def one(self, house, recorder):
        one = relay(house, recorder)
        assert not one.reserve("default", "a", 1, Lane.NORMAL)  # from now on it looks at this pool
        one.look()
        return one

    def test_an_idle_pool_is_entered_without_a_look(self, house, one, recorder):
        ids = self.enter(house, one, "a", 3)
        assert ids and recorder.sent == []
        one._publish_sent()
        (message,) = recorder.sent
        assert (message.queue, message.wake_up.job_ids) == ("infer.default", tuple(ids))
        assert one.look().marked == 0
        assert house.window() == {"a": 3}

    def test_messages_are_gathered_by_lane_and_version(self, house, one, recorder):
        wanted = [("a", 5), ("b", 5), ("a", 9), ("a", 0), ("b", 5)]
        ids = [self.enter(house, one, t, 1, priority=p)[0] for t, p in wanted]
        one._publish_sent()
        assert {(m.queue, m.wake_up.version_id, m.wake_up.job_ids) for m in recorder.sent} == {
            ("infer.default", house.version["a"], (ids[0],)),
            ("infer.default", house.version["b"], (ids[1], ids[4])),
            ("infer.default.hi", house.version["a"], (ids[2],)),
            ("bulk.default", house.version["a"], (ids[3],)),
        }

    def test_a_backlog_has_to_be_weighed(self, house, one):
        house.submit("b", 300)  # another process's, say: nobody poked
        one.look()
        assert self.enter(house, one, "b", 1) is None
        assert self.enter(house, one, "a", RESERVE_JOBS + 1) is None

    def test_a_light_tenant_passes_a_backlog_without_a_look(self, house, one, recorder):
        house.submit("b", 600)
        one.look()
        sent = len(recorder.sent)
        ids = self.enter(house, one, "a", 2)
        one._publish_sent()
        (message,) = recorder.sent[sent:]
        assert (message.queue, message.wake_up.job_ids) == ("infer.default.hi", tuple(ids))
        one.look()  # it costs a turn
        assert one._books["default"].online.turns["a"] > 0
        assert self.enter(house, one, "a", 1) is None  # they are in the window, as that look saw
        house.drain(ids)
        one.look()
        assert self.enter(house, one, "a", 1)

    def test_a_bulk_backlog_does_not_keep_online_work_out(self, house, one):
        house.submit("b", 1_000, priority=1)
        one.look()
        assert self.enter(house, one, "a", 1, priority=2) is None
        assert self.enter(house, one, "a", 1)

    def test_the_window_is_never_overbooked(self, house, one):
        assert self.enter(house, one, "a", 200)
        assert self.enter(house, one, "a", 100) is None
        one.look()
        assert self.enter(house, one, "a", 57) is None
        assert self.enter(house, one, "b", 56)

    def test_what_the_broker_does_not_take_goes_back_to_the_backlog(self, house, one, recorder):
        recorder.fate = lambda _: "unknown"
        ids = self.enter(house, one, "a", 3)
        one._publish_sent()
        assert house.window() == {} and one.trouble
        assert self.enter(house, one, "a", 1) is None
        recorder.fate = lambda _: "confirmed"
        assert one.look().marked == 3 and one.trouble is None
        assert set(recorder.sent[-1].wake_up.job_ids) == set(ids)

    def test_no_trouble_ends_the_relay(self, house, recorder, caplog):
        def declare(_):
            if broken:
                raise broken.pop()

        broken: list[Exception] = []
        one = relay(house, recorder, declare=declare)
        one.reserve("default", "a", 1, Lane.NORMAL)
        for error in (BrokerUnavailable("it is gone"), ZeroDivisionError()):
            one.look()
            broken.append(error)
            assert self.enter(house, one, "a", 2)
            one._publish_sent()
            assert house.window() == {} and recorder.sent == []
            assert self.enter(house, one, "a", 1) is None
            one._sender.ensure("default")
            assert one.look().marked == 2
            house.drain(recorder.sent.pop().wake_up.job_ids)
            one._sender._declared.clear()

    def test_it_costs_a_turn_like_any_other(self, house, one):
        house.submit("a", 1)
        house.submit("b", 1)
        one.look()
        before = one._books["default"].online.turns
        ids = self.enter(house, one, "a", 50)
        one._publish_sent()
        house.drain(ids)
        one.look()
        books = one._books["default"].online
        usual_s = before["b"]
        assert books.turns["a"] - before["a"] == pytest.approx(50 * usual_s)

    def test_a_relay_that_dies_before_it_sent_loses_nothing(self, house, one):
        ids = self.enter(house, one, "a", 3)
        with house.database.begin() as tx:
            assert tx.jobs.sweep(-1) == 3  # what the keeper does once publish_ttl_s has passed
        recorder = Recorder()
        relay(house, recorder).look()
        assert {i for m in recorder.sent for i in m.wake_up.job_ids} == set(ids)

    def test_an_idle_service_grants_at_once_and_sends_at_once(self, house, recorder):
        one, stop = relay(house, recorder), threading.Event()
        thread = threading.Thread(target=one.run, args=(stop,))
        thread.start()
        try:
            wait_until(
                lambda: one.reserve("default", "a", 1, Lane.NORMAL), 5, what="the first look"
            )
            one.release("default", 1)
            asked = [one.reserve("default", "a", 1, Lane.NORMAL) for _ in watched(1.2)]
            assert asked.count(None) <= len(asked) * 0.1, asked  # a loaded machine looks late
            one.release("default", len(asked))
            ids = house.submit("a", 2, published=True)
            one.send([entry(house, "a", job_id) for job_id in ids])
            wait_until(lambda: recorder.sent, 5, what="the wake-up")
            assert recorder.sent[0].wake_up.job_ids == tuple(ids)
        finally:
            stop.set()
            one.poke()
            thread.join(5)

    def test_what_was_sent_before_the_stop_is_published(self, house, one, recorder):
        self.enter(house, one, "a", 1)
        stop = threading.Event()
        stop.set()
        one.run(stop)
        assert len(recorder.sent) == 1


def watched(seconds: float, every_s: float = 0.01) -> Iterator[None]:
    """Again and again for so long."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        yield
        time.sleep(every_s)


class Worker:
    """Takes what the recorder got, lane by lane, and counts what it took whose."""

    def __init__(self, house: House, recorder: Recorder) -> None:
        self.house, self.recorder = house, recorder
        self.lanes: dict[Lane, deque[tuple[str, str]]] = {lane: deque() for lane in Lane}
        self.took: Counter[str] = Counter()
        self._seen = 0

    def work(self, jobs: int) -> list[str]:
        """The tenants whose jobs are done now, in their order."""
        owner = {version: tenant for tenant, version in self.house.version.items()}
        for message in self.recorder.sent[self._seen :]:
            tenant = owner[message.wake_up.version_id]
            self.lanes[lane_of(message.queue)].extend((tenant, i) for i in message.wake_up.job_ids)
        self._seen = len(self.recorder.sent)
        taken: list[tuple[str, str]] = []
        for lane in self.lanes.values():
            while lane and len(taken) < jobs:
                taken.append(lane.popleft())
        take_out(self.house.database, [job_id for _, job_id in taken])
        self.took.update(tenant for tenant, _ in taken)
        return [tenant for tenant, _ in taken]


def cost(version_id: str, device_s: float) -> VersionCost:
    return VersionCost(version_id, "cpu", device_s, device_s, 1.0, 1)


@pytest.mark.slow
def test_one_job_passes_a_million_and_then_both_share_the_device(postgres_database_url, capsys):
    """A has a million jobs of 1 ms queued; B's cost 20 ms.

    The bound: B's job is in the window after the look that follows its submit, and at most the
    jobs that workers had taken by then go before it. Later B floods as well: each gets half of
    the device's time, but for a window's share of it and the lead of the high lane.
    """
    database = Database.open(postgres_database_url)
    database.migrate()
    house = House(database)
    house.tenant("a")
    house.tenant("b")
    backlog_of(database, "a", 1_000_000, version_id=house.version["a"])
    a_s, b_s = 0.001, 0.020
    with database.begin() as tx:
        tx.latency.save_costs([cost(house.version["a"], a_s), cost(house.version["b"], b_s)])
    recorder, took = Recorder(), []
    small = RelaySettings(max_window_jobs=256)  # the bound is a window's time
    one, worker = relay(house, recorder, settings=small), Worker(house, recorder)

    def look() -> Look:
        began = time.perf_counter()
        seen = one.look()
        took.append(time.perf_counter() - began)
        return seen

    for _ in range(5):
        look()
        assert set(worker.work(128)) == {"a"}
    look()
    (single,) = house.submit("b", 1)
    look()
    (message,) = recorder.calls[-1]
    assert (message.queue, message.wake_up.job_ids) == ("infer.default.hi", (single,))
    assert worker.work(128)[0] == "b"

    house.submit("b", 2_000)
    before = Counter(worker.took)
    for _ in range(25):
        assert look().waiting
        worker.work(100)
    a_got = (worker.took["a"] - before["a"]) * a_s
    b_got = (worker.took["b"] - before["b"]) * b_s
    window_s = 256 * a_s  # most of its places are A's
    lead_s = LEAD_JOBS * 2 * (a_s + b_s) / 2
    assert abs(a_got - b_got) <= window_s + lead_s, (a_got, b_got)
    with capsys.disabled():
        print(f"\nlook over a million queued: median {sorted(took)[15] * 1e3:.1f} ms", end=" ")
    assert sorted(took)[15] < 0.25, "a look that walks through the backlog takes most of a second"
    database.close()
