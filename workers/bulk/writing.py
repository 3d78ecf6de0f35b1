"""From answers to committed parts: encode, write, put, commit.

A part's file lies on the local disk until it is whole; its name says shard, epoch and start, so no
two workers ever write the same object. The commit is a compare-and-swap: whoever lost the shard
meanwhile takes its object away again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from storage.database import Transaction
from storage.records.bulk import BulkFormat, BulkSpec, ClaimedShard, NewPart, Plan, ShardState
from storage.records.signatures import Signature
from workers.bulk.destination import Stored, destination_of, own_of
from workers.bulk.encode import ChunkEncoder
from workers.bulk.error_lines import error_lines
from workers.bulk.feeding import NO_ANSWER, Pending
from workers.bulk.kept import kept_of
from workers.bulk.kit import Kit, Stopped
from workers.bulk.names import errors_part_name, part_name
from workers.bulk.part_files import PartFile, open_part
from workers.bulk.ports import Chunk, RowError
from workers.bulk.stages import Stages
from workers.inference.batch import Answered
from workers.inference.gate import TROUBLE
from workers.inference.ports import Ragged

if TYPE_CHECKING:
    from workers.bulk.scoring import Piece, ShardRun

log = logging.getLogger(__name__)

CHECKPOINT_S = 20.0  # a part is committed at least so often: what a death costs at most
MOST_PART_BYTES = 256 << 20


class Lost(Exception):
    """The shard is somebody else's by now: nothing of this transaction counts."""


@dataclass(slots=True)
class _Open:
    """The part that is being written."""

    start: int
    stop: int
    since_s: float
    file: PartFile | None = None
    errors_bytes: int = 0
    rows: int = 0
    failed: int = 0
    skipped: int = 0
    device_s: float = 0.0


@dataclass(slots=True)
class _ChunkSoFar:
    batches: list[pa.RecordBatch] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    device_s: float = 0.0


