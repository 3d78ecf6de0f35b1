"""A broker in memory, and the AMQP connection that the product's publisher speaks to it through.

Queues exist once they are declared. A message is confirmed when a queue has it; what no queue takes
is returned and confirmed when it was sent as mandatory, and only confirmed when it was not. What a
consumer has not acknowledged comes again when the consumer is gone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from storage.queue.lanes import Lane, queue_name
from storage.records.errors import BrokerUnavailable
from tests.simulator.faults import Faults
from tests.simulator.happenings import Happenings
from tests.simulator.scheduler import Process, Scheduler

PREFETCH = 16


@dataclass(slots=True, eq=False)
class Stored:
    """One message in a queue."""

    id: str
    queue: str
    body: bytes
    from_ms: int  # not delivered before
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Consumer:
    """One worker's subscription."""

    process: Process
    queues: Sequence[str]
    wake: Callable[[], None]
    unacked: dict[int, Stored] = field(default_factory=dict)
    lost: bool = False  # its connection is gone


class FakeBroker:
    """The server."""

    def __init__(self, scheduler: Scheduler, faults: Faults, happenings: Happenings) -> None:
        self._scheduler, self._faults, self._happenings = scheduler, faults, happenings
        self._chance = scheduler.chance
        self.queues: dict[str, deque[Stored]] = {}
        self.consumers: list[Consumer] = []
        self.links: list[FakeLink] = []
        self.down_until_ms = 0
        self.told: set[str] = set()  # ids of messages whose publisher heard that they are stored
        self.swallowed: set[str] = set()  # ids of messages that no queue took
        self._tags = itertools.count(1)

    @property
    def down(self) -> bool:
        return self._scheduler.now_ms < self.down_until_ms

    def declare(self, pools: Sequence[str]) -> None:
        """What ``topology.declare`` does."""
        if self.down:
            raise BrokerUnavailable("the broker did not make the queues: it is down")
        for pool in pools:
            for lane in Lane:
                self.queues.setdefault(queue_name(pool, lane), deque())

    # --- messages

    def store(self, queue: str, content: Any) -> None:
        """Take an AMQP message, or do to it what this run's faults say."""
        now_ms = self._scheduler.now_ms
        fate = self._faults.one_of(
            "broker: message lost",
            "broker: message doubled",
            "broker: message delayed",
            "broker: out of order",
        )
        if fate:
            self._happenings.fault(now_ms, "broker", fate, queue)
        if fate == "broker: message lost":
            return
        waiting, from_ms = self.queues[queue], now_ms
        if fate == "broker: message delayed":
            from_ms += int(self._chance.random() * 30_000)
        for _ in range(2 if fate == "broker: message doubled" else 1):
            properties = content.properties
            stored = Stored(properties["message_id"], queue, content.body, from_ms, properties)
            at = self._chance.randint(0, len(waiting)) if fate == "broker: out of order" else None
            waiting.insert(len(waiting) if at is None else at, stored)
        for consumer in self.consumers:
            consumer.wake()

    def waiting(self, consumer: Consumer) -> bool:
        """Whether it could take one now."""
        if self.down or len(consumer.unacked) >= PREFETCH:
            return False
        now_ms = self._scheduler.now_ms
        return any(
            queue and any(one.from_ms <= now_ms for one in queue)
            for queue in map(self.queues.get, consumer.queues)
        )

    def delayed_until_ms(self, consumer: Consumer) -> int | None:
        """When the next held-back message may be taken."""
        now_ms = self._scheduler.now_ms
        found = [one.from_ms for name in consumer.queues for one in self.queues.get(name, ())]
        return min((from_ms for from_ms in found if from_ms > now_ms), default=None)

    def take(self, consumer: Consumer) -> tuple[int, Stored] | None:
        """Deliver one."""
        if self.down or consumer.lost or len(consumer.unacked) >= PREFETCH:
            return None
        now_ms = self._scheduler.now_ms
        for name in consumer.queues:
            queue = self.queues.get(name)
            for one in queue or ():
                if one.from_ms <= now_ms:
                    assert queue is not None
                    queue.remove(one)
                    tag = next(self._tags)
                    consumer.unacked[tag] = one
                    return tag, one
        return None

    def settle(self, consumer: Consumer, tag: int, requeue: bool = False) -> None:
        """An acknowledgement, or a rejection: set aside, or for somebody else to take."""
        stored = consumer.unacked.pop(tag, None)
        if stored is not None and requeue and stored.queue in self.queues:
            self._happenings.note(self._scheduler.now_ms, consumer.process.name, "returned one")
            self.queues[stored.queue].appendleft(stored)
            for other in self.consumers:
                other.wake()

    def subscribe(
        self, process: Process, queues: Sequence[str], wake: Callable[[], None]
    ) -> Consumer:
        consumer = Consumer(process, queues, wake)
        self.consumers.append(consumer)
        return consumer

    def lose(self, consumer: Consumer) -> None:
        """Its connection ends: what it had comes again."""
        consumer.lost = True
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        for stored in reversed(consumer.unacked.values()):
            if stored.queue in self.queues:
                self.queues[stored.queue].appendleft(stored)
        consumer.unacked.clear()
        consumer.wake()
        for other in self.consumers:
            other.wake()

    # --- trouble

    def restart(self, seconds: float, *, wiped: bool) -> None:
        """Down for a while; its queues may be gone after that."""
        self.down_until_ms = self._scheduler.now_ms + int(seconds * 1000)
        for consumer in list(self.consumers):
            self.lose(consumer)
        for link in self.links:
            link.dropped = True
        self.links = []
        if wiped:
            self.queues = {}

    def put_in(self, body: bytes) -> None:
        """Somebody else writes into one of our queues."""
        if self.queues:
            name = self._chance.choice(sorted(self.queues))
            stored = Stored("foreign", name, body, self._scheduler.now_ms)
            self.queues[name].append(stored)
            for consumer in self.consumers:
                consumer.wake()

    def connect(self, process: Process) -> FakeLink:
        """What ``storage.queue.connecting.connect`` does."""
        if self.down:
            raise ConnectionRefusedError("the broker is down")
        link = FakeLink(self, process)
        self.links.append(link)
        return link


