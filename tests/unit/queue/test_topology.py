"""Names and arguments of the queues: the contract between producers, workers and operators."""

from __future__ import annotations

import pytest

from storage.queue import topology
from storage.queue.lanes import class_of
from storage.queue.publisher import open_publisher
from storage.records.errors import InvalidInput


def test_a_pool_has_a_queue_for_each_class():
    assert topology.queue_name("default", topology.Lane.NORMAL) == "infer.default"
    assert topology.queue_name("default", topology.Lane.HIGH) == "infer.default.hi"
    assert topology.queue_name("default", topology.Lane.BULK) == "bulk.default"
    assert [queue.name for queue in topology.queues(["a", "b"])] == [
        "infer.a.hi",
        "infer.a",
        "bulk.a",
        "infer.b.hi",
        "infer.b",
        "bulk.b",
    ]


@pytest.mark.parametrize("lane", topology.Lane)
@pytest.mark.parametrize("pool", ["default", "bulk", "infer.x", "bulk.x"])
def test_a_queues_name_says_its_lane(pool, lane):
    assert topology.lane_of(topology.queue_name(pool, lane)) is lane


def test_a_queue_of_another_kind_is_an_ordinary_lane():
    assert topology.lane_of("train.default.hi") is topology.Lane.NORMAL


def test_priorities_8_and_9_travel_high_and_0_to_2_are_bulk():
    lanes = [class_of(priority).value for priority in range(10)]
    assert lanes == ["bulk"] * 3 + ["normal"] * 5 + ["high"] * 2


def test_no_pool_can_take_another_pools_high_lane():
    with pytest.raises(InvalidInput):
        topology.queue_name("a.hi", topology.Lane.NORMAL)


@pytest.mark.parametrize("pool", ["", "A", "a b", "a/b", "#", "x" * 64, "a\n"])
def test_a_pool_is_spelled_like_every_name(pool):
    with pytest.raises(InvalidInput):
        topology.queue_name(pool, topology.Lane.NORMAL)


def test_queues_are_quorum_bounded_and_dead_letter():
    for queue in topology.queues(["a"]):
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
