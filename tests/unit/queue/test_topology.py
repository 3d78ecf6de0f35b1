"""Names and arguments of the queues: the contract between producers, workers and operators."""

from __future__ import annotations

import pytest

from producers.settings import ApiSettings
from storage.queue import topology
from storage.queue.envelope import WakeUp
from storage.queue.lanes import (
    check_pool,
    class_of,
    is_training_pool,
    training_pool,
    worker_pool,
)
from storage.queue.messages import Message
from storage.queue.publisher import open_publisher
from storage.records.errors import InvalidInput
from workers.settings import WorkerSettings


def test_a_pool_has_a_queue_for_each_class():
    assert topology.queue_name("default", topology.Lane.NORMAL) == "infer.default"
    assert topology.queue_name("default", topology.Lane.HIGH) == "infer.default.hi"
    assert topology.queue_name("default", topology.Lane.BULK) == "bulk.default"
    assert [queue.name for queue in topology.queues(["a", "b"])] == [
        "infer.a.hi",
        "infer.a",
        "bulk.a",
        "train.a",
        "infer.b.hi",
        "infer.b",
        "bulk.b",
        "train.b",
    ]


@pytest.mark.parametrize("lane", topology.Lane)
def test_trainings_are_a_pool_of_their_own_with_one_queue(lane):
    assert training_pool("default") == training_pool(training_pool("default")) == "train.default"
    assert topology.queue_name("train.default", lane) == "train.default"
    assert topology.queue_name("default", topology.Lane.TRAIN) == "train.default"
    assert [queue.name for queue in topology.queues(["train.a"])] == ["train.a"]
    assert is_training_pool("train.a") and not is_training_pool("training")
    assert worker_pool("train.a") == worker_pool("a") == "a"
    assert topology.lane_of("train.default") is topology.Lane.TRAIN


@pytest.mark.parametrize("name", ["train.a", "a.hi", "A", ""])
def test_no_operator_can_call_a_pool_so(name):
    for check in (
        check_pool,
        lambda pool: WorkerSettings(pool=pool),
        lambda p: ApiSettings(pool=p),
    ):
        with pytest.raises(InvalidInput):
            check(name)


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
    for queue in topology.queues(["a"])[:3]:
        assert queue.durable and queue.queue_arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": "forebay.dead",
            "x-overflow": "reject-publish",
            "x-max-length": 16_384,
        }
    assert topology.queues(["a"], quorum=False)[0].queue_arguments is None


def test_a_queue_of_trainings_forgets_old_wake_ups_and_never_refuses_one():
    assert topology.queues(["a"])[3].queue_arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-overflow": "drop-head",
        "x-max-length": 64,
    }
    topology.declare("memory://", ["full"])
    publisher = open_publisher("memory://")
    for number in range(100):
        message = Message(f"{number:032}", "train.full", WakeUp("v", ("j",)))
        assert publisher.publish([message]).confirmed == {message.id}
    publisher.close()


@pytest.mark.parametrize("url", ["", "redis://localhost", "http://h", "amqp://a;redis://b"])
def test_a_broker_that_is_none_is_refused_without_showing_the_url(url):
    with pytest.raises(InvalidInput) as caught:
        open_publisher(url)
    assert caught.value.stable_code == "invalid_broker_url"
