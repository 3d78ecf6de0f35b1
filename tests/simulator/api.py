"""The API process and its callers: submit, repeat, cancel, retry, groups; and what they were told.

A caller whose request was not answered asks again with the same key, now and then. What it was
told is what the invariants hold the system to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson

from producers.settings import ApiSettings
from producers.submission import Submission
from storage.database import Transaction
from storage.records.errors import Conflict, ForebayError, Gone, NotFound
from storage.records.ids import uuid7
from storage.records.jobs import Job
from tests.simulator import questions
from tests.simulator.clients import Database, Objects
from tests.simulator.relaying import SteppedRelay
from tests.simulator.scheduler import Process

if TYPE_CHECKING:
    from tests.simulator.world import World

TENANTS = ("alice", "bob")
SETTINGS = ApiSettings(inline_input_bytes=24)
WEBHOOK = "https://hooks.example.com/done"


@dataclass(slots=True, eq=False)
class Request:
    """One submission, as its caller remembers it."""

    tenant: str
    key: str | None
    jobs: list[dict[str, Any]]
    grouped: bool
    answered: tuple[str, ...] | None = None  # ids
    group_id: str | None = None
    tries: int = 0


class Api:
    """One API process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = process = Process(world.scheduler, "api")
        self.database = Database(world, process)
        self.relay = SteppedRelay(world, process, self.database)
        self.submission = Submission(
            cast(Any, self.database),
            Objects(world, process),
            SETTINGS,
            process,
            self.relay.poke,
            express=self.relay,
            chance=world.chance.getrandbits,
        )
        self.thread = process.thread("callers", self._next)

    def _next(self) -> float | None:
        callers = self.world.callers
        try:
            callers.act(self)
        except ForebayError as refused:
            self.world.happenings.note(self.world.now_ms, "api", f"answers {refused.stable_code}")
        return callers.pause_s()


