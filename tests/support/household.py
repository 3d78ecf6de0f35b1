"""Storage with one echo model in it, and what a test of workers needs around that.

Stands in for producers, which workers must not import: it writes jobs and reads their answers
back out of the packs.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.clock import random_bits
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.objects.packs import read_slice
from storage.records.bulk import BulkSpec, payload_of
from storage.records.ids import uuid7, uuid7_series
from storage.records.jobs import BULK_PRIORITY, TERMINAL, Job, JobKind, JobState, NewJob
from storage.records.models import ModelFormat, ModelVersion, NewVersion, VersionState
from storage.records.serving import Serving
from storage.records.signatures import Signature
from tests.support.numpy_runtime import echo_signature
from tests.support.waiting import wait_until

POOL = "default"


@dataclass
class Household:
    """A database, an object store and an echo model, ready unless told otherwise."""

    database: Database
    objects: Objects
    tenant: str = "default"
    version: ModelVersion = field(init=False)

    @classmethod
    def on_sqlite(cls, folder: Path) -> Household:
        """Embedded storage in ``folder``."""
        database = Database.open(f"sqlite:///{folder}/forebay.db")
        return cls(database, open_objects(f"file://{folder}/objects"))

    def __post_init__(self) -> None:
        self.database.migrate()
        with self.database.begin() as tx:
            tx.tenants.ensure(self.tenant)
        self.version = self.push("echo")

    def push(
        self,
        name: str,
        artifact: bytes | None = None,
        *,
        ready: bool = True,
        serving: Serving | None = None,
        like: Signature | None = None,
    ) -> ModelVersion:
        """A version whose artifact is these bytes; an echo unless it is ``like`` another."""
        signature = dict((like or echo_signature(serving=serving)).to_json())
        artifact = artifact if artifact is not None else secrets.token_bytes(32)
        digest = hashlib.sha256(artifact).hexdigest()
        key = f"models/{self.tenant}/{name}/{digest}"
        self.objects.put(key, artifact)
        with self.database.begin() as tx:
            pushed = tx.models.push(
                self.tenant,
                NewVersion(
                    id=new_id(),
                    name=name,
                    format=ModelFormat.KERAS,
                    digest=digest,
                    size_bytes=len(artifact),
                    object_key=key,
                    signature=signature,
                ),
            )
            if ready:
                tx.models.mark_ready(pushed.id, signature)
        return self.version_now(pushed)

    def version_now(self, version: ModelVersion) -> ModelVersion:
        with self.database.read() as tx:
            found = tx.models.by_id(version.id)
        assert found is not None
        return found

    def wait_ready(self, version: ModelVersion, deadline_s: float = 20) -> None:
        wait_until(
            lambda: self.version_now(version).state is VersionState.READY,
            deadline_s,
            what="the version to be ready",
        )

    def submit(
        self,
        inputs: Sequence[object],
        *,
        version: ModelVersion | None = None,
        tenant: str | None = None,
        **options: Any,
    ) -> list[str]:
        """One job for each input, as the API would write it; their ids."""
        version = version or self.version
        ids = uuid7_series(len(inputs), now_ms(), random_bits())
        jobs = [
            _job(job_id, version, json.dumps(one).encode(), **options)
            for job_id, one in zip(ids, inputs, strict=True)
        ]
        with self.database.begin() as tx:
            tx.tenants.ensure(tenant or self.tenant)
            tx.jobs.submit(tenant or self.tenant, jobs)
        return ids

    def submit_bulk(self, spec: BulkSpec) -> str:
        """A bulk job over the echo, as the API would write it; its id."""
        plain = {"kind": JobKind.BULK, "priority": BULK_PRIORITY, "max_attempts": 1}
        job = _job(new_id(), self.version, payload_of(spec), **plain)
        with self.database.begin() as tx:
            tx.jobs.submit(self.tenant, [job])
            tx.bulk.create(self.tenant, [job])
        return job.id

    def job(self, job_id: str, tenant: str | None = None) -> Job:
        with self.database.read() as tx:
            job = tx.jobs.get(tenant or self.tenant, job_id)
        assert job is not None
        return job

    def jobs(self, ids: Sequence[str], tenant: str | None = None) -> list[Job]:
        with self.database.read() as tx:
            found = {job.id: job for job in tx.jobs.get_many(tenant or self.tenant, ids)}
        return [found[job_id] for job_id in ids]

    def states(self, ids: Sequence[str]) -> list[JobState]:
        return [job.state for job in self.jobs(ids)]

    def wait_terminal(
        self, ids: Sequence[str], deadline_s: float = 30, tenant: str | None = None
    ) -> list[Job]:
        """The jobs once all of them are done."""

        def done() -> list[Job]:
            jobs = self.jobs(ids, tenant)
            return jobs if all(job.state in TERMINAL for job in jobs) else []

        return wait_until(done, deadline_s, what="the jobs to end")

    def result(self, job: Job) -> Any:
        """What the job answered, read out of its pack as the API does."""
        assert job.result is not None, (job.state, job.error)
        with self.database.read() as tx:
            pack = tx.packs.get(job.result.pack_id)
        assert pack is not None
        return json.loads(read_slice(self.objects, pack.key, job.result))


def _job(job_id: str, version: ModelVersion, payload: bytes, **options: Any) -> NewJob:
    """For this version; an inference unless its ``kind`` says otherwise."""
    return NewJob(
        id=job_id,
        model_name=version.name,
        version_id=version.id,
        version=version.version,
        pool=POOL,
        payload=payload,
        **{"kind": JobKind.INFERENCE, **options},
    )


def tensor(*values: float) -> dict[str, object]:
    """An input of the echo model; short ones are filled up with zeros."""
    return {"tensor": [*values, *([0.0] * (4 - len(values)))]}


def new_id() -> str:
    return uuid7(now_ms(), random_bits())


def now_ms() -> int:
    return time.time_ns() // 1_000_000
