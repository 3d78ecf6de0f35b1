"""One shard, from its file to its parts.

::

    reader thread             this thread          writer thread
    read ─▶ decode ──piece──▶ cut, send ──portion──▶ wait, encode ─▶ part file ─▶ put ─▶ commit
              (bounded)      blocks to the window     (bounded)      at the end of some chunk

Parts consist of whole chunks, so where a part ends is known to the row, and whatever a death or a
stop costs is what came after the last commit. A range that was on the device when a process died
is read by itself: halved, each half alone on the device, until the row that does it stands alone;
it gets an error in place of an answer once it has killed often enough.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkSpec, ClaimedShard, Control, Plan, ShardState
from storage.records.errors import InvalidInput, NotFound
from storage.records.signatures import Signature
from workers.bulk.feeding import POISON, Feeder, Pending, Sender
from workers.bulk.files import only_of, open_planned
from workers.bulk.kit import Failed, Kit, Stopped
from workers.bulk.ports import Chunk, Decoded, Positions, RowError
from workers.bulk.stages import Stages, stages_of
from workers.bulk.threads import start_thread
from workers.bulk.writing import Writer

log = logging.getLogger(__name__)

CHUNK_S = 1.0  # a chunk is about so much work at most
CHUNK_BYTES = 8 << 20  # and so much memory, as read and as decoded
LEAST_CHUNK, MOST_CHUNK = 16, 16_384
UNDER_WAY = 3  # blocks between the window and the writer
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the model takes it, and what it may do to the device."""

    chunk: Chunk
    decoded: Decoded
    deaths: int | None = None  # of just these positions, where they are suspected
    ends_range: bool = False  # behind it a part is due: a suspicion ends with it