class Callers:
    """Everybody outside; outlives the API process."""

    def __init__(self, world: World) -> None:
        self.world, self.chance = world, world.chance
        self.serial = 0
        self.budget = self.chance.randint(5, 11)  # jobs
        self.requests: list[Request] = []
        self.jobs: dict[str, tuple[str, str]] = {}  # id → tenant, custom id: what was answered
        self.asked: dict[str, tuple[str, int]] = {}  # custom id → tenant, number
        self.by_key: dict[tuple[str, str], tuple[str, ...]] = {}
        self.cancelled: set[str] = set()
        self.calls = self.chance.randint(12, 22)
        self.filters: list[tuple[str, str, str]] = []  # tenant, type, endpoint

    def pause_s(self) -> float | None:
        """Until somebody calls again; None: nobody does."""
        self.calls -= 1
        if self.calls <= 0:
            return None
        return self.chance.choice((0.0, 0.01, 0.1, 1.0, 4.0, self.chance.random() * 10))

    def register(self, tx: Transaction) -> None:
        """Endpoints that want to be told."""
        for tenant, types in (("alice", ("*",)), ("bob", ("job.succeeded", "job.failed"))):
            if self.chance.random() < 0.3:
                continue
            endpoint_id = uuid7(self.world.now_ms, self.chance.getrandbits(74))
            tx.webhooks.add(tenant, endpoint_id, WEBHOOK, types)
            self.filters += ((tenant, one, endpoint_id) for one in types)

    def wanted(self, tenant: str, kind: str, own: str | None) -> set[str]:
        """Endpoints that asked to be told of it; ``own`` is what a job or group brought along."""
        found = {to for whose, one, to in self.filters if whose == tenant and one in ("*", kind)}
        return found if own is None else found | {own}

    def act(self, api: Api) -> None:
        open_ones = [one for one in self.requests if one.answered is None and one.tries < 4]
        acts: list[Callable[[], None]] = []
        if self.budget > 0:
            acts += [lambda: self._submit(api, self._new())] * 4
        if open_ones:
            acts += [lambda: self._submit(api, self.chance.choice(open_ones))] * 2
        if self.requests:
            acts.append(lambda: self._submit(api, self.chance.choice(self.requests)))
        if self.jobs:
            acts += [lambda: self._cancel(api), lambda: self._again(api), lambda: self._look(api)]
        if any(one.group_id for one in self.requests):
            acts.append(lambda: self._cancel_group(api))
        if acts:
            self.chance.choice(acts)()

    # --- what they do

    def _new(self) -> Request:
        chance = self.chance
        tenant = chance.choice(TENANTS)
        grouped = chance.random() < 0.35
        count = min(self.budget, chance.randint(2, 4)) if grouped else 1
        self.budget -= count
        key = f"key-{len(self.requests)}" if chance.random() < 0.7 else None
        request = Request(tenant, key, [self._job(tenant) for _ in range(count)], grouped)
        self.requests.append(request)
        return request

    def _job(self, tenant: str) -> dict[str, Any]:
        chance = self.chance
        self.serial += 1
        kind = chance.choices((0, 1, 2, 3), (85, 6, 5, 4))[0]
        number = questions.question(self.serial, kind, large=chance.random() < 0.2)
        custom_id = f"{tenant}-{self.serial}"
        self.asked[custom_id] = tenant, number
        job: dict[str, Any] = {
            "model": "squares",
            "input": {"tensor": [number]},
            "custom_id": custom_id,
            "priority": chance.choice((0, 5, 5, 5, 9)),
            "max_attempts": chance.choice((2, 3, 3)),
        }
        if chance.random() < 0.2:
            job["webhook"] = WEBHOOK
        if chance.random() < 0.12:
            job["expires_in_s"] = chance.choice((5, 20, 60))
        if chance.random() < (0.8 if self.world.late else 0.15):
            job["run_timeout_s"] = 5 if self.world.late else chance.choice((3, 8, 20))
        return job

    def _submit(self, api: Api, request: Request) -> None:
        request.tries += 1
        note = self.world.happenings.note
        if request.grouped:
            own = {"webhook": WEBHOOK} if len(request.jobs) == 3 else {}
            body = orjson.dumps({"jobs": request.jobs, **own})
            many = api.submission.many(request.tenant, body, request.key)
            request.group_id = many.group_id
            found = list(many.jobs)
        else:
            one = api.submission.one(request.tenant, orjson.dumps(request.jobs[0]), request.key)
            found = [(one.job.id, one.job.custom_id)]
        ids = tuple(job_id for job_id, _ in found)
        note(self.world.now_ms, "caller", f"accepted {[i[-6:] for i in ids]} key {request.key}")
        self._accepted(request, ids, found)

    def _accepted(
        self, request: Request, ids: tuple[str, ...], found: list[tuple[str, str | None]]
    ) -> None:
        asked = [job["custom_id"] for job in request.jobs]
        self.world.check([custom for _, custom in found] == asked, "an answer is another request's")
        if request.key is not None:
            before = self.by_key.setdefault((request.tenant, request.key), ids)
            self.world.check(before == ids, f"{request.key} was accepted twice: {before}, {ids}")
        request.answered = ids
        for job_id, custom_id in found:
            assert custom_id is not None
            self.jobs[job_id] = request.tenant, custom_id

    def _some_job(self) -> tuple[str, str]:
        job_id = self.chance.choice(list(self.jobs))
        return self.jobs[job_id][0], job_id

    def _cancel(self, api: Api) -> None:
        tenant, job_id = self._some_job()
        if self.chance.random() < 0.5:
            return
        self.cancelled.add(job_id)
        if self.chance.random() < 0.2:
            with api.database.begin() as tx:
                other = TENANTS[tenant == TENANTS[0]]
                self.world.check(
                    tx.jobs.request_cancel(other, job_id) is None, "a foreign tenant may cancel"
                )
        with api.database.begin() as tx:
            tx.jobs.request_cancel(tenant, job_id)
        self.world.happenings.note(self.world.now_ms, "caller", f"cancelled {job_id[-6:]}")

    def _cancel_group(self, api: Api) -> None:
        groups = [one for one in self.requests if one.group_id]
        request = self.chance.choice(groups)
        if self.chance.random() < 0.6:
            return
        assert request.group_id is not None and request.answered is not None
        self.cancelled.update(request.answered)
        with api.database.begin() as tx:
            tx.jobs.cancel_group(request.tenant, request.group_id)
        self.world.happenings.note(self.world.now_ms, "caller", "cancelled a group")

    def _again(self, api: Api) -> None:
        tenant, job_id = self._some_job()
        key = f"again-{job_id}"
        try:
            accepted = api.submission.again(tenant, job_id, key)
        except (Conflict, Gone, NotFound):
            return
        new = accepted.job
        assert new.custom_id is not None
        before = self.by_key.setdefault((tenant, key), (new.id,))
        self.world.check(before == (new.id,), f"a retry of {job_id} was accepted twice")
        self.jobs[new.id] = tenant, new.custom_id
        self.world.happenings.note(self.world.now_ms, "caller", f"retried {job_id[-6:]}")

    def _look(self, api: Api) -> None:
        tenant, job_id = self._some_job()
        with api.database.read() as tx:
            mine: Job | None = tx.jobs.get(tenant, job_id)
            foreign = tx.jobs.get(TENANTS[tenant == TENANTS[0]], job_id)
        self.world.check(mine is not None, f"{job_id} was accepted and is not there")
        self.world.check(foreign is None, f"{job_id} is seen by a foreign tenant")
