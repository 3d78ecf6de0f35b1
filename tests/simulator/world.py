"""One run: a system out of the product's own code, its callers, its faults, and what must hold.

First everything happens that this seed's faults allow, then faults stop and everything runs until
it is quiet. One ``random.Random`` decides all of it, so a seed is a history.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest import mock

import orjson

import storage.clock
from storage.database import Transaction
from storage.queue import channel
from storage.records.errors import DatabaseUnavailable
from storage.records.ids import uuid7
from storage.records.models import ModelFormat, NewVersion
from storage.records.push_options import InputForm
from storage.records.signatures import InputSpec, OutputSpec, Signature
from tests.simulator.api import TENANTS, Api, Callers
from tests.simulator.clients import Objects, Said
from tests.simulator.fake_broker import FakeBroker
from tests.simulator.fake_database.database import FakeDatabase
from tests.simulator.faults import Faults
from tests.simulator.happenings import Broken, Happenings
from tests.simulator.invariants import Invariants
from tests.simulator.keeper import Keeper
from tests.simulator.pictures import Camera, OfFake
from tests.simulator.scheduler import MOST_DEPTH, Crashed, Process, Scheduler
from tests.simulator.worker import POOL, InlinePutters, Worker
from workers import supervisor
from workers.inference import answers

FAULTY_STEPS, FAULTY_S = 220, 120
CALM_S, CALM_STEPS = 900, 20_000
MOST_DEATHS = 8

SIGNATURE = Signature(
    form=InputForm.TENSOR,
    inputs=(InputSpec("x", "float64", (1,)),),
    outputs=(OutputSpec("y", "float64", (1,)),),
)


@dataclass(frozen=True)
class Ran:
    """What a run amounts to."""

    seed: int
    steps: int
    events: int
    faults: Counter[str]
    states: Counter[str]


Maker: TypeAlias = Callable[[Any], tuple[Any, Camera]]
"""Opens a database whose clock is the one given, and a camera for it."""


class World:
    """Everything there is in one run."""

    def __init__(
        self,
        seed: int,
        make: Maker | None = None,
        *,
        trace: bool = False,
        late: bool = False,
    ) -> None:
        """``make`` opens another database than the fake. ``late``: surely one of those runs, one
        in six otherwise, in which much is timed out while its only worker is about to commit it.
        """
        self.seed = seed
        self.chance = random.Random(seed)
        self.happenings = Happenings(all_of_them=trace)
        self.faults = Faults(self.chance)
        self.late = self.chance.random() < 1 / 6 or late
        if self.late:
            for kind in self.faults.rates:
                self.faults.rates[kind] *= 0.3
            self.faults.rates["commit held up"] = 0.6
        self.scheduler = Scheduler(self.chance, self.happenings)
        clock = SimpleNamespace(now_ms=lambda: self.scheduler.now_ms)
        self.on_fake = make is None
        if make is None:
            self.inner: Any = FakeDatabase(clock)  # type: ignore[arg-type]
            self.camera: Camera = OfFake(self.inner)
        else:
            self.inner, self.camera = make(clock)
        self.one_writer = self.chance.random() < 0.5
        self.stored: dict[str, bytes] = {}
        self.database_down_until_ms = self.objects_down_until_ms = 0
        self.deaths = 0
        self.pace = 0.4 if self.late else self.chance.choice((0.4, 1.0))  # between looks
        self.versions: set[str] = set()
        self.broker = FakeBroker(self.scheduler, self.faults, self.happenings)
        self.callers = Callers(self)
        self.invariants = Invariants(self)
        self._push_models()
        with self.inner.begin() as tx:
            self.callers.register(tx)
        self.broker.declare([POOL])
        self.api = Api(self)
        self.keepers = [Keeper(self, f"keeper-{n}", relays=n == 0) for n in range(2)]
        skew = self.chance.choice((0, 3_600_000, -3_600_000))
        count = 1 if self.late else self.chance.choice((1, 2, 2, 3))
        self.workers = [Worker(self, f"worker-{n}", skew if n == 0 else 0) for n in range(count)]
        self.outside = Process(self.scheduler, "outside")
        self.outside.thread("broker trouble", self._trouble_the_broker, first_s=1.0)

    @property
    def now_ms(self) -> int:
        return self.scheduler.now_ms

    # --- what the processes meet

    def boundary(self, process: Process, place: str) -> None:
        """A place where much may happen before the caller goes on."""
        scheduler = self.scheduler
        if not process.alive:
            raise Crashed
        if scheduler.depth >= MOST_DEPTH:
            return
        fate = self.faults.one_of(
            "process killed", "process stopped", "thread held up", "others in between"
        )
        if fate is None:
            return
        if fate == "others in between":
            self.faults_of(fate)
            scheduler.give_way(process, self.chance.randint(1, 4))
        elif fate == "process killed":
            if self.deaths >= MOST_DEATHS or process.name.endswith("-sup"):
                return
            self.happenings.fault(self.now_ms, process.name, "process killed", place)
            self.kill(process)
            raise Crashed
        else:
            stopped = fate == "process stopped"
            most = self.chance.choice((1, 6, 20, 45) if stopped else (1, 15, 40))
            seconds = most * (0.5 + self.chance.random())
            self.happenings.fault(self.now_ms, process.name, fate, f"{place} {seconds:.0f} s")
            if stopped:
                process.stopped_until_ms = self.now_ms + int(seconds * 1000)
            scheduler.sleep(process, seconds)

    def faults_of(self, kind: str) -> None:
        self.happenings.faults[kind] += 1

    def dies(self, process: Process, place: str) -> bool:
        """Whether it will die there."""
        if self.deaths >= MOST_DEATHS or process.name.endswith("-sup"):
            return False
        if not self.faults.happens("process killed"):
            return False
        self.happenings.fault(self.now_ms, process.name, "process killed", place)
        return True

    def kill(self, process: Process) -> None:
        """kill -9. Somebody starts it again."""
        if not process.alive:
            return
        self.deaths += 1
        process.die()
        for link in [one for one in self.broker.links if one.process is process]:
            link.collect()
        for worker in self.workers:
            if worker.device.process is process:
                worker.died()
                return
        again_s = self.chance.random() * 8
        self.outside.thread("restart", lambda: self._restart(process.name), first_s=again_s)

    def _restart(self, name: str) -> None:
        self.happenings.note(self.now_ms, name, "starts again")
        if name == "api":
            self.api = Api(self)
        else:
            number = int(name[-1])
            self.keepers[number] = Keeper(self, name, relays=number == 0)

    def begin(self, *, lasting: bool) -> AbstractContextManager[Transaction]:
        return self.inner.begin(lasting=lasting)  # type: ignore[no-any-return]

    def read(self) -> AbstractContextManager[Transaction]:
        return self.inner.read()  # type: ignore[no-any-return]

    def committed(self, process: Process, said: Said) -> None:
        """A transaction is over; nothing else has happened since it began."""
        self.happenings.count += 1
        self.invariants.committed(said, self.camera, process.name)

    def take_back(self, process: Process) -> None:
        """The database's machine loses its last moment, in which nothing was promised."""
        if self.on_fake:
            tables = self.inner.tables
            tables.roll_back(tables.changes())
            self.happenings.fault(self.now_ms, process.name, "database: crash takes back a claim")
            self.invariants.taken_back(self.camera())
            process.troubles += 1
            raise DatabaseUnavailable("the connection was lost")

    def putters(self, objects: Objects) -> InlinePutters:
        return InlinePutters(objects)

    def unexpected(self, process: Process, fault: Exception) -> None:
        """An error that no part of the product expects."""
        self.check(False, f"{process.name} met an unexpected {fault!r}")

    def check(self, holds: bool, why: str) -> None:
        if not holds:
            raise Broken(why)

    # --- the broker's own troubles

    def _trouble_the_broker(self) -> float:
        faults, chance = self.faults, self.chance
        for _ in range(4):
            fate = faults.one_of(
                "broker: restart", "broker: queues wiped", "broker: garbage", "broker: forged"
            )
            if fate is None:
                continue
            self.happenings.fault(self.now_ms, "broker", fate)
            if fate == "broker: garbage":
                self.broker.put_in(chance.choice((b"", b"{", b"[[{}],{},{}]", b"[[7],{},{}]")))
            elif fate == "broker: forged":
                self.broker.put_in(self._forged())
            else:
                wiped = fate == "broker: queues wiped"
                self.broker.restart(chance.random() * 20, wiped=wiped)
        return 2.0 + 6 * chance.random()

    def _forged(self) -> bytes:
        """A well-formed message that nobody of ours sent."""
        chance = self.chance
        ids = [uuid7(self.now_ms, chance.getrandbits(74)), *self.callers.jobs]
        some = chance.sample(ids, min(len(ids), chance.randint(1, 3)))
        version = chance.choice(
            [uuid7(self.now_ms, chance.getrandbits(74)), *sorted(self.versions)]
        )
        return orjson.dumps([[{"v": 1, "version": version, "jobs": some}], {}, {}])

    # --- the run

    def _push_models(self) -> None:
        for tenant in TENANTS:
            version_id = uuid7(self.now_ms, self.chance.getrandbits(74))
            self.versions.add(version_id)
            with self.inner.begin() as tx:
                tx.models.push(
                    tenant,
                    NewVersion(
                        version_id,
                        "squares",
                        ModelFormat.KERAS,
                        "0" * 64,
                        1,
                        f"models/{version_id}",
                        SIGNATURE.to_json(),
                    ),
                )

    def run(self) -> Ran:
        """Faults, then calm. ``Broken`` when an invariant does not hold."""
        with virtual(self):
            scheduler = self.scheduler
            end_ms = scheduler.now_ms + FAULTY_S * 1000
            scheduler.most_steps = FAULTY_STEPS
            while scheduler.steps < FAULTY_STEPS and scheduler.turn(end_ms):
                pass
            self._calm()
            self.invariants.at_the_end()
        states = Counter(row["state"] for row in self.camera().ends.values())
        self.close()
        return Ran(
            self.seed, scheduler.steps, self.happenings.count, self.happenings.faults, states
        )

    def close(self) -> None:
        """Nothing is looked at any more."""
        self.inner.close()
        self.camera.close()

    def _calm(self) -> None:
        scheduler = self.scheduler
        self.faults.on = False
        scheduler.most_steps = math.inf
        self.callers.calls = 0
        self.database_down_until_ms = self.objects_down_until_ms = 0
        self.broker.down_until_ms = min(self.broker.down_until_ms, self.now_ms)
        self.happenings.note(self.now_ms, "", "--- calm ---")
        end_ms, most = scheduler.now_ms + CALM_S * 1000, scheduler.steps + CALM_STEPS
        while not self._quiet() and scheduler.steps < most and scheduler.turn(end_ms):
            pass

    def _quiet(self) -> bool:
        if self.scheduler.steps % 8:
            return False
        broker = self.broker
        return (
            not self.camera().live
            and all(one["completed_at"] for one in self.camera().groups.values())
            and not any(broker.queues.values())
            and not any(consumer.unacked for consumer in broker.consumers)
        )


class _Poll:
    """``select.poll`` for sockets that do not exist."""

    def register(self, sock: Any, _events: int) -> None:
        self._sock = sock

    def poll(self, _timeout: int) -> list[int]:
        return [1] if self._sock.readable() else []


@contextmanager
def virtual(world: World) -> Iterator[None]:
    """Chance, the wire, the encoder and the ledger's file are the world's."""

    def connect(name: str, _timeout_s: float) -> Any:
        processes = (world.api.process, *(one.process for one in world.keepers))
        return world.broker.connect(next(one for one in processes if one.name == name))

    def encoded(batch: Any) -> dict[Any, Any]:
        rows = dict(batch.faults)
        for segment in batch.segments:
            rows.update(zip(segment.refs, segment.outputs["y"], strict=True))
        return rows

    with (
        mock.patch.object(
            storage.clock, "secrets", SimpleNamespace(randbits=world.chance.getrandbits)
        ),
        mock.patch.object(channel, "connect", connect),
        mock.patch.object(channel, "select", SimpleNamespace(poll=_Poll, POLLIN=1)),
        mock.patch.object(answers, "_encode", encoded),
        mock.patch.object(supervisor, "read", lambda ledger: ledger.said()),
    ):
        yield
