"""The job that an evaluation is compared with: there, over, and about the same files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from storage.records.bulk import MANIFEST, OUTPUT, Part, Plan, PlannedFile
from storage.records.errors import ForebayError, InvalidInput, NotFound, ObjectsMisconfigured
from storage.records.jobs import JobKind, JobState
from storage.records.models import ModelVersion
from storage.records.signatures import Signature
from workers.bulk.evaluating.basis import Basis, basis_of, not_comparable
from workers.bulk.files import LISTED, LISTING
from workers.bulk.kit import Failed, Kit

_OF_CONTENT = re.compile(r'"?[0-9a-f]{32}(?:-[0-9]+)?"?')  # an MD5, or one of the parts' MD5s
_KINDS = frozenset({JobKind.BULK, JobKind.EVALUATION})


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finished run."""

    job_id: str
    plan: Plan
    parts: Sequence[Part]
    version: ModelVersion

    @property
    def signature(self) -> Signature:
        """Its version's, as the worker completed it that loaded it."""
        return Signature.from_json(self.version.signature)


def earlier_run(
    kit: Kit, tenant: str, job_id: str, plan: Plan, still: Callable[[], bool]
) -> Earlier:
    """The tenant's job of this id. ``Failed``: ``job_not_found``, and ``not_comparable`` where it
    is no run, is not over, or is about other files than ``plan``."""

    def look() -> Earlier | ForebayError:
        with kit.database.read() as tx:
            job = tx.jobs.get(tenant, job_id)
            if job is None:
                return NotFound(
                    f"you have no job {job_id[:80]!r} to compare with: it may be past its retention"
                    " (then score the rows again with its version)",
                    code="job_not_found",
                )
            if job.kind not in _KINDS:
                return not_comparable(f"job {job_id} is of kind {job.kind.value}")
            if job.state is not JobState.SUCCEEDED:
                return not_comparable(f"job {job_id} is {job.state.value}, not succeeded")
            run, version = tx.bulk.run(job_id, tenant=tenant), tx.models.by_id(job.version_id)
            if run is None or run.plan is None or version is None:
                return not_comparable(f"job {job_id} scored no row: it was a dry run")
            return Earlier(job_id, run.plan, tx.bulk.parts(job_id), version)

    found = kit.patiently(look, still)
    if isinstance(found, ForebayError):
        raise Failed(found)
    different = _difference(found.plan, plan)
    if different is not None:
        raise Failed(not_comparable(f"job {job_id} is about other files: {different}"))
    return found


def check_output(kit: Kit, earlier: Earlier, still: Callable[[], bool]) -> None:
    """That what lies in its output is still its own: another job may have written over it, with
    parts of the same names and sizes. ``Failed``: ``not_comparable``, ``part_gone``."""
    named, base = earlier.plan.extra.get(OUTPUT), earlier.plan.base
    if named is None:
        return
    uri = f"{str(named).rstrip('/')}/{base}"

    def look() -> bytes | ForebayError:
        try:
            return kit.places.output(uri).objects.get(f"{base}/{MANIFEST}" if base else MANIFEST)
        except NotFound:
            return NotFound(
                f"the output of job {earlier.job_id} is not at {uri} any more: score the rows again"
                " with its version",
                code="part_gone",
            )
        except (InvalidInput, ObjectsMisconfigured) as refused:
            return not_comparable(
                f"the parts of job {earlier.job_id} cannot be read: {refused.message}"
            )

    found = kit.patiently(look, still, ours=False)
    if isinstance(found, ForebayError):
        raise Failed(found)
    try:
        whose = orjson.loads(found)["job"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        whose = None
    if whose != earlier.job_id:
        by = f"job {whose}" if isinstance(whose, str) else "something else"
        says = f"the output of job {earlier.job_id} at {uri} was written over by {by[:100]}"
        raise Failed(not_comparable(says))


def basis_with(earlier: Earlier, signature: Signature) -> Basis:
    """What can be compared with it."""
    return basis_of(earlier.signature, signature)


def _difference(before: Plan, now: Plan) -> str | None:
    """Why rows at one position of the two need not be the same row; None where they are."""
    if len(before.files) != len(now.files):
        return f"{len(before.files):,} files then, and {len(now.files):,} now"
    for number, (was, file) in enumerate(zip(before.files, now.files, strict=True)):
        if _pins(was) != _pins(file):
            return f"file {number} was {_told(was)}, and now is {_told(file)}"
    lists = [(LISTING in plan.extra, plan.extra.get(LISTED)) for plan in (before, now)]
    if lists[0] != lists[1] or lists[0] == (True, None):
        return "other objects are listed below the prefix"
    return None


def _pins(file: PlannedFile) -> tuple[object, ...]:
    """What says that it holds the same rows at the same positions. A digest of the content, as S3
    tells it, does so wherever it lies; what a folder tells (when it was changed, and its size) does
    so at its address alone."""
    content = (file.format, file.size_bytes, file.stop, file.gzip)
    if file.digest is not None and _OF_CONTENT.fullmatch(file.digest):
        return (*content, file.digest)
    return (*content, file.digest, file.uri)


def _told(file: PlannedFile) -> str:
    return f"{file.uri[-200:]} of {file.size_bytes:,} bytes"
