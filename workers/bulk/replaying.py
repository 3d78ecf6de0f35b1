"""A group scored again: the inputs of its jobs become the lines of one file of requests.

The file lies in the run's own store and has a line for each job that was answered or failed, in
the group's order: ``{"custom_id": the job's id, "input": what it was given}``. A job that was given
a list of ``items`` has as many answers, which no line can ask for: it has no line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import orjson

from storage.records.bulk import BulkFormat, BulkInput, BulkSpec
from storage.records.errors import Conflict, ForebayError, Gone, InvalidInput, ItemError, NotFound
from storage.records.jobs import TERMINAL, ClaimedJob, Job, JobKind, JobState, PackSlice
from workers.bulk.destination import Destination
from workers.bulk.files import LISTED, LISTING
from workers.bulk.kit import Failed, Kit
from workers.bulk.part_files import DigestingFile
from workers.bulk.places import Found, Place
from workers.inference.payloads import Payloads

JOBS_PER_READ = 1_000
READ_BYTES = 16 << 20  # held at once, unless a single one is larger
_REPLAYED = frozenset({JobState.SUCCEEDED, JobState.FAILED})

T = TypeVar("T")
Still = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job, and its input or where it lies."""

    id: str
    payload: bytes | PackSlice


def replayed(spec: BulkSpec) -> BulkSpec:
    """The spec with the group's lines as its input, if it is about a group."""
    evaluation = spec.evaluation
    if evaluation is None or evaluation.of_group is None:
        return spec
    return replace(spec, input=BulkInput((_uri(evaluation.of_group),), BulkFormat.REQUESTS))


def group_lines(
    kit: Kit,
    job: ClaimedJob,
    group_id: str,
    own: Destination,
    extra: dict[str, object],
    still: Still,
) -> Found:
    """Write the file and note in ``extra`` where it is. ``Failed``: ``group_not_found``,
    ``group_not_over``, ``input_gone``, and ``input_empty`` where no job can have a line."""
    path = kit.spool / f"{job.id}-group"
    sink, lists = DigestingFile(path), 0
    try:
        for job_id, payload in _inputs(kit, job.tenant, group_id, still):
            if _is_list(payload):
                lists += 1
            else:
                sink.write(_line(job_id, payload))
        sink.close()
        if not sink.size_bytes:
            raise Failed(_no_line(group_id, lists))
        name = f"_requests-{job.epoch}.jsonl"
        key = own.keep_file(kit, job.tenant, name, path, still)
    finally:
        sink.close()
        path.unlink(missing_ok=True)
    extra |= {LISTING: key, LISTED: sink.sha256_hex}
    return Found(Place(kit.objects, key, _uri(group_id)), sink.size_bytes, None)


def members(kit: Kit, tenant: str, group_id: str, still: Still) -> Iterator[Sequence[Job]]:
    """The group's jobs, a page at a time, in its order. ``Failed`` (``group_not_found``,
    ``group_not_over``) before the first."""

    def look() -> ForebayError | None:
        with kit.database.read() as tx:
            counts = tx.groups.counts(tenant, group_id)
        if counts is None:
            return NotFound(f"you have no group {group_id[:80]!r}", code="group_not_found")
        if not counts.done:
            over = sum(counts.by_state.get(state, 0) for state in TERMINAL)
            return Conflict(
                f"{counts.total - over:,} of the {counts.total:,} jobs of group {group_id} are not"
                " over yet: replay it when they are, or cancel them",
                code="group_not_over",
            )
        return None

    error = kit.patiently(look, still)
    if error is not None:
        raise Failed(error)
    done = 0
    while True:

        def page(after: int = done - 1) -> Sequence[Job]:
            with kit.database.read() as tx:
                return tx.groups.members(tenant, group_id, after_index=after, limit=JOBS_PER_READ)

        jobs = kit.patiently(page, still)
        done += len(jobs)
        yield jobs
        if len(jobs) < JOBS_PER_READ:
            return


def in_bytes(some: Sequence[T], size_bytes: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """The same in pieces of about ``READ_BYTES``, at least one each."""
    first, held = 0, 0
    for at, one in enumerate(some):
        held += size_bytes(one)
        if held > READ_BYTES and at > first:
            yield some[first:at]
            first, held = at, size_bytes(one)
    if some[first:]:
        yield some[first:]


def _inputs(kit: Kit, tenant: str, group_id: str, still: Still) -> Iterator[tuple[str, bytes]]:
    """Id and input of each job that is replayed."""
    payloads = Payloads(kit.database, kit.objects)
    for page in members(kit, tenant, group_id, still):
        ids = [one.id for one in page if _is_replayed(one)]

        def look(ids: Sequence[str] = ids) -> list[_Asked]:
            with kit.database.read() as tx:
                known = tx.jobs.payloads(tenant, ids)
            return [_Asked(one, known[one]) for one in ids if one in known]

        asked = kit.patiently(look, still)
        if len(asked) < len(ids):
            raise Failed(_gone(group_id, len(ids) - len(asked)))
        for some in in_bytes(asked, _size_bytes):
            found = kit.patiently(partial(payloads.fetch, some), still)
            wrong = [one for one in found.values() if isinstance(one, ItemError)]
            if any(one.stable_code == "input_corrupt" for one in wrong):
                raise Failed(wrong[0])
            if wrong:
                raise Failed(_gone(group_id, len(wrong)))
            for one in some:
                payload = found[one.id]
                assert isinstance(payload, bytes)
                yield one.id, payload


def _is_replayed(job: Job) -> bool:
    return job.kind is JobKind.INFERENCE and job.state in _REPLAYED


def _size_bytes(asked: _Asked) -> int:
    payload = asked.payload
    return payload.length_bytes if isinstance(payload, PackSlice) else len(payload)


def _is_list(payload: bytes) -> bool:
    if b'"items"' not in payload:
        return False
    told = orjson.loads(payload)  # it was parsed when it was submitted
    return isinstance(told, dict) and "items" in told


def _line(job_id: str, payload: bytes) -> bytes:
    """Line breaks of the payload stand between its values alone: JSON has none within a text."""
    flat = payload.replace(b"\r", b" ").replace(b"\n", b" ")
    return b'{"custom_id":"%b","input":%b}\n' % (job_id.encode(), flat)


def _uri(group_id: str) -> str:
    return f"forebay://groups/{group_id}"


def _gone(group_id: str, count: int) -> Gone:
    return Gone(
        f"inputs of group {group_id} are gone (at least {count:,}): they were erased, or their"
        " retention has passed; submit them again with the version that is to score them",
        code="input_gone",
    )


def _no_line(group_id: str, lists: int) -> InvalidInput:
    says = f"no job of group {group_id} was answered or failed: there is nothing to replay"
    if lists:
        says = (
            f"the {lists:,} jobs of group {group_id} were given lists of items, and only single"
            " inputs are replayed: submit the items as jobs of their own"
        )
    return InvalidInput(says, code="input_empty")