class Portion:
    """A piece whose blocks are on their way, one after the other."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.errors: Sequence[RowError] = ()  # of rows that are not sent
        self._blocks: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._whole = False

    def add(self, pending: Pending) -> None:
        """The next block was sent."""
        self._blocks.put(pending)

    def end(self, *, whole: bool) -> None:
        """No more come; whether these are all."""
        self._whole = whole
        self._blocks.put(None)

    def blocks(self) -> Iterator[Pending]:
        """For the writer; raises ``Stopped`` when some were never sent."""
        while (pending := self._blocks.get()) is not None:
            yield pending
        if not self._whole:
            raise Stopped


@dataclass(slots=True)
class Tally:
    """What was scored beyond the last part."""

    rows: int = 0
    failed: int = 0
    device_ms: float = 0.0


class ShardRun:
    """``run`` on a thread of its own; ``control`` is asked before every block."""

    def __init__(
        self,
        kit: Kit,
        sender: Sender,
        spec: BulkSpec,
        plan: Plan,
        signature: Signature,
        control: Callable[[], Control],
        feeding: threading.Lock,
        on_read: Callable[[], None],
    ) -> None:
        """``feeding`` is held while rows enter the window. ``on_read`` is called when all are
        read, or will never be."""
        self.shard: ClaimedShard = sender.shard
        self.session_id = sender.session_id
        self.tally = Tally()
        self._kit, self._spec, self._plan, self._signature = kit, spec, plan, signature
        self._control, self._feeding, self._on_read = control, feeding, on_read
        self._feeder = Feeder(kit, sender, signature)
        self._pieces: queue.Queue[Piece | None] = queue.Queue(1)
        self._portions: queue.Queue[Portion | None] = queue.Queue(2)
        self._room = threading.Semaphore(UNDER_WAY)
        self._begun = 0  # rows of a pass that a piece's last block did not fill: the next one does
        self._trouble: BaseException | None = None  # the first that any thread met
        self._ended = threading.Event()  # nothing more is read

    def run(self) -> None:
        """Score what there is to score. Raises ``Stopped`` when the shard is given back or lost,
        ``Failed`` when its run cannot go on."""
        writer: threading.Thread | None = None
        try:
            stages = stages_of(
                self._kit, self.shard.tenant, self._spec, self._plan, self._signature
            )
            writing = Writer(self._kit, self, self._spec, self._plan, stages, self._signature)
            reader = self._thread("read", lambda: self._read(stages))
            writer = self._thread("write", lambda: self._write(writing))
            try:
                self._feed_in_turn()
            finally:
                self._ended.set()
                self._on_read()
            self._portions.put(None)
            writer.join()
            reader.join()
            if self._trouble is not None:
                raise self._trouble
            writing.finish(ShardState.DONE)
        finally:
            self._ended.set()
            self._on_read()
            if writer is not None and writer.is_alive():
                self._give_up(Stopped())
                self._portions.put(None)
                writer.join()

    def dropped(self) -> bool:
        """Whether what is scored from now on is nobody's."""
        return self._control() is Control.STOP

    # --- reading

    def _read(self, stages: Stages) -> None:
        try:
            for piece in self._pieces_of(stages):
                if not self._offer(piece):
                    return
        finally:
            self._on_read()
            self._offer(None)

    def _offer(self, piece: Piece | None) -> bool:
        while not self._ended.is_set():
            try:
                self._pieces.put(piece, timeout=_WAIT_S)
                return True
            except queue.Full:
                continue
        return False

    def _pieces_of(self, stages: Stages) -> Iterator[Piece]:
        kit, shard = self._kit, self.shard
        source = kit.patiently(
            lambda: open_planned(kit, shard.tenant, self._spec, self._plan, shard.file),
            lambda: not self._ended.is_set(),
            ours=False,
        )
        only = kit.patiently(lambda: only_of(kit, self._plan, shard.file))
        for start, stop, deaths in _ranges(shard):
            for chunk in source.chunks(
                start, stop, stages.columns, max_rows=self._chunk_rows(), max_bytes=CHUNK_BYTES
            ):
                if only is not None:
                    chunk = those(chunk, only)
                decoded = stages.decoder.decode(chunk.batch)
                yield Piece(chunk, decoded, deaths, deaths is not None and chunk.next >= stop)

    def _chunk_rows(self) -> int:
        rows = self._feeder.block_rows()
        each_s = self._kit.parts.ready.estimate_s(self.shard.version_id, "", rows) / rows
        most = int(CHUNK_S / each_s) if each_s > 0 else MOST_CHUNK
        row_bytes = row_size(self._signature)
        if row_bytes:
            most = min(most, CHUNK_BYTES // row_bytes)
        most = max(LEAST_CHUNK, min(MOST_CHUNK, most))
        return max(rows, most // rows * rows)

    # --- feeding

    def _feed_in_turn(self) -> None:
        while not self._feeding.acquire(timeout=_WAIT_S):
            self._check()
        try:
            self._feed()
        finally:
            self._feeding.release()

    def _feed(self) -> None:
        while True:
            piece = self._next_piece()
            if piece is None:
                return
            portion, whole = Portion(piece), False
            self._hand_on(portion)
            try:
                if piece.deaths is None:
                    self._send_all(portion)
                else:
                    self._send_suspects(portion, piece.deaths)
                whole = True
            finally:
                portion.end(whole=whole)

    def _next_piece(self) -> Piece | None:
        while True:
            self._check()
            try:
                return self._pieces.get(timeout=_WAIT_S)
            except queue.Empty:
                continue

    def _hand_on(self, portion: Portion) -> None:
        while True:
            self._check()
            try:
                self._portions.put(portion, timeout=_WAIT_S)
                return
            except queue.Full:
                continue

    def _send_all(self, portion: Portion) -> None:
        rows, at = len(portion.piece.decoded.good), 0
        while at < rows:
            most = self._feeder.block_rows()
            last = min(rows, at + most - self._begun % most)
            portion.add(self._send(portion.piece, at, last, alone=False))
            self._begun = (self._begun + last - at) % most
            at = last

    def _send_suspects(self, portion: Portion, deaths: int) -> None:
        """Halves, one after the other; a single row is given up when it has killed often enough."""
        piece = portion.piece
        good = piece.chunk.positions[piece.decoded.good]
        if len(good) == 1 and deaths >= self._spec.max_attempts:
            portion.errors = [RowError(int(good[0]), POISON.code, POISON.message)]
            return
        middle = (len(good) + 1) // 2
        for first, last in ((0, middle), (middle, len(good))):
            if first < last:
                pending = self._send(piece, first, last, alone=True)
                portion.add(pending)
                pending.wait()

    def _send(self, piece: Piece, first: int, last: int, *, alone: bool) -> Pending:
        while not self._room.acquire(timeout=_WAIT_S):
            self._check()
        self._check()
        good = piece.decoded.good[first:last]
        return self._feeder.send(
            piece.decoded, piece.chunk.positions[good], first, last, alone=alone
        )

    def _check(self) -> None:
        """Raise what says that no more is to be sent."""
        if self._trouble is not None:
            raise self._trouble
        if self._kit.stopping() or self._control() is not Control.GO:
            raise Stopped

    # --- writing

    def _write(self, writing: Writer) -> None:
        try:
            while (portion := self._portions.get()) is not None:
                for pending in portion.blocks():
                    answered = pending.wait()
                    self._room.release()
                    writing.take(portion.piece, pending, answered)
                writing.end_chunk(portion.piece, portion.errors)
        except Stopped as stopped:
            self._give_up(stopped)  # a block did not run: what came before it counts
        if self._trouble is not None and not self.dropped():
            writing.finish(ShardState.OPEN)

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as trouble:
                self._give_up(trouble)

        return start_thread(name, guarded)

    def _give_up(self, trouble: BaseException) -> None:
        if isinstance(trouble, InvalidInput | NotFound):
            trouble = Failed(trouble)
        if self._trouble is None:
            self._trouble = trouble
        self._ended.set()


def _ranges(shard: ClaimedShard) -> list[tuple[int, int, int | None]]:
    """What to read one after the other, and how often a range was on the device at a death."""
    suspect = shard.suspect
    if suspect is None or suspect.stop <= shard.start or suspect.start >= shard.stop:
        return [(shard.start, shard.stop, None)]
    start, stop = max(suspect.start, shard.start), min(suspect.stop, shard.stop)
    parts: list[tuple[int, int, int | None]] = [
        (shard.start, start, None),
        (start, stop, suspect.deaths),
        (stop, shard.stop, None),
    ]
    return [one for one in parts if one[0] < one[1]]


def those(chunk: Chunk, only: Positions) -> Chunk:
    """The rows at these positions; the others are not this run's, and count as nothing."""
    chosen = np.isin(chunk.positions, only)
    wanted = set(only.tolist()) if chunk.errors else set()
    errors = tuple(one for one in chunk.errors if one.position in wanted)
    batch = chunk.batch.filter(pa.array(chosen))
    return Chunk(batch, chunk.positions[chosen], errors, 0, chunk.next)


def row_size(signature: Signature) -> int:
    """Bytes of a decoded row; 0 where that differs from row to row."""
    total = 0
    for spec in signature.asked:
        if None in spec.shape or spec.dtype == "string":
            return 0
        total += math.prod(axis or 1 for axis in spec.shape) * np.dtype(spec.dtype).itemsize
    return total
