"""What evaluations refer to: the job whose rows they take over, the job or group that they are
compared with. Looked up with all else that a submit looks up, each once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from producers.evaluation_requests import check_evaluation
from producers.requests import JobRequest
from producers.shapes import Wrong
from storage.database import Transaction
from storage.records.bulk import BulkSpec, spec_of
from storage.records.errors import Conflict, ForebayError, Gone, NotFound
from storage.records.jobs import BULK_KINDS, TERMINAL, GroupCounts, Job, JobState

INPUT_JOB, INPUT_GROUP, AGAINST = "input.job", "input.group", "evaluation.against"


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is over and may be compared with, or why it may not."""

    jobs: Mapping[str, BulkSpec | ForebayError] = field(default_factory=dict)
    groups: Mapping[str, ForebayError | None] = field(default_factory=dict)


def look(tx: Transaction, tenant: str, requests: Iterable[JobRequest]) -> Earlier:
    """All that these requests refer to."""
    jobs: dict[str, BulkSpec | ForebayError] = {}
    groups: dict[str, ForebayError | None] = {}
    for request in requests:
        told = None if request.bulk is None else request.bulk.evaluation
        if told is None:
            continue
        if told.of_group is not None and told.of_group not in groups:
            groups[told.of_group] = _group(told.of_group, tx.groups.counts(tenant, told.of_group))
        for job_id in (told.against, _source(request)):
            if job_id is not None and job_id != told.of_group and job_id not in jobs:
                jobs[job_id] = _job(tx, job_id, tx.jobs.get(tenant, job_id))
    return Earlier(jobs, groups)


def filled(request: JobRequest, earlier: Earlier) -> JobRequest:
    """The request with what it takes over. The first thing that is wrong is raised, with its
    field."""
    spec, source = request.bulk, _source(request)
    if spec is None or spec.evaluation is None:
        return request
    told = spec.evaluation
    if told.of_group is not None and (error := earlier.groups[told.of_group]) is not None:
        raise _at(error, INPUT_GROUP)
    if source is not None:
        before = _good(earlier.jobs[source], INPUT_JOB)
        of = before.evaluation
        if of is not None:
            told = replace(
                told,
                of_group=of.of_group,
                label=(label := told.label if told.label is not None else of.label),
                slices=told.slices or tuple(one for one in of.slices if one != label),
            )
        spec = replace(spec, input=before.input, evaluation=told)
    if told.against is not None and told.against not in (told.of_group, source):
        _good(earlier.jobs[told.against], AGAINST)
    try:
        check_evaluation(spec)
    except Wrong as wrong:
        raise wrong.error() from None
    return replace(request, bulk=spec)


def filled_if_good(request: JobRequest, earlier: Earlier) -> JobRequest:
    """The same, or the request as it is if something is wrong: that is said in its turn."""
    try:
        return filled(request, earlier)
    except ForebayError:
        return request


def _source(request: JobRequest) -> str | None:
    """The job whose rows it takes over."""
    job_id = request.input.get("job")
    is_evaluation = request.bulk is not None and request.bulk.evaluation is not None
    return str(job_id) if is_evaluation and job_id is not None else None


def _good(found: BulkSpec | ForebayError, where: str) -> BulkSpec:
    if isinstance(found, ForebayError):
        raise _at(found, where)
    return found


def _at(error: ForebayError, where: str) -> ForebayError:
    return type(error)(f"{where}: {error.message}", code=error.stable_code, field=where)


def _job(tx: Transaction, job_id: str, job: Job | None) -> BulkSpec | ForebayError:
    """What the job did, if its answers are there to be compared with."""
    if job is None:
        return NotFound(f"you have no job {job_id[:80]!r}", code="job_not_found")
    if job.kind not in BULK_KINDS:
        return _not_comparable(
            f"the job is one of {job.kind.value}: name a bulk job or an evaluation, or a group"
        )
    if job.state is not JobState.SUCCEEDED:
        again = "retry it" if job.state in TERMINAL else "wait until it is over"
        return _not_comparable(f"the job is {job.state.value}, and has not answered all: {again}")
    payload = tx.jobs.payload(job.tenant, job_id)
    if payload is None:
        return Gone("the job's input was erased; name its files", code="input_gone")
    assert isinstance(payload, bytes), "a bulk job's payload is never in a pack"
    spec = spec_of(payload)
    if spec.dry_run:
        return _not_comparable("the job was a dry run, and kept no answers: do it in earnest")
    if spec.failed_rows_of is not None:
        says = f"the job did the failed rows of {spec.failed_rows_of} alone: name that one"
        return _not_comparable(says)
    return spec


def _group(group_id: str, counts: GroupCounts | None) -> ForebayError | None:
    if counts is None:
        return NotFound(f"you have no group {group_id[:80]!r}", code="group_not_found")
    if not counts.done:
        over = sum(counts.by_state.get(state, 0) for state in TERMINAL)
        return Conflict(
            f"{counts.total - over:,} of the group's {counts.total:,} jobs are not over yet: wait"
            " for them, or cancel them",
            code="group_not_over",
        )
    return None


def _not_comparable(says: str) -> Conflict:
    return Conflict(says, code="not_comparable")
