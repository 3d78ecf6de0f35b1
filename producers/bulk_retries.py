"""What becomes of a bulk job, or of an evaluation, that is asked for again.

One that ended early is *resumed*: what it committed stays, and the rest is done where it would
have been done. Of one that has wrong rows, those alone can be done again, into a place of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from producers.bulk_requests import read_output
from producers.shapes import Wrong
from storage.database import Transaction
from storage.records.bulk import BulkRun, BulkSpec, spec_of
from storage.records.errors import Conflict
from storage.records.jobs import TERMINAL, Job, JobState, NewJob

EVERY_ROW = 1.0  # all of them were wrong before, so that many still are is no surprise


@dataclass(frozen=True, slots=True)
class Again:
    """What the body of a retry asks for."""

    failed_rows: bool = False
    output: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Again:
        """Of a checked body."""
        again = cls(bool(value.get("failed_rows")), value.get("output"))
        if again.output is not None and not again.failed_rows:
            says = "goes with failed_rows: what is resumed is written where it was"
            raise Wrong(says).under("output").error()
        return again


def check_retryable(job: Job) -> None:
    """Whether a job may be done again as it was."""
    if job.state not in TERMINAL or job.state is JobState.SUCCEEDED:
        raise not_retryable(
            f"the job is {job.state.value}; only a failed, cancelled or expired one can be retried"
        )


def resumed(spec: BulkSpec, job: Job, run: BulkRun | None) -> BulkSpec:
    """The rest of a job that did not end well."""
    check_retryable(job)
    if spec.dry_run:
        return spec
    if run is not None and run.plan is None and spec.resume_of is not None:
        return spec  # it never began itself: what it was to go on from still is
    return replace(spec, resume_of=job.id)


def failed_rows_of(
    spec: BulkSpec, job: Job, run: BulkRun | None, again: Again, new_id: str
) -> BulkSpec:
    """The wrong rows of a job that is over."""
    if job.state not in TERMINAL:
        raise not_retryable(f"the job is {job.state.value}: it may still find wrong rows")
    if spec.dry_run:
        raise not_retryable("the job was a dry run: it has no rows to do again")
    if run is None or run.progress.rows_failed == 0:
        raise not_retryable("none of the job's rows failed")
    before = spec.output
    uri = None if before.uri is None else f"{before.uri.rstrip('/')}/retry-{new_id[-8:]}"
    return replace(
        spec,
        output=read_output(again.output, replace(before, uri=uri, overwrite=False)),
        max_error_share=EVERY_ROW,
        resume_of=None,
        failed_rows_of=job.id,
    )


def take_over(tx: Transaction, tenant: str, job: NewJob) -> None:
    """A job goes on as one other: two would write the same parts. ``Conflict`` names the one that
    it goes on as already. In the transaction that writes the new job."""
    if job.retry_of is None or not isinstance(job.payload, bytes):
        return
    if spec_of(job.payload).resume_of is None:
        return
    key = f"resume of {job.retry_of}"  # no caller's key has a space in it
    ttl_ms = job.expires_in_ms + job.run_timeout_ms
    known = tx.idempotency.remember(tenant, key, "", job.id, ttl_ms)
    if known is not None:
        raise not_retryable(f"the job went on as {known.ref}: retry that one, if it has to be")


def not_retryable(why: str) -> Conflict:
    """The error of a job that cannot be done again so."""
    return Conflict(why, code="not_retryable")
