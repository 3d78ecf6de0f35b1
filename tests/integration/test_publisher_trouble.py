"""Whatever happens to the broker, a publish returns in time and says what it knows."""

from __future__ import annotations

import threading
import time
import uuid

import kombu
import pytest

from storage.queue import topology
from storage.queue.amqp_publisher import AmqpPublisher
from storage.queue.backoff import Backoff
from storage.queue.channel import MAX_OPEN
from storage.records.errors import BrokerUnavailable
from tests.contracts.test_publisher import Real, ids, messages
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

QUEUE = "infer.trouble"
TIMEOUT_S = 1.5


def vhost_of(url):
    return url.rpartition("/")[2]


@pytest.fixture
def proxy(rabbitmq):
    with Proxy(rabbitmq.port) as running:
        yield running


@pytest.fixture
def url(rabbitmq, broker_url):
    topology.declare(broker_url, ["trouble"])
    return broker_url


@pytest.fixture
def publisher(rabbitmq, url, proxy):
    """Reaches the broker through the proxy; its back-off is short."""
    opened = AmqpPublisher(
        rabbitmq.url_at(proxy.port, vhost_of(url)),
        confirm_timeout_s=TIMEOUT_S,
        backoff=Backoff(first_s=0.05, longest_s=0.2),
    )
    yield opened
    opened.close()


def timed(call, *args):
    start = time.monotonic()
    result = call(*args)
    return result, time.monotonic() - start


def publish_until_confirmed(publisher, deadline_s=30.0):
    """One message, again and again until the back-off lets it through."""
    return wait_until(
        lambda: publisher.publish(messages(QUEUE, 1)).confirmed, deadline_s, what="a confirm"
    )


def in_queue(url):
    """The ids that lie in the queue, taking them out."""
    found = []
    with kombu.Connection(url) as connection, connection.channel() as channel:
        bound = kombu.Queue(QUEUE, no_declare=True)(channel)
        while message := bound.get(no_ack=True):
            found.append(message.headers["id"])
    return found


def check_exactly_the_unconfirmed_are_reported(report, sent, found):
    assert report.confirmed | report.unknown == ids(sent)
    assert report.confirmed and report.unknown, "the trouble came too early or too late to tell"
    assert report.confirmed <= set(found), "confirmed, but gone"
    assert set(found) <= ids(sent) and len(found) == len(set(found))
    # Only the window between the last confirm and the cut may be there without our knowing.
    assert len(set(found) - report.confirmed) <= MAX_OPEN


@pytest.mark.slow
def test_a_broker_killed_mid_publish_leaves_exactly_the_unconfirmed_unknown(
    rabbitmq, url, publisher, proxy
):
    rabbitmq.settle()
    sent = messages(QUEUE, 8000)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(publisher.publish(sent)))
    thread.start()
    wait_until(lambda: proxy.bytes_up > 500_000, 20, what="a publish half way", every_s=0.001)
    rabbitmq.kill()
    thread.join(20)
    rabbitmq.start()
    [report] = reports
    assert report.trouble
    found = wait_until(lambda: in_queue(url), 30, every_s=0.5, ignoring=(OSError, *kombu_errors()))
    check_exactly_the_unconfirmed_are_reported(report, sent, found)
    publish_until_confirmed(publisher)


def kombu_errors():
    connection = kombu.Connection("amqp://")
    return (*connection.connection_errors, *connection.channel_errors)


def test_a_connection_cut_mid_message_leaves_exactly_the_unconfirmed_unknown(url, publisher, proxy):
    publisher.publish(messages(QUEUE, 1))
    in_queue(url)
    proxy.cut_after(300_007)
    sent = messages(QUEUE, 3000)
    report, _ = timed(publisher.publish, sent)
    check_exactly_the_unconfirmed_are_reported(report, sent, in_queue(url))
    proxy.heal()
    publish_until_confirmed(publisher)


def test_a_reset_is_trouble_and_not_an_exception(publisher, proxy):
    publisher.publish(messages(QUEUE, 1))
    proxy.latency_s = 0.3
    thread = threading.Timer(0.1, proxy.reset)
    thread.start()
    sent = messages(QUEUE, 500)
    report, _ = timed(publisher.publish, sent)
    thread.join()
    assert report.unknown and report.trouble
    proxy.latency_s = 0
    publish_until_confirmed(publisher)


def test_a_black_hole_ends_the_call_in_time_and_closes_the_connection(publisher, proxy):
    publisher.publish(messages(QUEUE, 1))
    proxy.black_hole()
    sent = messages(QUEUE, 1000)
    report, took_s = timed(publisher.publish, sent)
    assert report.unknown == ids(sent) and not report.confirmed
    assert took_s < TIMEOUT_S + 1
    wait_until(lambda: proxy.accepted == 1, 1)
    proxy.heal()
    wait_until(lambda: proxy.connections == 0, 5)  # late confirms have nobody to reach
    publish_until_confirmed(publisher)
    assert proxy.accepted == 2


def test_a_black_hole_while_connecting_ends_in_time(publisher, proxy):
    proxy.black_hole()
    sent = messages(QUEUE, 1)
    report, took_s = timed(publisher.publish, sent)
    assert report.unknown == ids(sent) and report.trouble
    assert took_s < TIMEOUT_S + 1


def test_a_confirm_that_stops_half_way_through_a_frame_ends_in_time(publisher, proxy):
    """The reader must not spin or wait for the rest of a frame that never comes."""
    publisher.publish(messages(QUEUE, 1))
    channel = publisher._channel
    channel._connection.transport._read_buffer = b"\x01\x00\x01\x00\x00"  # five bytes of seven
    proxy.black_hole()
    report, took_s = timed(publisher.publish, messages(QUEUE, 1))
    assert report.unknown and took_s < TIMEOUT_S + 1