class FakeLink:
    """An ``amqp.Connection`` as ``storage.queue.channel`` uses one."""

    def __init__(self, broker: FakeBroker, process: Process) -> None:
        self.broker, self.process = broker, process
        self.dropped = False
        self.frames: deque[Callable[[], None]] = deque()
        self.transport = SimpleNamespace(sock=self)
        self.on_blocked: Callable[[str], None] = lambda reason: None
        self.on_unblocked: Callable[[], None] = lambda: None

    def readable(self) -> bool:
        return self.dropped or bool(self.frames)

    def settimeout(self, seconds: float) -> None:
        """The clock is virtual."""

    def channel(self) -> FakeChannel:
        return FakeChannel(self)

    def blocking_read(self, timeout_s: float) -> None:
        if not self.frames and not self.dropped:
            self.process.scheduler.sleep(self.process, timeout_s)
        if self.frames:
            self.frames.popleft()()
        elif self.dropped:
            raise ConnectionResetError("the broker went away")
        else:
            raise TimeoutError

    def close(self) -> None:
        """Goodbye."""

    def collect(self) -> None:
        self.dropped = True
        if self in self.broker.links:
            self.broker.links.remove(self)


class FakeChannel:
    """Its publishing side, with confirms."""

    def __init__(self, link: FakeLink) -> None:
        self._link, self._tag = link, 0
        self.events: dict[str, set[Callable[..., None]]] = defaultdict(set)

    def confirm_select(self) -> None:
        """Always on."""

    def send_method(self, _method: Any, _format: str, args: Any, content: Any) -> None:
        link, broker = self._link, self._link.broker
        process = link.process
        world = process.scheduler
        if link.dropped or broker.down:
            raise ConnectionResetError("the broker went away")
        self._tag += 1
        tag, (_, _, queue, mandatory, _) = self._tag, args
        message_id = content.properties["message_id"]
        faults = broker._faults
        fate = faults.one_of("broker: confirm lost", "broker: refused", "broker: alarm")
        if fate:
            broker._happenings.fault(world.now_ms, process.name, fate, message_id[:8])
        if fate == "broker: alarm":
            link.frames.append(lambda: link.on_blocked("memory"))
            seconds = broker._chance.random() * 8

            def over() -> float | None:
                link.frames.append(lambda: link.on_unblocked())
                return 1e9

            process.thread("alarm ends", over, first_s=seconds)
            return
        if queue not in broker.queues:
            broker.swallowed.add(message_id)
            if mandatory:
                link.frames.append(lambda: self._tell("basic_return", None, "", queue, content))
            link.frames.append(lambda: self._ack(tag, message_id))
        elif fate == "broker: refused":
            link.frames.append(lambda: self._tell("basic_nack", tag, False))
        else:
            broker.store(queue, content)
            if fate != "broker: confirm lost":
                link.frames.append(lambda: self._ack(tag, message_id))

    def _ack(self, tag: int, message_id: str) -> None:
        if message_id not in self._link.broker.swallowed:
            self._link.broker.told.add(message_id)
        self._tell("basic_ack", tag, False)

    def _tell(self, event: str, *args: Any) -> None:
        for handler in self.events[event]:
            handler(*args)
