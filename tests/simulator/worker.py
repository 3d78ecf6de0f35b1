"""A worker: one device process out of the product's own parts, and the supervisor beside it.

Real: intake, claiming, sessions, the ready window with its batcher, the stock of packs, storing,
committing, the settlement of a death. Played: Celery's consumer, the decoder (a number out of JSON)
and the device (an answer that is a function of the question).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import orjson

from storage.queue.envelope import EnvelopeError, decode
from storage.queue.lanes import DEVICE_LANES, Lane, lane_of, queue_name
from storage.records.errors import ItemError
from storage.records.sessions import NewSession
from tests.simulator import questions
from tests.simulator.clients import Database, Objects
from tests.simulator.fake_broker import Consumer
from tests.simulator.scheduler import Crashed, OneRound, Process, VirtualCondition, VirtualEvent
from workers.inference.batch import Batch, Fault, Segment, Work
from workers.inference.batching import Candidate, Limits, companions_of, latest_start_s
from workers.inference.claim import Claimed, Claimer
from workers.inference.credit import Credit
from workers.inference.finish import Finisher, Stored
from workers.inference.gate import TROUBLE, Gate
from workers.inference.handoff import Handoff
from workers.inference.intake import Closing, Intake
from workers.inference.ledger import OnDevice, OnPass
from workers.inference.pack_stock import PackStock
from workers.inference.payloads import Payloads
from workers.inference.ready import Choice, Ready
from workers.inference.session import SessionKeeper
from workers.inference.spans import RowRef
from workers.inference.versions import Standing
from workers.supervisor import LoadingDeaths, settle_death

if TYPE_CHECKING:
    from tests.simulator.world import World

POOL = "default"
LEASE_TTL_S, RENEW_EVERY_S = 15.0, 5.0
SHUT_OUT_S = 2.0
MAX_BATCH = 4
LIMITS = Limits(sizes=(1, 2, 4), max_cost=None, objective_s=1.0)


class Lease:
    """A model that is always there."""

    def __init__(self, version_id: str) -> None:
        self.version_id, self.model = version_id, self

    def share(self) -> Lease:
        return self

    def release(self) -> None:
        """Nothing is freed."""


class AllLoaded:
    """Every version that exists is loaded."""

    def __init__(self, known: set[str]) -> None:
        self._known = known

    def standing(self, version_id: str) -> Standing:
        return Standing.LOADED if version_id in self._known else Standing.NOBODYS

    def is_loaded(self, version_id: str) -> bool:
        return version_id in self._known

    def acquire(self, version_id: str) -> Lease | None:
        return Lease(version_id) if version_id in self._known else None

    def want(self, version_id: str) -> None:
        """It is there."""

    forget = reconsider = want


class NoMeters:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Ledger:
    """Who is on the device, in memory that outlives the process; a path to ``settle_death``."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.passes: tuple[OnPass, ...] = ()
        self.there = True

    def session(self, session_id: str) -> None:
        self.session_id = session_id

    def said(self) -> OnDevice | None:
        return OnDevice(self.session_id, None, self.passes) if self.there else None

    def unlink(self) -> None:
        self.there = False


