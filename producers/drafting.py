"""From a request to a row: what a submit looks up, and the job that comes of it.

Everything that can be found wrong is found here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from producers.evaluation_references import Earlier, filled, filled_if_good
from producers.evaluation_references import look as look_at_earlier
from producers.references import Resolver
from producers.requests import JobRequest, JobsRequest
from producers.settings import ApiSettings
from storage.clock import random_bits
from storage.database import Transaction
from storage.queue.lanes import training_pool
from storage.records import bulk, training
from storage.records.bulk import BulkSpec
from storage.records.errors import ForebayError
from storage.records.ids import uuid7_series
from storage.records.jobs import Job, JobKind, JobState, Millis, NewJob
from storage.records.models import ModelVersion
from storage.records.trials import Placement, Trial
from storage.records.webhook_guard import Guard

ASK_CLOCK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database says about one tenant's requests."""

    versions: dict[str, ModelVersion | ForebayError]
    trials: dict[str, Trial]  # by the reference that leads to them
    files: set[str]
    now: Millis
    earlier: Earlier = field(default_factory=Earlier)  # what evaluations refer to


class _Moment:
    """The database's clock for new ids, asked once a second and told by ours in between: a round
    trip less for most submits. What is written into rows is its own clock, asked in the write."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._asked: tuple[Millis, float] | None = None

    def now(self, tx: Transaction) -> Millis:
        here_s = self._monotonic_s()
        if self._asked is None or here_s - self._asked[1] > ASK_CLOCK_EVERY_S:
            self._asked = tx.now(), here_s
        there, asked_s = self._asked
        return there + int((here_s - asked_s) * 1000)


class Drafting:
    """Shared by the submit threads."""

    def __init__(
        self,
        settings: ApiSettings,
        monotonic_s: Callable[[], float],
        *,
        chance: Callable[[int], int] = random_bits,
    ) -> None:
        self._pool = settings.pool
        self._keep_ms = settings.retention_days * 86_400_000
        self._moment = _Moment(monotonic_s)
        self._resolver = Resolver(
            settings.ref_prefixes,
            Guard(settings.webhook_allow),
            output_prefixes=settings.output_prefixes,
        )
        self._chance = chance

    def look(self, tx: Transaction, tenant: str, requests: Sequence[JobRequest]) -> Facts:
        """All that these requests want to know, each thing asked once."""
        models = {request.reads_version for request in requests}
        names = {name for name in models if name}
        versions, trials = self._resolver.versions(tx, tenant, names)
        now = self._moment.now(tx)
        earlier = look_at_earlier(tx, tenant, requests)
        whole = [filled_if_good(request, earlier) for request in requests]
        files = self._resolver.known_files(tx, tenant, whole, now - self._keep_ms)
        return Facts(versions, trials, files, now, earlier)

    def one(self, request: JobRequest, facts: Facts, job_id: str) -> NewJob:
        """The job, or the error with its field."""
        request = filled(request, facts.earlier)
        (version,) = self._resolver.check_inputs(
            [request], facts.versions, facts.files, single=True
        )
        if request.training is not None:
            return self._training(request, version, job_id, facts.now)
        assert version is not None
        return self._job(request, version, job_id, facts.trials.get(request.model))

    def many(self, asked: JobsRequest, facts: Facts) -> list[NewJob]:
        """The jobs, or one error that names every wrong index."""
        requests = asked.jobs
        self._resolver.check_webhook(asked.webhook, "webhook")
        resolved = self._resolver.check_inputs(requests, facts.versions, facts.files, single=False)
        ids = self.ids(len(requests), facts.now)
        return [
            self._job(request, version, job_id, facts.trials.get(request.model))
            for request, version, job_id in zip(requests, resolved, ids, strict=True)
            if version is not None
        ]

    def check_output(self, spec: BulkSpec) -> None:
        """Whether this job may write where it is asked to."""
        self._resolver.check_output(spec.output.uri, spec.input.uris)

    def ids(self, count: int, now: Millis) -> list[str]:
        """New ids in ascending order."""
        return uuid7_series(count, now, self._chance(80))

    def _job(
        self, request: JobRequest, version: ModelVersion, job_id: str, trial: Trial | None
    ) -> NewJob:
        placed = Placement(version.id, version.version, None)
        if trial is not None and request.kind is JobKind.INFERENCE:
            placed = trial.place(job_id)
        return NewJob(
            id=job_id,
            kind=request.kind,
            model_name=version.name,
            version_id=placed.version_id,
            version=placed.version,
            arm_id=placed.arm_id,
            pool=self._pool,
            payload=orjson.dumps(request.input)
            if request.bulk is None
            else bulk.payload_of(request.bulk),
            **_wishes(request),
        )

    def _training(
        self, request: JobRequest, base: ModelVersion | None, job_id: str, now: Millis
    ) -> NewJob:
        """A training, whose version gets its number in the transaction that writes the job."""
        assert request.training is not None
        spec = request.training
        if base is not None:
            name = f"{base.name}:{base.version}"
            spec = replace(spec, network=replace(spec.network, version=name, version_id=base.id))
        (version_id,) = self.ids(1, now)
        return NewJob(
            id=job_id,
            kind=request.kind,
            model_name=request.model,
            version_id=version_id,
            version=0,
            pool=training_pool(self._pool),
            payload=training.payload_of(spec),
            **_wishes(request),
        )


def _wishes(request: JobRequest) -> dict[str, Any]:
    """What a request of any kind says of its job."""
    return {
        "priority": request.priority,
        "custom_id": request.custom_id,
        "metadata": request.metadata,
        "expires_in_ms": request.expires_in_ms,
        "run_timeout_ms": request.run_timeout_ms,
        "max_attempts": request.max_attempts,
        "webhook": request.webhook,
    }


def of_tenants(requests: Iterable[tuple[str, JobRequest]]) -> dict[str, list[JobRequest]]:
    """Requests by whose they are."""
    sorted_out: dict[str, list[JobRequest]] = {}
    for tenant, request in requests:
        sorted_out.setdefault(tenant, []).append(request)
    return sorted_out


def as_written(new: NewJob, tenant: str, now: Millis, *, published: bool = False) -> Job:
    """The row that was written for ``new``, outside any group, without reading it back."""
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
        group_id=None,
        custom_id=new.custom_id,
        metadata=new.metadata,
        seq=1,
        epoch=0,
        attempts=0,
        max_attempts=new.max_attempts,
        losses=0,
        session_id=None,
        created_at=now,
        expires_at=now + new.expires_in_ms,
        not_before=now,
        published_at=now if published else None,
        started_at=None,
        run_deadline_at=None,
        run_timeout_ms=new.run_timeout_ms,
        cancel_requested_at=None,
        finished_at=None,
        error=None,
        result=None,
        retry_of=new.retry_of,
    )
