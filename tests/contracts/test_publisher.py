"""What every publisher promises, on a real RabbitMQ, in memory, and on the simulator's broker.

Each message's fate is known, and Celery understands what was sent.
"""

from __future__ import annotations

import itertools
import json
import uuid
from types import SimpleNamespace

import kombu
import pytest

from storage.queue import topology
from storage.queue.amqp_publisher import AmqpPublisher
from storage.queue.envelope import WakeUp, decode
from storage.queue.publisher import Message, open_publisher
from storage.records.ids import uuid7
from tests.simulator.world import World, virtual

numbers = itertools.count(1)


def wake_up(jobs=1):
    return WakeUp(uuid7(1, next(numbers)), tuple(uuid7(2, next(numbers)) for _ in range(jobs)))


def messages(queue, count, jobs=1):
    return [Message(str(uuid.uuid4()), queue, wake_up(jobs)) for _ in range(count)]


def ids(some):
    return frozenset(message.id for message in some)


class Real:
    """A broker behind a URL."""

    def __init__(self, url):
        self._url = url

    def declare(self, pools):
        topology.declare(self._url, pools)

    def publisher(self):
        return open_publisher(self._url)

    def receive(self, queue, count):
        """Take ``count`` messages, and see that no more are there."""
        with kombu.Connection(self._url) as connection, connection.channel() as channel:
            bound = kombu.Queue(queue, no_declare=True)(channel)
            received = [bound.get(no_ack=True) for _ in range(count + 1)]
        assert received[-1] is None, "more messages than were sent"
        return received[:-1]


class Simulated:
    """The simulator's, without its faults."""

    def __init__(self):
        self._world = World(0)
        self._world.faults.on = False
        self.declare = self._world.broker.declare

    def publisher(self):
        return AmqpPublisher("api", clock=self._world.api.process)

    def connected(self):
        return virtual(self._world)

    def receive(self, queue, count):
        taken = self._world.broker.queues[queue]
        assert len(taken) == count
        received = [
            SimpleNamespace(
                headers=one.properties["application_headers"],
                properties=one.properties,
                payload=json.loads(one.body),
                content_type=one.properties["content_type"],
            )
            for one in taken
        ]
        taken.clear()
        return received


@pytest.fixture(params=["rabbitmq", "memory", "fake"])
def broker(request):
    if request.param == "fake":
        fake = Simulated()
        with fake.connected():
            yield fake
    elif request.param == "memory":
        yield Real("memory://")
    else:
        yield Real(request.getfixturevalue("broker_url"))


@pytest.fixture
def pool():
    return f"pool-{uuid.uuid4().hex[:8]}"  # memory:// queues are the whole process's


@pytest.fixture
def queue(broker, pool):
    broker.declare([pool])
    return topology.queue_name(pool, topology.Lane.NORMAL)


@pytest.fixture
def publisher(broker):
    opened = broker.publisher()
    yield opened
    opened.close()


def test_what_is_confirmed_is_there_once_and_in_order(broker, queue, publisher):
    sent = messages(queue, 300, jobs=3)
    report = publisher.publish(sent)
    assert report.confirmed == ids(sent)
    assert not report.unroutable | report.refused | report.unknown and report.trouble is None
    received = broker.receive(queue, 300)
    assert [message.headers["id"] for message in received] == [message.id for message in sent]
    assert [decode(message.payload[0][0]) for message in received] == [m.wake_up for m in sent]


def test_a_message_is_a_celery_task_of_protocol_2(broker, queue, publisher):
    [sent] = messages(queue, 1)
    publisher.publish([sent])
    [received] = broker.receive(queue, 1)
    args, kwargs, embed = received.payload
    assert len(args) == 1 and kwargs == {} and embed["chord"] is None
    assert received.headers["task"] == topology.INFER_TASK
    assert received.headers["id"] == received.properties["correlation_id"] == sent.id
    assert received.content_type == "application/json"
    assert received.properties["delivery_mode"] == 2


def test_a_message_for_no_queue_is_unroutable_and_alone(broker, pool, queue, publisher):
    lost = messages(f"infer.{pool}.gone", 2)
    kept = messages(queue, 3)
    report = publisher.publish([kept[0], lost[0], kept[1], lost[1], kept[2]])
    assert report.unroutable == ids(lost) and report.confirmed == ids(kept)
    broker.receive(queue, 3)


def test_every_lane_of_a_pool_has_a_queue(broker, pool, queue, publisher):
    names = [topology.queue_name(pool, lane) for lane in topology.Lane]
    sent = [message for name in names for message in messages(name, 1)]
    assert publisher.publish(sent).confirmed == ids(sent)
    for name in names:
        broker.receive(name, 1)


def test_declaring_again_keeps_what_is_there(broker, pool, queue, publisher):
    publisher.publish(messages(queue, 1))
    broker.declare([pool])
    broker.receive(queue, 1)


def test_nothing_to_send_is_an_empty_report(publisher):
    report = publisher.publish([])
    assert not report.confirmed | report.unroutable | report.refused | report.unknown


def test_an_id_used_twice_is_the_callers_mistake(queue, publisher):
    [one] = messages(queue, 1)
    with pytest.raises(ValueError, match="same id"):
        publisher.publish([one, one])


def test_closing_twice_is_fine(publisher, queue):
    publisher.publish(messages(queue, 1))
    publisher.close()
    publisher.close()
