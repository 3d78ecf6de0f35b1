"""Submitting: validate, deduplicate, admit, and write jobs in one transaction.

The order is what makes a 202 durable and a refusal free: everything that can be wrong is found in
one read transaction before anything is written; large inputs are put as one pack (whose row says
``writing`` from before the put); then one transaction writes the jobs, remembers the idempotency
key and makes the pack live. Only after its commit the caller is answered and the relay poked.
The broker has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from producers.admission import Admission
from producers.collection import parse_body
from producers.inputs import InputStore
from producers.references import Resolver
from producers.repeats import Repeat, recall, remember, repeat_of
from producers.requests import JobRequest, read_many, read_one
from producers.settings import ApiSettings
from storage.clock import Clock, random_bits
from storage.database import Database, Transaction
from storage.objects import Objects
from storage.records.errors import Conflict, ForebayError, Gone, NotFound
from storage.records.ids import uuid7_series
from storage.records.jobs import TERMINAL, Job, JobState, NewJob
from storage.records.models import ModelVersion

MEMBERS_PER_READ = 2_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """One job, durable. ``replayed``: the idempotency key had it already."""

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedMany:
    """A group of jobs, durable: ids and custom ids in the order of the request."""

    group_id: str
    jobs: Sequence[tuple[str, str | None]]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the read transaction found."""

    versions: dict[str, ModelVersion | ForebayError]
    files: set[str]
    now: int


@dataclass(frozen=True, slots=True)
class _Draft:
    """Checked and ready to be written. ``spare_id`` is one more id, for a group."""

    jobs: Sequence[NewJob]
    spare_id: str
    now: int