class HeldIntake(Intake):
    """The product's. Between letting go of ids and committing them much time may pass: for a lock,
    for a connection that is free."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(process)
        self._world, self._process = world, process

    def detach(self, ids: Iterable[str]) -> Closing:
        closing = super().detach(ids)
        world = self._world
        if world.faults.happens("commit held up"):
            world.happenings.fault(world.now_ms, self._process.name, "commit held up")
            seconds = world.chance.choice((9, 11, 13) if world.late else (5, 10, 15, 20, 60))
            world.scheduler.sleep(self._process, seconds)
        return closing


class Delivery:
    """One message, as the pool holds it."""

    def __init__(self, device: Device, consumer: Consumer, tag: int) -> None:
        self._device, self._consumer, self._tag = device, consumer, tag

    def settled(self) -> None:
        self._device.answers.append((self._consumer, self._tag, False))

    def returned(self) -> None:
        self._device.answers.append((self._consumer, self._tag, True))


class Device:
    """One device process; born with its threads."""

    def __init__(self, world: World, name: str, skew_ms: int, ledger: Ledger) -> None:
        self.world, self.ledger = world, ledger
        self.process = process = Process(world.scheduler, name, skew_ms)
        self.database, self.objects = Database(world, process), Objects(world, process)
        database = cast(Any, self.database)
        self.intake = HeldIntake(world, process)
        self.credit = Credit(MAX_BATCH)
        self.ready = Ready(process, lambda version_id: LIMITS, self.credit, self.intake.poke)
        self.gate = Gate((self.database.ping, self.objects.probe), process)
        self.sessions = SessionKeeper(
            database,
            process,
            lambda session_id: NewSession(session_id, name, name, "cpu", POOL),
            lease_ttl_s=LEASE_TTL_S,
            renew_every_s=RENEW_EVERY_S,
            on_open=ledger.session,
            stats=dict,
            on_renewed=lambda: None,
        )
        self.stock = PackStock(database, process, retention_days=30)
        self.stock._changed = cast(Any, VirtualCondition(process))
        versions, meters = cast(Any, AllLoaded(world.versions)), cast(Any, NoMeters())
        self.claimer = Claimer(
            database,
            self.intake,
            versions,
            self.sessions,
            self.gate,
            process,
            self.credit,
            self.ready,
            self.stock,
            meters,
            max_batch=MAX_BATCH,
            wait_patience_s=30.0,
        )
        self.payloads = Payloads(database, self.objects)
        self.finisher = Finisher(
            database,
            self.objects,
            self.gate,
            process,
            self.sessions.rate,
            intake=self.intake,
            credit=self.credit,
            stock=self.stock,
            ready=self.ready,
            meters=meters,
            announce=None,
            put_patience_s=10.0,
            retry_back_off_s=1.0,
        )
        self.finisher.hurry = cast(Any, VirtualEvent(process))
        self.finisher._putters = cast(Any, world.putters(self.objects))
        self.claimed: Handoff[Claimed] = Handoff(1)
        self.computed = {lane: Handoff[Batch](1) for lane in Lane}
        self.stored: Handoff[Stored] = Handoff(1)
        self.answers: list[tuple[Consumer, int, bool]] = []  # the last: to be requeued
        self.consumer: Consumer | None = None
        self._claim_from_ms = self._run_from_ms = 0  # nothing could be claimed, run before
        self._start()

    def _start(self) -> None:
        thread = self.process.thread
        self._session = thread("session", self._renew)
        self._consume = thread("consume", self._take, self._may_take, first_s=0.1)
        thread("claim", self._claim, self._may_claim)
        thread("decode", self._decode, lambda: not self.claimed.has_room)
        thread("device", self._run, self._may_run)
        thread("store", self._store, lambda: self.stored.has_room and self._to_store() is not None)
        thread("commit", self._commit, lambda: not self.stored.has_room)
        thread("gate", self._probe, lambda: not self.gate.is_open)
        thread("packs", self._open_packs, lambda: self.stock._wanted)

    # --- the consumer, as Celery and the pool do it

    def _may_take(self) -> bool:
        consumer, broker = self.consumer, self.world.broker
        if consumer is None or consumer.lost:
            return not broker.down
        if self._shut_out():
            return bool(self.answers or self.intake._waiting._lines)
        return bool(self.answers) or broker.waiting(consumer)

    def _shut_out(self) -> bool:
        """Whether messages are left to others, as the worker's consumer does it."""
        return self.gate.closed_for_s > SHUT_OUT_S

    def _take(self) -> float | None:
        world, process = self.world, self.process
        broker = world.broker
        if self.consumer is not None and world.faults.happens("connection lost"):
            world.happenings.fault(world.now_ms, process.name, "connection lost")
            broker.lose(self.consumer)
        if self.consumer is not None and self.consumer.lost:
            self.consumer = None
            self.answers.clear()
            self.intake.flush(connection_lost=True)
        if self.consumer is None:
            if broker.down:
                return 1.0
            queues = [queue_name(POOL, lane) for lane in Lane]
            self.consumer = broker.subscribe(process, queues, self._consume.wake)
        world.boundary(process, "before an ack")
        if shut_out := self._shut_out():
            self.intake.give_back()
        while self.answers:
            broker.settle(*self.answers.pop(0))
        if shut_out:
            return 1.0
        taken = broker.take(self.consumer)
        if taken is not None:
            self._offer(self.consumer, *taken)
            return None
        until_ms = broker.delayed_until_ms(self.consumer)
        return None if until_ms is None else (until_ms - world.now_ms) / 1000

    def _offer(self, consumer: Consumer, tag: int, stored: Any) -> None:
        try:
            (body,), _, _ = orjson.loads(stored.body)
            wake_up = decode(body)
        except (EnvelopeError, ValueError, TypeError):
            self.world.broker.settle(consumer, tag)  # rejected: set aside
            return
        self.intake.offer(
            Delivery(self, consumer, tag),
            wake_up.version_id,
            wake_up.job_ids,
            lane=lane_of(stored.queue),
        )

    # --- the pipeline's loops, one turn each

    def _renew(self) -> float:
        try:
            self.sessions.tick()
        except TROUBLE:
            return 1.0
        return RENEW_EVERY_S

    def _may_claim(self) -> bool:
        return (
            self.world.now_ms >= self._claim_from_ms
            and self.claimed.has_room
            and bool(self.intake._waiting._lines)
        )

    def _claim(self) -> float | None:
        if self.sessions.current() is None:
            self._session.wake()
        lanes = list(DEVICE_LANES)
        self.world.chance.shuffle(lanes)
        for lane in lanes:
            claimed = self.claimer.next(lane, 0.0)
            if claimed is not None:
                self.claimed.put(claimed)
                return None
        self._claim_from_ms = self.world.now_ms + 500
        return 0.6 if self.intake._waiting._lines else None

    def _decode(self) -> None:
        claimed = self.claimed.get(0.0)
        if claimed is None:
            return
        try:
            fetched = self.payloads.fetch([work.job for work in claimed.works])
        except Exception as trouble:
            self.claimer.trouble(trouble)
            for work in claimed.works:
                self.credit.spend(work.line, -work.credit)
            self.claimer.give_back(claimed.works)
            return
        for work in claimed.works:
            self._hand_on(work, fetched[work.job.id], claimed)

    def _hand_on(self, work: Work, payload: bytes | ItemError, claimed: Claimed) -> None:
        job = work.job
        if isinstance(payload, ItemError):
            work.refused = payload
        else:
            number = questions.read(payload)
            work.rows = [cast(Any, number)]
            if questions.kind_of(number) == questions.REFUSED:
                work.refused = ItemError("this is no question", code="bad_item")
        if work.refused is not None:
            self.credit.spend(work.line, -work.credit)
            self.computed[work.line.lane].put(Batch([work]))
            return
        pass_s = self.ready.estimate_s(job.version_id, "", 1)
        candidate = Candidate(
            job_id=job.id,
            tenant=job.tenant,
            version_id=job.version_id,
            shape="",
            rows=1,
            cost=1.0,
            rank_ms=job.rank,
            bulk=job.is_bulk,
            latest_start_s=latest_start_s(job, work.claimed_s, pass_s),
            companions=companions_of(job),
            payload=work,
        )
        self.ready.add(claimed.leases[job.version_id].share(), [candidate])

    def _may_run(self) -> bool:
        return (
            self.world.now_ms >= self._run_from_ms
            and bool(self.ready._waiting)
            and any(handoff.has_room for handoff in self.computed.values())
        )

    def _run(self) -> float | None:
        choice = self.ready.choose(0, lambda lane: self.computed[lane].room, 0.0)
        for work in choice.expired:
            work.expired = True
            self.computed[work.line.lane].put(Batch([work]))
        if choice.pick is not None:
            self.computed[choice.lane].put(self._forward(choice))
        elif not choice.expired:
            self._run_from_ms = self.world.now_ms + 300
            return 0.4 if self.ready.waiting() else None
        return None

    def _forward(self, choice: Choice) -> Batch:
        world, process, works = self.world, self.process, choice.works
        batch = Batch(works, choice.lease)
        session_id = works[-1].session_id
        mine = tuple(work.job.id for work in works if work.session_id == session_id)
        for work in works:
            work.entered_device = True
        self.ledger.passes = (OnPass(session_id, mine),)
        world.happenings.note(world.now_ms, process.name, f"forward of {len(works)}")
        slow = () if world.late else (2.0, world.chance.random() * 25)
        seconds = world.chance.choice((0.01, 0.05, 0.3, *slow))
        began_ms = world.now_ms
        world.scheduler.sleep(process, seconds)
        numbers = [cast(int, work.rows[0]) for work in works]
        if any(questions.kind_of(number) == questions.POISON for number in numbers):
            world.happenings.fault(world.now_ms, process.name, "a poison item kills its process")
            world.kill(process)
            raise Crashed
        world.boundary(process, "forward")
        self.ledger.passes = ()
        assert choice.pick is not None
        self.ready.finished(0, choice.pick, (world.now_ms - began_ms) / 1000)
        outputs, refs = [], []
        for index, (work, number) in enumerate(zip(works, numbers, strict=True)):
            if questions.kind_of(number) == questions.FAILING:
                work.fault = Fault("model_error", "the model failed on it")
            else:
                outputs.append(questions.answer(number))
                refs.append(RowRef(index, 0))
        batch.segments.append(Segment(cast(Any, {"y": outputs}), tuple(refs)))
        return batch

    def _to_store(self) -> Handoff[Batch] | None:
        return next((one for one in self.computed.values() if one._things), None)

    def _store(self) -> None:
        handoff = self._to_store()
        batch = handoff.get(0.0) if handoff else None
        if batch is not None:
            self.stock.run(cast(Any, OneRound(self.process)))  # else ``take`` would wait for it
            self.stored.put(self.finisher.store(batch))

    def _commit(self) -> None:
        stored = self.stored.get(0.0)
        if stored is None:
            return
        try:
            self.finisher.commit(stored)
        except Exception as fault:
            self.world.unexpected(self.process, fault)
            for session_id in stored.shares:
                self.sessions.retire(session_id)

    def _probe(self) -> None:
        if not self.gate.is_open:
            self.gate._reopen(cast(Any, VirtualEvent(self.process)))

    def _open_packs(self) -> None:
        self.stock.run(cast(Any, OneRound(self.process)))


