"""The output and error files of batches: made of a job's parts as they are read, in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from producers.api.openai_documents import (
    ERRORS,
    OUTPUT,
    Convert,
    error_lines,
    id_in,
    output_lines,
    output_name,
)
from producers.api.outputs import key_below
from producers.api.service import Service
from producers.api.streams import PIECE_BYTES, Stored
from storage.database import Transaction
from storage.objects import Objects
from storage.records.bulk import Plan
from storage.records.jobs import TERMINAL, Job
from storage.records.signatures import Signature


@dataclass(frozen=True, slots=True)
class Wrote:
    """One of the two files of a batch that is over."""

    prefix: str  # of its id
    job: Job
    plan: Plan
    stored: tuple[Stored, ...]  # the parts it is made of, by their keys
    convert: Convert

    @property
    def filename(self) -> str:
        """What it is saved as."""
        return output_name(self.prefix, self.job)

    @property
    def size_bytes(self) -> int:
        """Of the parts."""
        return sum(size_bytes for _, size_bytes in self.stored)


def find_written(tx: Transaction, tenant: str, file_id: str) -> Wrote | None:
    """The file that is called so, if its batch is over and there is a line for it."""
    for prefix in (OUTPUT, ERRORS):
        job_id = id_in(file_id, prefix)
        job = tx.jobs.get(tenant, job_id) if job_id else None
        if job is not None and job.state in TERMINAL:
            return _written(tx, prefix, job)
    return None


def _written(tx: Transaction, prefix: str, job: Job) -> Wrote | None:
    run, version = tx.bulk.run(job.id, tenant=job.tenant), tx.models.by_id(job.version_id)
    if run is None or run.plan is None or version is None:
        return None
    parts = [one.part for one in tx.bulk.parts(job.id)]
    if prefix == OUTPUT:
        stored = [(key_below(run.plan, one.key), one.size_bytes) for one in parts if one.key]
        signature = Signature.from_json(version.signature)
        outputs = [spec.name for spec in signature.outputs]
        convert = output_lines(job.id, outputs, labelled=bool(signature.labels))
    else:
        stored = [(one.errors_key, one.errors_bytes) for one in parts if one.errors_key]
        convert = error_lines(job.id)
    return Wrote(prefix, job, run.plan, tuple(stored), convert) if stored else None


async def lines_of(service: Service, wrote: Wrote) -> AsyncIterator[bytes]:
    """Its bytes: about a piece of a part is in memory at a time. Errors are in our own store,
    wherever the outputs are."""
    objects = service.parts.objects
    if wrote.prefix == OUTPUT:
        objects = await service.reads.run(lambda: service.outputs.of(wrote.plan))
    for key, size_bytes in wrote.stored:
        rest = b""
        for start in range(0, size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, size_bytes - start)
            step = _Step(objects, key, start, length, rest, wrote.convert)
            piece, rest = await service.reads.run(step)
            if piece:
                yield piece
        if rest:
            yield wrote.convert(rest)


@dataclass(frozen=True, slots=True)
class _Step:
    """A range of a part: the lines that end in it, converted, and the beginning of the next."""

    objects: Objects
    key: str
    start: int
    length: int
    before: bytes
    convert: Convert

    def __call__(self) -> tuple[bytes, bytes]:
        data = self.before + self.objects.get_range(self.key, self.start, self.length)
        *lines, rest = data.split(b"\n")
        return b"".join(self.convert(line) for line in lines if line), rest
