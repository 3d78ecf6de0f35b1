"""Names and arguments of the queues: the contract between producers, workers and operators."""

from __future__ import annotations

import pytest

from storage.queue import topology
from storage.queue.publisher import open_publisher
from storage.records.errors import InvalidInput


def test_a_pool_has_a_queue_for_each_class():
    assert topology.queue_name("default", high=False) == "infer.default"
    assert topology.queue_name("default", high=True) == "infer.default.hi"
    assert [queue.name for queue in topology.queues(["a", "b"])] == [
        "infer.a.hi",
        "infer.a",
        "infer.b.hi",
        "infer.b",
    ]


def test_no_pool_can_take_another_pools_high_lane():
    with pytest.raises(InvalidInput):
        topology.queue_name("a.hi", high=False)


@pytest.mark.parametrize("pool", ["", "A", "a b", "a/b", "#", "x" * 64, "a\n"])
def test_a_pool_is_spelled_like_every_name(pool):
    with pytest.raises(InvalidInput):
        topology.queue_name(pool, high=False)


def test_queues_are_quorum_bounded_and_dead_letter():
    queue = topology.queues(["a"])[0]
    assert queue.durable and queue.queue_arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "forebay.dead",
        "x-overflow": "reject-publish",
        "x-max-length": 16_384,
    }
    assert topology.queues(["a"], quorum=False)[0].queue_arguments is None


@pytest.mark.parametrize("url", ["", "redis://localhost", "http://h", "amqp://a;redis://b"])
def test_a_broker_that_is_none_is_refused_without_showing_the_url(url):
    with pytest.raises(InvalidInput) as caught:
        open_publisher(url)
    assert caught.value.stable_code == "invalid_broker_url"