class Writer:
    """One shard's; used by one thread at a time."""

    def __init__(
        self,
        kit: Kit,
        run: ShardRun,
        spec: BulkSpec,
        plan: Plan,
        stages: Stages,
        signature: Signature,
    ) -> None:
        self._kit, self._run, self._stages = kit, run, stages
        self._spec, self._signature = spec, signature
        self._shard: ClaimedShard = run.shard
        self._destination = destination_of(kit, spec, plan.base)
        self._own = own_of(kit, plan)
        self._requests = plan.files[0].format is BulkFormat.REQUESTS
        self._kept = kept_of(plan)
        self._encoder: ChunkEncoder | None = None
        self._chunk = _ChunkSoFar()
        self._part = self._next_part(self._shard.start)
        self._over = False  # a commit failed: nothing more is to be said

    def take(self, piece: Piece, pending: Pending, answered: Answered) -> None:
        """A block's answers."""
        if answered.fault is not None:
            raise RuntimeError(answered.fault.message)
        good = piece.decoded.good[pending.first : pending.last]
        positions = piece.chunk.positions[good]
        seen = np.zeros(len(good), dtype=np.bool_)
        for first, last, outputs in answered.outputs:
            seen[first:last] = True
            self._encode(piece, good[first:last], positions[first:last], outputs)
        for row, error in answered.faults.items():
            seen[row] = True
            self._wrong(int(positions[row]), error.stable_code, error.message)
        for missing in np.flatnonzero(~seen):
            self._wrong(int(positions[missing]), NO_ANSWER.stable_code, NO_ANSWER.message)
        self._chunk.device_s += answered.device_s
        tally = self._run.tally
        tally.device_ms += answered.device_s * 1000
        tally.rows += len(good)

    def end_chunk(self, piece: Piece, errors: Sequence[RowError]) -> None:
        """All of a chunk's blocks were taken: its rows enter the part."""
        chunk, part, so_far = piece.chunk, self._part, self._chunk
        self._chunk = _ChunkSoFar()
        wrong = [*chunk.errors, *errors, *so_far.errors]
        wrong += [
            RowError(int(chunk.positions[index]), code, message)
            for index, code, message in piece.decoded.errors
        ]
        for batch in so_far.batches:
            if batch.num_rows:
                part.file = part.file or self._open_part(batch.schema)
                part.file.write(batch)
                part.rows += batch.num_rows
        if wrong:
            self._append_errors(chunk, wrong)
        part.skipped += chunk.skipped
        part.device_s += so_far.device_s
        part.stop = chunk.next
        self._run.tally.rows, self._run.tally.failed = part.rows, part.failed
        if chunk.next >= self._shard.stop:
            return  # the last one, which ``finish`` commits
        due_s = self._kit.clock.monotonic_s() - part.since_s
        large = part.file is not None and part.file.size_bytes > MOST_PART_BYTES
        if piece.ends_range or large or due_s > CHECKPOINT_S:
            self._commit(ShardState.RUNNING)

    def finish(self, state: ShardState) -> None:
        """The last part: of a shard that is done, or is given back."""
        if self._over:
            raise Stopped
        if state is ShardState.DONE:
            self._part.stop = self._shard.stop
        elif self._part.stop <= self._part.start:
            self._clear()
            raise Stopped
        self._commit(state)

    # --- encoding

    def _encode(
        self,
        piece: Piece,
        rows: np.ndarray[tuple[int], np.dtype[np.int64]],
        positions: np.ndarray[tuple[int], np.dtype[np.int64]],
        outputs: Mapping[str, Ragged],
    ) -> None:
        kept = taken(piece.chunk.batch.select(list(self._stages.kept)), rows)
        if self._encoder is None:
            schema = kept.schema if self._kept is None else self._kept
            self._encoder = ChunkEncoder(self._signature, schema, self._spec.output.format)
        encoded = self._encoder.encode(self._shard.file, positions, kept, outputs)
        self._chunk.batches.append(encoded.batch)
        for index, code, message in encoded.errors:
            self._wrong(int(positions[index]), code, message)

    def _wrong(self, position: int, code: str, message: str) -> None:
        self._chunk.errors.append(RowError(position, code, message))

    # --- parts

    def _next_part(self, start: int) -> _Open:
        return _Open(start, start, self._kit.clock.monotonic_s())

    def _open_part(self, schema: pa.Schema) -> PartFile:
        form = self._spec.output.format
        return open_part(self._path(self._name()), form, schema)

    def _append_errors(self, chunk: Chunk, wrong: Sequence[RowError]) -> None:
        names: dict[int, str] = {}
        if self._requests:
            names = _custom_ids(chunk, [one.position for one in wrong])
        lines = error_lines(self._shard.file, wrong, names)
        with self._path(self._errors_name()).open("ab") as file:
            file.write(lines)
        self._part.errors_bytes += len(lines)
        self._part.failed += len(wrong)

    def _path(self, name: str) -> Path:
        return self._kit.spool / f"{self._shard.job_id}-{name}"

    def _name(self) -> str:
        shard = self._shard
        return part_name(shard.number, shard.epoch, self._part.start, self._spec.output.format)

    def _errors_name(self) -> str:
        shard = self._shard
        return errors_part_name(shard.number, shard.epoch, self._part.start)

    def _commit(self, then: ShardState) -> None:
        part, shard, kit = self._part, self._shard, self._kit
        summary = part.file.close() if part.file is not None else None
        stored: list[Stored] = []
        new = NewPart(
            start=part.start,
            stop=part.stop,
            rows=part.rows,
            failed=part.failed,
            skipped=part.skipped,
            size_bytes=summary.size_bytes if summary else 0,
            key=self._name() if summary else None,
            digest=summary.sha256_hex if summary else None,
            errors_key=self._own.key(self._errors_name()) if part.errors_bytes else None,
            errors_bytes=part.errors_bytes,
            device_ms=round(part.device_s * 1000),
        )
        still = lambda: not self._run.dropped()  # noqa: E731
        try:
            for place, name, is_there in (
                (self._destination, self._name(), new.key),
                (self._own, self._errors_name(), new.errors_key),
            ):
                if is_there:
                    stored.append(place.put(kit, shard.tenant, name, self._path(name), still))
            kit.patiently(lambda: self._write_down(new, stored, then), still)
        except Lost:
            self._over = True
            self._take_away(stored)
            raise Stopped from None
        except BaseException:
            self._over = True
            raise
        finally:
            self._clear()
        passed = shard.suspect is not None and shard.suspect.stop <= part.stop
        self._shard = replace(shard, start=part.stop, suspect=None if passed else shard.suspect)
        self._run.shard = self._shard
        self._run.tally.rows = self._run.tally.failed = 0
        self._run.tally.device_ms = 0.0
        self._part = self._next_part(part.stop)

    def _write_down(self, new: NewPart, stored: Iterable[Stored], then: ShardState) -> None:
        with self._kit.database.begin() as tx:
            if tx.bulk.commit(self._run.session_id, self._shard, new, then):
                for one in stored:
                    one.publish(tx)
            elif not self._is_there(tx, new):
                raise Lost

    def _is_there(self, tx: Transaction, new: NewPart) -> bool:
        """Whether an earlier try to commit just this part went through, and only its answer was
        lost."""
        shard = self._shard
        return any(
            (one.number, one.epoch, one.part.start) == (shard.number, shard.epoch, new.start)
            for one in tx.bulk.parts(shard.job_id)
        )

    def _take_away(self, stored: Sequence[Stored]) -> None:
        """The commit was refused: nobody points to the objects. (In our own store the collector
        knows them.)"""
        with contextlib.suppress(*TROUBLE):
            self._destination.objects.delete([one.key for one in stored if one.pack is None])

    def _clear(self) -> None:
        """Nothing of the part stays on the local disk."""
        for name in (self._name(), self._errors_name()):
            with contextlib.suppress(OSError):
                self._path(name).unlink()


def taken(
    batch: pa.RecordBatch, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> pa.RecordBatch:
    """These rows of it; without a copy where they follow each other."""
    count = len(rows)
    if count and int(rows[-1]) - int(rows[0]) + 1 == count:
        return batch.slice(int(rows[0]), count)
    return batch.take(pa.array(rows))


def _custom_ids(chunk: Chunk, positions: Sequence[int]) -> dict[int, str]:
    """What the rows at these positions are called, as far as they could be read."""
    places = np.searchsorted(chunk.positions, positions)
    column = chunk.batch.column("custom_id")
    found: dict[int, str] = {}
    for place, position in zip(places.tolist(), positions, strict=True):
        if place < len(chunk.positions) and chunk.positions[place] == position:
            name = column[place].as_py()
            if name is not None:
                found[position] = name
    return found
