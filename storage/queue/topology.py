"""Names of tasks and queues, and how queues are made. Producers and workers meet only here.

Which queues there are say the ``lanes``; here is what they are made of.

- *quorum*: survives the loss of a node; redelivery is counted.
- *delivery limit 20*: bounds a message that keeps killing consumers. It says nothing about
  guilt (all unacknowledged messages of a dying worker count), so it is generous; blame is ours.
- *dead letters* go to ``forebay.dead`` for a look. Nothing is lost by them: the sweep finds the
  jobs. So dead-lettering is at-most-once; the other strategy would hold messages back.
- *reject-publish* with a maximum length: a full queue says no and the jobs stay in the backlog.

A queue of trainings may have no consumer while the others of its pool do (workers may leave
trainings to others), and its jobs wait for hours. The sweep publishes them again and again, so it
keeps only the latest wake-ups and never says no, which would hold up the relay for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import amqp.exceptions
import kombu

from storage.queue.connecting import TROUBLE, connect, describe, is_in_process
from storage.queue.lanes import Lane, lane_of, queue_name, queue_names
from storage.records.errors import BrokerUnavailable, Conflict

__all__ = ["Lane", "QueueMismatch", "declare", "lane_of", "queue_name", "queue_names", "queues"]

INFER_TASK = "forebay.infer"
DEAD = "forebay.dead"  # an exchange and its queue
DELIVERY_LIMIT = 20
MAX_LENGTH = 16_384  # twice the largest ready window, one job a message
MAX_TRAININGS = 64  # wake-ups kept in a queue of trainings
MAX_DEAD = 10_000


class QueueMismatch(Conflict):
    """The broker has a queue of this name with other arguments."""

    code = "queue_mismatch"


def queues(pools: Iterable[str], quorum: bool = True) -> list[kombu.Queue]:
    """The queues of each pool, the high lane first. ``quorum=False`` is for ``memory://``."""
    return [
        kombu.Queue(
            name,
            exchange=kombu.Exchange(""),
            routing_key=name,
            durable=True,
            queue_arguments=_arguments(name) if quorum else None,
        )
        for pool in pools
        for name in queue_names(pool)
    ]


def declare(broker_url: str, pools: Sequence[str], timeout_s: float = 5.0) -> None:
    """Make the pools' queues exist, on a connection of its own.

    Its own, because a mismatch closes the channel it happens on: a worker that declared on its
    consumer's channel would stay up and deaf. Raises ``QueueMismatch`` or ``BrokerUnavailable``.
    """
    wanted = queues(pools, quorum=not is_in_process(broker_url))
    if is_in_process(broker_url):
        with kombu.Connection(broker_url) as connection, connection.channel() as channel:
            for queue in wanted:
                queue.bind(channel).declare()
        return
    link = None
    try:
        link = connect(broker_url, timeout_s)
        _declare_dead(link)
        for queue in wanted:
            _declare_one(link, queue.name, _arguments(queue.name))
        link.close()
    except TROUBLE as error:
        raise BrokerUnavailable(f"the broker did not make the queues: {describe(error)}") from error
    finally:
        if link is not None:
            link.collect()


def _arguments(queue: str) -> dict[str, object]:
    if lane_of(queue) is Lane.TRAIN:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-overflow": "drop-head",
            "x-max-length": MAX_TRAININGS,
        }
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD,
        "x-overflow": "reject-publish",
        "x-max-length": MAX_LENGTH,
    }


def _declare_dead(link: Any) -> None:
    with link.channel() as channel:
        channel.exchange_declare(DEAD, "fanout", durable=True, auto_delete=False)
    _declare_one(link, DEAD, {"x-queue-type": "quorum", "x-max-length": MAX_DEAD})
    with link.channel() as channel:
        channel.queue_bind(DEAD, DEAD)


def _declare_one(link: Any, name: str, arguments: dict[str, object]) -> None:
    """One queue, on a channel of its own: an error costs only that."""
    channel = link.channel()
    try:
        channel.queue_declare(
            name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
        )
    except amqp.exceptions.PreconditionFailed as error:
        raise QueueMismatch(
            f"the broker has a queue {name!r} made with other arguments ({error.reply_text})."
            " Its messages are only wake-ups: stop the workers, delete that queue"
            f" (rabbitmqctl delete_queue {name}), and start again; the sweep republishes"
            " what was in it"
        ) from error
    channel.close()