class Submission:
    """Blocking; called from the submit lane. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        settings: ApiSettings,
        clock: Clock,
        poke: Callable[[], None],
        *,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        self._database = database
        self._settings = settings
        self._poke = poke
        self._chance = chance
        self._admission = Admission(settings.max_backlog_jobs, clock.monotonic_s)
        self._resolver = Resolver(settings.ref_prefixes)
        self._inputs = InputStore(
            database,
            objects,
            inline_bytes=settings.inline_input_bytes,
            keep_days=settings.retention_days,
        )

    def one(self, tenant: str, body: bytes, key: str | None) -> Accepted:
        """``POST /v1/jobs``."""
        parsed = parse_body(body)
        requests = [read_one(parsed)]
        repeat = repeat_of("jobs", key, parsed)
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return self._replay_one(tx, tenant, known)
            facts = self._look(tx, tenant, requests)
        return self._write_one(tenant, self._draft(requests, facts, single=True), repeat)

    def many(self, tenant: str, body: bytes, key: str | None) -> AcceptedMany:
        """``POST /v1/jobs/many``: all or nothing."""
        parsed = parse_body(body)
        requests = read_many(parsed, most=self._settings.max_jobs_per_request)
        repeat = repeat_of("jobs/many", key, parsed)
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return self._replay_many(tx, tenant, known)
            facts = self._look(tx, tenant, requests)
        draft = self._draft(requests, facts, single=False)
        group_id = draft.spare_id
        placed = self._inputs.place(tenant, draft.jobs, self._new_id(draft.now), draft.now)
        with self._database.begin() as tx:
            known = remember(tx, tenant, repeat, group_id, self._settings.idempotency_ttl_s)
            if known is not None:
                return self._replay_many(tx, tenant, known)
            placed.publish(tx)
            tx.groups.create(tenant, group_id, len(placed.jobs))
            tx.jobs.submit(tenant, placed.jobs, group_id=group_id)
        self._wrote(tenant, len(placed.jobs))
        return AcceptedMany(group_id, [(job.id, job.custom_id) for job in placed.jobs])

    def again(self, tenant: str, job_id: str, key: str | None) -> Accepted:
        """``POST /v1/jobs/{id}/retry``: a new job with the same input, version and wishes."""
        repeat = repeat_of(f"jobs/{job_id}/retry", key, None)
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return self._replay_one(tx, tenant, known)
            old = tx.jobs.get(tenant, job_id)
            if old is None:
                raise NotFound(f"there is no job {job_id}", code="job_not_found")
            if old.state not in TERMINAL or old.state is JobState.SUCCEEDED:
                raise Conflict(
                    f"the job is {old.state.value}; only a failed, cancelled or expired one can be"
                    " retried",
                    code="not_retryable",
                )
            payload = tx.jobs.payload(tenant, job_id)
            if payload is None:
                raise Gone("the job's input was erased; submit it anew", code="input_gone")
            self._admission.check(tx, tenant, 1)
            now = tx.now()
        job = NewJob(
            id=self._new_id(now),
            kind=old.kind,
            model_name=old.model_name,
            version_id=old.version_id,
            version=old.version,
            pool=old.pool,
            payload=payload,
            priority=old.priority,
            custom_id=old.custom_id,
            metadata=old.metadata,
            expires_in_ms=max(1, old.expires_at - old.created_at),
            run_timeout_ms=old.run_timeout_ms,
            max_attempts=old.max_attempts,
            retry_of=old.id,
        )
        return self._write_one(tenant, _Draft([job], job.id, now), repeat)

    def _look(self, tx: Transaction, tenant: str, requests: Sequence[JobRequest]) -> _Facts:
        """All that a submit wants to know from the database, and whether there is room."""
        self._admission.check(tx, tenant, len(requests))
        versions = self._resolver.versions(tx, tenant, {request.model for request in requests})
        files = self._resolver.known_files(tx, tenant, requests)
        return _Facts(versions, files, tx.now())

    def _draft(self, requests: Sequence[JobRequest], facts: _Facts, *, single: bool) -> _Draft:
        """Everything that can be found wrong is found here, before anything is written."""
        now = facts.now
        resolved = self._resolver.check_inputs(requests, facts.versions, facts.files, single=single)
        ids = uuid7_series(len(requests) + 1, now, self._chance(80))
        jobs = [
            NewJob(
                id=ids[index],
                kind=request.kind,
                model_name=version.name,
                version_id=version.id,
                version=version.version,
                pool=self._settings.pool,
                payload=orjson.dumps(request.input),
                priority=request.priority,
                custom_id=request.custom_id,
                metadata=request.metadata,
                expires_in_ms=request.expires_in_ms,
                run_timeout_ms=request.run_timeout_ms,
                max_attempts=request.max_attempts,
            )
            for index, (request, version) in enumerate(zip(requests, resolved, strict=True))
        ]
        return _Draft(jobs, ids[-1], now)

    def _write_one(self, tenant: str, draft: _Draft, repeat: Repeat | None) -> Accepted:
        placed = self._inputs.place(tenant, draft.jobs, self._new_id(draft.now), draft.now)
        job = placed.jobs[0]
        with self._database.begin() as tx:
            known = remember(tx, tenant, repeat, job.id, self._settings.idempotency_ttl_s)
            if known is not None:
                return self._replay_one(tx, tenant, known)
            placed.publish(tx)
            tx.jobs.submit(tenant, placed.jobs)
            accepted = as_written(job, tenant, tx.now())
        self._wrote(tenant, 1)
        return Accepted(accepted)

    def _wrote(self, tenant: str, jobs: int) -> None:
        self._admission.accepted(tenant, jobs)
        self._poke()

    def _new_id(self, now: int) -> str:
        return uuid7_series(1, now, self._chance(80))[0]

    @staticmethod
    def _replay_one(tx: Transaction, tenant: str, job_id: str) -> Accepted:
        job = tx.jobs.get(tenant, job_id)
        if job is None:
            raise Gone("this key's job was erased", code="job_gone")
        return Accepted(job, replayed=True)

    @staticmethod
    def _replay_many(tx: Transaction, tenant: str, group_id: str) -> AcceptedMany:
        jobs: list[tuple[str, str | None]] = []
        while True:
            page = tx.groups.members(
                tenant, group_id, after_index=len(jobs) - 1, limit=MEMBERS_PER_READ
            )
            jobs += [(job.id, job.custom_id) for job in page]
            if len(page) < MEMBERS_PER_READ:
                return AcceptedMany(group_id, jobs, replayed=True)


def as_written(new: NewJob, tenant: str, now: int, group_id: str | None = None) -> Job:
    """The row that ``tx.jobs.submit`` wrote, without reading it back."""
    return Job(
        id=new.id,
        tenant=tenant,
        kind=new.kind,
        state=JobState.QUEUED,
        model_name=new.model_name,
        version=new.version,
        version_id=new.version_id,
        pool=new.pool,
        priority=new.priority,
        group_id=group_id,
        custom_id=new.custom_id,
        metadata=new.metadata,
        seq=0,
        epoch=0,
        attempts=0,
        max_attempts=new.max_attempts,
        losses=0,
        session_id=None,
        created_at=now,
        expires_at=now + new.expires_in_ms,
        not_before=now,
        published_at=None,
        started_at=None,
        run_deadline_at=None,
        run_timeout_ms=new.run_timeout_ms,
        cancel_requested_at=None,
        finished_at=None,
        error=None,
        result=None,
        retry_of=new.retry_of,
    )
