"""A few rows of a draft, scored: what they cost, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.records.bulk import BulkSpec, ClaimedShard
from storage.records.jobs import ClaimedJob
from workers.bulk.feeding import Feeder, Sender
from workers.bulk.kit import Kit
from workers.bulk.ports import Chunk, Decoded
from workers.bulk.stages import Stages, stages_of
from workers.inference import shapes
from workers.inference.batch import Answered

if TYPE_CHECKING:
    from workers.bulk.planning import Draft

_PROBES = 3  # blocks until a size is known: the first one's time is thrown away
_LONG_S = 0.5  # two that take longer will do
_SAMPLE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample chunk and its answers."""

    chunk: Chunk
    decoded: Decoded
    answers: list[tuple[int, int, Answered]]  # good rows from, to


def device_s_per_row(
    kit: Kit, job: ClaimedJob, session_id: str, spec: BulkSpec, draft: Draft
) -> float | None:
    """What a row takes the device, measured now when it never was; None when no row can be
    scored."""
    feeder = Feeder(kit, _sender(job, session_id), draft.signature)
    rows = feeder.block_rows()
    known = _known_s(kit, job.version_id, rows)
    if known is not None:
        return known
    stages = stages_of(kit, job.tenant, spec, draft.plan, draft.signature)
    for chunk in _chunks(draft, stages, rows):
        decoded = stages.decoder.decode(chunk.batch)
        good = len(decoded.good)
        if not good:
            continue
        seconds: list[float] = []
        for _ in range(_PROBES):
            positions = chunk.positions[decoded.good]
            answered = feeder.send(decoded, positions, 0, good, alone=False).wait()
            seconds.append(answered.device_s)
            if len(seconds) > 1 and sum(seconds) > _LONG_S:
                break
        return min(seconds) / good
    return None


def score(
    kit: Kit, job: ClaimedJob, session_id: str, draft: Draft, stages: Stages, rows: int
) -> Scored | None:
    """The first rows of the first file that has any."""
    feeder = Feeder(kit, _sender(job, session_id), draft.signature)
    for chunk in _chunks(draft, stages, rows):
        decoded = stages.decoder.decode(chunk.batch)
        good, at = len(decoded.good), 0
        answers: list[tuple[int, int, Answered]] = []
        while at < good:
            last = min(good, at + feeder.block_rows())
            pending = feeder.send(
                decoded, chunk.positions[decoded.good[at:last]], at, last, alone=False
            )
            answers.append((at, last, pending.wait()))
            at = last
        return Scored(chunk, decoded, answers)
    return None


def _chunks(draft: Draft, stages: Stages, rows: int) -> Iterator[Chunk]:
    for file, source in zip(draft.plan.files, draft.sources, strict=True):
        for chunk in source.chunks(
            0, file.stop, stages.columns, max_rows=max(1, rows), max_bytes=_SAMPLE_BYTES
        ):
            if len(chunk.positions) or chunk.errors:
                yield chunk


def _known_s(kit: Kit, version_id: str, rows: int) -> float | None:
    ready = kit.parts.ready
    with ready.changed:
        if not ready.book.ran(version_id, shapes.FIXED, rows):
            return None
    return ready.estimate_s(version_id, shapes.FIXED, rows) / rows


def _sender(job: ClaimedJob, session_id: str) -> Sender:
    """Rows that belong to no shard."""
    shard = ClaimedShard(
        job.id, job.tenant, 0, 0, 0, 0, job.epoch, 0, job.version_id, job.priority, job.created_at
    )
    return Sender(shard, session_id)
