"""A relay in a process: the product's look, step by step, and a witness of its promise.

The promise: a row keeps its mark only if the broker said that it has the message. Whoever was not
told so takes the mark off again, unless the database keeps it from doing so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from producers.relay import Relay
from producers.settings import RelaySettings
from producers.window.places import Entry
from storage.queue.amqp_publisher import AmqpPublisher
from storage.queue.messages import Message, PublishReport
from tests.simulator.clients import Database
from tests.simulator.scheduler import Process

if TYPE_CHECKING:
    from tests.simulator.world import World

IDLE_S, PAUSE_S = 4.0, 0.7


class WitnessedPublisher:
    """The product's publisher; remembers what it was told of each message."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self._publisher = AmqpPublisher(
            process.name,  # the fake's ``connect`` finds the process by it
            clock=process,
            chance=world.chance.random,
        )
        self.unheard: list[tuple[str, int]] = []  # (job id, its mark) without a confirm

    def publish(self, messages: Sequence[Message]) -> PublishReport:
        world = self._world
        world.boundary(self._process, "publish")
        marks = {one: world.invariants.marks[one] for m in messages for one in m.wake_up.job_ids}
        report = self._publisher.publish(messages)
        for message in messages:
            if message.id not in world.broker.told:
                self.unheard += [(one, marks[one]) for one in message.wake_up.job_ids]
        world.happenings.note(
            world.now_ms,
            self._process.name,
            f"published {len(report.confirmed)} of {len(messages)}",
        )
        world.boundary(self._process, "published")
        return report

    def close(self) -> None:
        self._publisher.close()


class SteppedRelay(Relay):
    """The product's; its loop is the scheduler's."""

    def __init__(self, world: World, process: Process, database: Database) -> None:
        self._world, self._process = world, process
        self.witness = WitnessedPublisher(world, process)
        super().__init__(
            cast(Any, database),
            self.witness,
            process,
            settings=RelaySettings(),
            declare=world.broker.declare,
            chance=world.chance.getrandbits,
        )
        self.thread = process.thread("relay", self._step, first_s=0.2)

    def poke(self) -> None:
        super().poke()
        self.thread.wake()

    def send(self, entries: Sequence[Entry]) -> None:
        super().send(entries)
        self.thread.wake()

    def _step(self) -> float:
        troubles = self._process.troubles
        self.witness.unheard.clear()
        self._publish_sent()
        look = self._careful_look()
        if self._process.troubles == troubles:
            self._world.invariants.published(self.witness.unheard)
        if look is None or look.failed:
            self._places.shut()
            return PAUSE_S
        return self._world.pace * (1.0 if look.waiting or look.marked else IDLE_S)