def test_a_dead_broker_answers_at_once_and_the_back_off_spares_it(publisher, proxy):
    proxy.refuse()
    sent = messages(QUEUE, 10)
    report, took_s = timed(publisher.publish, sent)
    assert report.unknown == ids(sent) and report.retry_after_s > 0 and took_s < 1
    _, took_s = timed(publisher.publish, sent)
    assert took_s < 0.05
    proxy.heal()
    publish_until_confirmed(publisher)


@pytest.mark.slow
def test_a_broker_restarted_while_nobody_published_costs_nothing(rabbitmq, publisher):
    publisher.publish(messages(QUEUE, 1))
    rabbitmq.restart()
    sent = messages(QUEUE, 5)
    assert publisher.publish(sent).confirmed == ids(sent)


def test_a_memory_alarm_blocks_no_caller_and_piles_nothing_up(rabbitmq, url, publisher, proxy):
    publisher.publish(messages(QUEUE, 1))
    in_queue(url)
    rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        sent = messages(QUEUE, 2000)
        report, took_s = timed(publisher.publish, sent)
        assert report.unknown and took_s < TIMEOUT_S + 1
        assert "memory" in report.trouble
        for _ in range(20):
            again = messages(QUEUE, 100)
            report, took_s = timed(publisher.publish, again)
            assert report.unknown == ids(again) and took_s < TIMEOUT_S + 1
            wait_until(lambda report=report: time.sleep(report.retry_after_s) or True, 1)
        assert proxy.accepted == 1  # the same connection waits for the end of the alarm
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    publish_until_confirmed(publisher)
    assert proxy.accepted == 1
    assert len(in_queue(url)) <= MAX_OPEN + 1


def test_a_full_queue_refuses_and_the_connection_goes_on(rabbitmq, url, publisher, proxy):
    name = "infer.small"
    with kombu.Connection(url) as connection:
        connection.default_channel.queue_declare(
            name,
            durable=True,
            auto_delete=False,
            arguments={
                "x-queue-type": "quorum",
                "x-overflow": "reject-publish",
                "x-max-length": 50,
            },
        )
    sent = messages(name, 1000)
    report = publisher.publish(sent)
    assert report.confirmed | report.refused == ids(sent)
    assert report.refused and report.trouble is None
    assert len(Real(url).receive(name, len(report.confirmed))) == len(report.confirmed)
    assert publisher.publish(messages(name, 1)).confirmed, "there is room again"
    assert proxy.accepted == 1


def test_a_queue_made_otherwise_is_named_with_what_to_do(url):
    with kombu.Connection(url) as connection:
        connection.default_channel.queue_declare("infer.old", durable=True, auto_delete=False)
    with pytest.raises(topology.QueueMismatch) as caught:
        topology.declare(url, ["fine", "old"])
    assert "'infer.old'" in str(caught.value) and "delete_queue infer.old" in str(caught.value)
    with kombu.Connection(url) as connection:
        connection.default_channel.queue_delete("infer.old")
    topology.declare(url, ["fine", "old"])


def test_a_broker_with_the_queues_of_an_older_version_only_gets_the_new_one(url):
    wanted = topology.queues(["grown"])
    with kombu.Connection(url) as connection, connection.channel() as channel:
        for queue in wanted[:2]:
            queue(channel).declare()
        topology.declare(url, ["grown"])
        for queue in wanted:
            queue(channel).queue_declare(passive=True)


def test_a_wrong_password_is_trouble_that_shows_no_password(rabbitmq, url):
    secret = f"canary-{uuid.uuid4().hex}"
    wrong = url.replace(rabbitmq.password, secret)
    publisher = AmqpPublisher(wrong, confirm_timeout_s=TIMEOUT_S)
    report = publisher.publish(messages(QUEUE, 1))
    assert report.unknown and report.trouble and secret not in repr(report)
    publisher.close()
    with pytest.raises(BrokerUnavailable) as caught:
        topology.declare(wrong, ["a"], timeout_s=TIMEOUT_S)
    assert secret not in str(caught.value)


def test_declaring_on_a_dead_or_silent_broker_fails_in_time(rabbitmq, url, proxy):
    through = rabbitmq.url_at(proxy.port, vhost_of(url))
    proxy.black_hole()
    start = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        topology.declare(through, ["a"], timeout_s=1.0)
    proxy.refuse()
    with pytest.raises(BrokerUnavailable):
        topology.declare(through, ["a"], timeout_s=1.0)
    assert time.monotonic() - start < 4


def test_the_next_broker_of_the_url_is_taken_when_the_first_is_dead(rabbitmq, url, proxy):
    proxy.refuse()
    both = f"{rabbitmq.url_at(proxy.port, vhost_of(url))};{url}"
    publisher = AmqpPublisher(both, confirm_timeout_s=TIMEOUT_S)
    assert publisher.publish(messages(QUEUE, 1)).confirmed
    publisher.close()


def test_wake_ups_that_keep_coming_back_end_among_the_dead(url, publisher):
    publisher.publish(messages(QUEUE, 1))
    with kombu.Connection(url) as connection, connection.channel() as channel:
        bound = kombu.Queue(QUEUE, no_declare=True)(channel)
        for _ in range(topology.DELIVERY_LIMIT + 1):
            wait_until(bound.get, 10).reject(requeue=True)
        dead = kombu.Queue(topology.DEAD, no_declare=True)(channel)
        assert wait_until(lambda: dead.get(no_ack=True), 10).headers["task"] == topology.INFER_TASK