class Worker:
    """A supervisor and its child."""

    def __init__(self, world: World, name: str, skew_ms: int) -> None:
        self.world, self.name, self.skew_ms = world, name, skew_ms
        self.process = Process(world.scheduler, f"{name}-sup")
        self._database = Database(world, self.process)
        self._deaths = LoadingDeaths()
        self.device = Device(world, name, skew_ms, Ledger())
        self._settled = True
        self._waits = False
        self.thread = self.process.thread("supervise", self._look)

    def died(self) -> None:
        """The child is gone. Sometimes the whole host is: nobody settles anything then."""
        world, device = self.world, self.device
        if device.consumer is not None:
            world.broker.lose(device.consumer)
        ids = [job_id for one in device.ledger.passes for job_id in one.job_ids]
        if world.faults.on and world.chance.random() < 0.2:
            device.ledger.unlink()
            world.happenings.note(world.now_ms, self.name, "the host is lost")
        elif len(ids) == 1:
            world.invariants.solo_deaths[ids[0]] += 1
        self._settled, self._waits = False, True
        self.thread.due_ms = world.now_ms + 100 + world.chance.random() * 3_000

    def _look(self) -> float | None:
        if self.device.process.alive:
            return None
        if not self._settled:
            ledger = cast(Any, self.device.ledger)
            self._settled = settle_death(cast(Any, self._database), ledger, self._deaths)
            return 0.5 if self._settled else 2.0
        self.device = Device(self.world, self.name, self.skew_ms, Ledger())
        return None


class InlinePutters:
    """Puts that are over when somebody looks for them."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def begin(self, key: str, data: bytes) -> Any:
        from concurrent.futures import Future

        from workers.inference.putting import Putting

        begun: Future[None] = Future()
        try:
            self._objects.put(key, data)
        except Exception as trouble:
            begun.set_exception(trouble)
        else:
            begun.set_result(None)
        return Putting(self._objects.put, key, data, begun)

    def close(self) -> None:
        """No threads."""
