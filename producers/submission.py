"""Submitting: validate, deduplicate, admit, and write jobs in one transaction.

The order is what makes a 202 durable and a refusal free: everything that can be wrong is found in
one read transaction before anything is written; large inputs are put as one pack (whose row says
``writing`` from before the put); then one transaction writes the jobs, remembers the idempotency
key and makes the pack live. Only after its commit the caller is answered and the relay poked.
The broker has no part in it. How single jobs share a transaction is said in ``singles``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from producers.admission import Admission
from producers.bulk_retries import Again, check_retryable, failed_rows_of, not_retryable, resumed
from producers.collection import parse_body
from producers.drafting import Drafting
from producers.express import Express, booking
from producers.inputs import InputStore
from producers.repeats import recall, remember, repeat_of
from producers.requests import read_many, read_one
from producers.settings import ApiSettings
from producers.singles import (
    Accepted,
    Answer,
    Asked,
    Estimate,
    Singles,
    SinglesParts,
    input_gone,
    replayed,
)
from storage.clock import Clock, random_bits
from storage.database import Database, Transaction
from storage.objects import Objects
from storage.records.bulk import BulkSpec, payload_of, spec_of
from storage.records.errors import NotFound
from storage.records.jobs import (
    BULK_KINDS,
    Job,
    JobError,
    JobKind,
    Millis,
    NewJob,
    PackSlice,
)
from storage.records.models import check_there
from storage.records.training import parent_of

__all__ = ["Accepted", "AcceptedMany", "Answer", "Asked", "Submission"]

MEMBERS_PER_READ = 2_000


@dataclass(frozen=True, slots=True)
class AcceptedMany:
    """A group of jobs, durable: ids and custom ids in the order of the request."""

    group_id: str
    jobs: Sequence[tuple[str, str | None]]
    replayed: bool = False
    estimated_start_at: Millis | None = None


def _unknown(*_: object) -> None:
    """Nobody estimates here."""


class Submission:
    """Blocking, but for ``read``; called from the submit lane. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        settings: ApiSettings,
        clock: Clock,
        poke: Callable[[], None],
        *,
        express: Express | None = None,
        estimate: Estimate = _unknown,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        self._database = database
        self._settings = settings
        self._poke = poke
        self._express = express
        self._estimate = estimate
        self._admission = Admission(settings.max_backlog_jobs, clock.monotonic_s)
        self._drafting = Drafting(settings, clock.monotonic_s, chance=chance)
        self._inputs = InputStore(
            database,
            objects,
            inline_bytes=settings.inline_input_bytes,
            keep_days=settings.retention_days,
        )
        self._singles = Singles(
            SinglesParts(
                database=database,
                drafting=self._drafting,
                inputs=self._inputs,
                admission=self._admission,
                express=express,
                idempotency_ttl_ms=settings.idempotency_ttl_s * 1000,
                estimate=estimate,
                wrote=self._admission.accepted,
                poke=poke,
            )
        )

    @staticmethod
    def read(tenant: str, body: bytes, key: str | None) -> Asked:
        """What the body of ``POST /v1/jobs`` asks for, as far as it shows by itself."""
        parsed = parse_body(body)
        return Asked(tenant, read_one(parsed), repeat_of("jobs", key, parsed))

    def together(self, asked: Sequence[Asked]) -> list[Answer]:
        """Single jobs that arrived together: an answer for each, in their order."""
        return self._singles.submit(asked)

    def one(self, tenant: str, body: bytes, key: str | None) -> Accepted:
        """``POST /v1/jobs``, by itself."""
        (answer,) = self.together([self.read(tenant, body, key)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def failed(self, asked: Asked, error: JobError) -> Job:
        """A job that has failed as soon as it is written, for whoever looks for it: what it was to
        read turned out wrong before it was accepted. Nobody ever sees it wait."""
        tenant, repeat = asked.tenant, asked.repeat
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return replayed(tx, tenant, known).job
            facts = self._drafting.look(tx, tenant, [asked.request])
        (job_id,) = self._drafting.ids(1, facts.now)
        job = self._drafting.one(asked.request, facts, job_id)
        with self._database.begin() as tx:
            known = remember(tx, tenant, repeat, job_id, self._settings.idempotency_ttl_s)
            if known is not None:
                return replayed(tx, tenant, known).job
            tx.jobs.submit(tenant, [job])
            tx.bulk.create(tenant, [job])
            tx.jobs.fail([job_id], error)
            written = tx.jobs.get(tenant, job_id)
        assert written is not None
        return written

    def many(self, tenant: str, body: bytes, key: str | None) -> AcceptedMany:
        """``POST /v1/jobs/many``: all or nothing."""
        parsed = parse_body(body)
        asked = read_many(parsed, most=self._settings.max_jobs_per_request)
        repeat = repeat_of("jobs/many", key, parsed)
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return self._replay_many(tx, tenant, known)
            self._admission.check(tx, tenant, len(asked.jobs))
            facts = self._drafting.look(tx, tenant, asked.jobs)
        jobs = self._drafting.many(asked, facts)
        group_id, pack_id = self._drafting.ids(2, facts.now)
        placed = self._inputs.place(tenant, jobs, pack_id, facts.now)
        with booking(self._express) as booked, self._database.begin() as tx:
            known = remember(tx, tenant, repeat, group_id, self._settings.idempotency_ttl_s)
            if known is not None:
                return self._replay_many(tx, tenant, known)
            placed.publish(tx)
            booked.take_all(tenant, placed.jobs)
            tx.groups.create(tenant, group_id, len(placed.jobs), webhook=asked.webhook)
            is_express = bool(booked.ids)
            tx.jobs.submit(tenant, placed.jobs, group_id=group_id, published=is_express)
        self._admission.accepted(tenant, len(placed.jobs))
        if not is_express:
            self._poke()
        members = [(job.id, job.custom_id) for job in placed.jobs]
        return AcceptedMany(
            group_id, members, estimated_start_at=self._start_of(tenant, placed.jobs)
        )

    def again(
        self, tenant: str, job_id: str, key: str | None, body: Mapping[str, Any] | None = None
    ) -> Accepted:
        """``POST /v1/jobs/{id}/retry``: a new job with the same input, version and wishes."""
        repeat = repeat_of(f"jobs/{job_id}/retry", key, body or None)
        wishes = Again.read(body or {})
        with self._database.read() as tx:
            if (known := recall(tx, tenant, repeat)) is not None:
                return replayed(tx, tenant, known)
            old = tx.jobs.get(tenant, job_id)
            if old is None:
                raise NotFound(f"there is no job {job_id}", code="job_not_found")
            if not wishes.failed_rows:
                check_retryable(old)
            payload = tx.jobs.payload(tenant, job_id)
            if payload is None:
                raise input_gone()
            _check_version(tx, old, payload)
            webhook = tx.jobs.webhook(tenant, job_id)
            self._admission.check(tx, tenant, 1)
            (new_id,) = self._drafting.ids(1, tx.now())
            if wishes.failed_rows and old.kind is not JobKind.BULK:
                says = f"the job is one of {old.kind.value}: failed_rows is for bulk jobs"
                raise not_retryable(says)
            if old.kind in BULK_KINDS:
                payload = payload_of(self._spec_again(tx, old, payload, wishes, new_id))
            version_id = old.version_id
            if old.kind is JobKind.TRAINING:
                (version_id,) = self._drafting.ids(1, tx.now())  # from the beginning, into its own
        job = NewJob(
            id=new_id,
            kind=old.kind,
            model_name=old.model_name,
            version_id=version_id,
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
            webhook=webhook,
        )
        return self._singles.write(tenant, job, repeat)

    def _spec_again(
        self, tx: Transaction, old: Job, payload: bytes | PackSlice, wishes: Again, new_id: str
    ) -> BulkSpec:
        """What a bulk job or an evaluation is to do that takes the place of another."""
        assert isinstance(payload, bytes), "a bulk job's payload is never in a pack"
        spec, run = spec_of(payload), tx.bulk.run(old.id, tenant=old.tenant)
        if run is not None:
            run = replace(run, progress=tx.bulk.count(old.id))
        if not wishes.failed_rows:
            return resumed(spec, old, run)
        spec = failed_rows_of(spec, old, run, wishes, new_id)
        self._drafting.check_output(spec)
        return spec

    def _start_of(self, tenant: str, jobs: Sequence[NewJob]) -> Millis | None:
        """When the first of a group's jobs may start."""
        alike = Counter((job.pool, job.priority, job.version_id) for job in jobs)
        starts = [
            self._estimate(pool, tenant, priority, count, version_id)
            for (pool, priority, version_id), count in alike.items()
        ]
        return min((start_at for start_at in starts if start_at is not None), default=None)

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


def _check_version(tx: Transaction, old: Job, payload: bytes | PackSlice) -> None:
    """Whether what a job was for can be had again: its version, or the one that a training began
    with. ``Gone`` with code ``version_deleted`` if not."""
    version_id = parent_of(payload) if old.kind is JobKind.TRAINING else old.version_id
    version = tx.models.by_id(version_id) if version_id else None
    if version is not None:
        check_there(version)
