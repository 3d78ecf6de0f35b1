"""The one place that calls the model: pads, counts, maps rows to jobs, and finds culprits.

Rows go in under a ``RowRef`` each and come out under the same one, checked by number on the way.
When a pass raises, its rows are halved and run again until the culprit stands alone. When memory
runs out nobody is to blame: the rows run again in smaller passes, and the size is remembered,
unless it turns out to have been a single row's doing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from storage.clock import Clock
from storage.records.errors import ItemError
from storage.records.signatures import Signature
from workers.inference import shapes
from workers.inference.batch import Batch, Fault, Segment, Work
from workers.inference.batching import MIXED, Pick
from workers.inference.ledger import Ledger, RowSpan
from workers.inference.meters import Meters
from workers.inference.passes import Passes
from workers.inference.ports import Array, DeviceOutOfMemory, LoadedModel, Ragged, Row
from workers.inference.ready import Choice, Ready
from workers.inference.spans import RowRef, Spans

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = (DeviceOutOfMemory, MemoryError)
_GREEDY = "out_of_memory"
_MESSAGE_CHARACTERS = 500


class WrongOutput(Exception):
    """The model gave back another number of rows than it was given, or other rows than it said."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """Rows of one shape on their way through the device."""

    batch: Batch
    model: LoadedModel
    shape: str
    bulk: bool


class Device:
    """Runs one choice at a time on the thread that owns its slot."""

    def __init__(
        self, slot: int, ledger: Ledger, clock: Clock, ready: Ready, passes: Passes, meters: Meters
    ) -> None:
        self._slot, self._ledger, self._clock = slot, ledger, clock
        self._ready, self._passes, self._meters = ready, passes, meters
        self._switched = False
        self._lent_s = 0.0  # to others, between the passes of the choice that runs

    def compute(self, choice: Choice, between: Callable[[], None] = lambda: None) -> Batch:
        """The batch with its segments and faults filled. ``between`` is called between two passes
        of a list that is too long for one: others may use the device then."""
        assert choice.pick is not None and choice.lease is not None
        pick, works = choice.pick, choice.works
        batch = Batch(works, choice.lease)
        began_s, lent_before_s = self._clock.monotonic_s(), self._lent_s
        if works[0].block is None:
            self._note_waits(works, began_s, pick.bulk)
        self._switched = choice.switched
        try:
            for number, (one, refs, bucket) in enumerate(self._passes_of(batch, pick)):
                if number:
                    self._lend(between)
                self._guarded(one, refs, bucket)
        finally:
            lent_s = self._lent_s - lent_before_s
            seconds = self._clock.monotonic_s() - began_s - lent_s
            self._ready.finished(self._slot, pick, seconds)
        self._meters.stage(pick.version_id, "device", len(works), seconds)
        self._ready.observe_stage(pick.version_id, "device", pick.rows, seconds)
        return batch

    def _passes_of(self, batch: Batch, pick: Pick) -> Iterator[tuple[_Pass, Sequence[RowRef], int]]:
        """The passes it takes: one, in the pick's bucket, but for lists."""
        assert batch.lease is not None
        for shape, refs in _by_shape(batch, pick.shape).items():
            one = _Pass(batch, batch.lease.model, shape, pick.bulk)
            if shape == pick.shape and len(refs) <= pick.bucket:
                yield one, refs, pick.bucket
            else:
                yield from ((one, some, bucket) for some, bucket in self._cut(one, refs))

    def _cut(self, one: _Pass, refs: Sequence[RowRef]) -> Iterator[tuple[Sequence[RowRef], int]]:
        while refs:
            count, bucket = self._passes.next_size(one.model, one.shape, len(refs))
            yield refs[:count], bucket
            refs = refs[count:]

    def _lend(self, between: Callable[[], None]) -> None:
        began_s, lent_before_s = self._clock.monotonic_s(), self._lent_s
        between()
        self._lent_s = lent_before_s + self._clock.monotonic_s() - began_s

    def _guarded(self, one: _Pass, refs: Sequence[RowRef], bucket: int) -> None:
        try:
            outputs = self._forward(one, refs, bucket)
        except _OUT_OF_MEMORY as fault:
            self._shrink(one, refs, bucket, fault)
        except Exception as fault:
            if len(refs) > 1:
                self._halve(one, refs)
            else:
                self._accuse(one.batch, refs[0], fault)
        else:
            one.batch.segments.append(Segment(outputs, refs))

    def _halve(self, one: _Pass, refs: Sequence[RowRef]) -> None:
        self._meters.bisected(one.model.version_id)
        middle = len(refs) // 2
        for half in (refs[:middle], refs[middle:]):
            self._guarded(one, half, self._passes.holding(one.model, one.shape, len(half)))

    def _shrink(
        self, one: _Pass, refs: Sequence[RowRef], bucket: int, fault: BaseException
    ) -> None:
        self._meters.out_of_memory(one.model.version_id)
        if self._passes.is_smallest(one.model, bucket):
            if len(refs) > 1:
                self._halve(one, refs)
            else:
                self._accuse(one.batch, refs[0], fault)
            return
        before = self._passes.shrink(one.model, one.shape, bucket)
        log.warning("a pass of %d rows does not fit into memory; smaller ones follow", bucket)
        for some, size in self._cut(one, refs):
            self._guarded(one, some, size)
        # A row that takes too much by itself says nothing of how many others fit.
        if 0 < sum(_is_greedy(one.batch, ref) for ref in refs) < len(refs):
            self._passes.unshrink(one.model, one.shape, before)

    def _accuse(self, batch: Batch, ref: RowRef, fault: BaseException) -> None:
        # The text may hold a caller's data: it goes to the caller's own job, not to the log.
        log.warning("a row fails on the device by itself: %s", type(fault).__name__)
        # A framework's message goes on with the frames of its stack: only the first line counts.
        text = f"{type(fault).__name__}: {fault}".strip().splitlines()[0][:_MESSAGE_CHARACTERS]
        code, said = _verdict(fault)
        batch.faults[ref] = ItemError(f"{said}: {text}", code=code)
        work = batch.works[ref.work]
        if not work.is_list:
            work.fault = Fault(code, f"{said}: {text}")

    def _forward(self, one: _Pass, refs: Sequence[RowRef], bucket: int) -> dict[str, Ragged]:
        model, works = one.model, one.batch.works
        rows: list[Row] = []
        if isinstance(refs, Spans):
            inputs = shapes.join(model.signature, _arrays(one.batch, refs), bucket)
            inside = [works[index] for index, _, _ in refs.parts]
        else:
            rows = [_row(one.batch, ref) for ref in refs]
            inputs = shapes.stack(model.signature, rows, one.shape, bucket)
            inside = [works[index] for index in dict.fromkeys(ref.work for ref in refs)]
        for work in inside:
            work.entered_device = True
        began_s = self._passes.enter(self._slot, inside)
        try:
            self._publish(inside, refs)
            outputs = model.forward(inputs)
        finally:
            seconds = self._clock.monotonic_s() - began_s
            self._ledger.clear(self._slot)
            self._passes.leave(self._slot)
            self._meters.busy(seconds)
        _check(outputs, model.signature, bucket)
        self._passes.observe(model, one.shape, bucket, seconds, switched=self._switched)
        self._switched = False
        self._meters.batch(model.version_id, len(refs), bucket, one.bulk, seconds)
        if isinstance(refs, Spans):
            return {name: array[: len(refs)] for name, array in outputs.items()}
        return shapes.unpad(model, outputs, rows)

    def _publish(self, inside: Sequence[Work], refs: Sequence[RowRef]) -> None:
        """Say who is on the device: jobs, or rows of shards."""
        session_id = inside[-1].session_id  # of an older session nobody can be blamed any more
        if inside[0].block is None:
            ids = [work.job.id for work in inside if work.session_id == session_id]
            self._ledger.publish(self._slot, session_id, ids)
        else:
            spans = [span for work, span in _spans(inside, refs) if work.session_id == session_id]
            self._ledger.publish_rows(self._slot, session_id, spans)

    def _note_waits(self, works: Sequence[Work], now_s: float, bulk: bool) -> None:
        waits = [now_s - work.here_s(work.job.created_at) for work in works]
        self._meters.waited(works[0].job.version_id, *waits, bulk=bulk)


def _is_greedy(batch: Batch, ref: RowRef) -> bool:
    fault = batch.faults.get(ref)
    return fault is not None and fault.stable_code == _GREEDY


def _verdict(fault: BaseException) -> tuple[str, str]:
    if isinstance(fault, _OUT_OF_MEMORY):
        return _GREEDY, "it does not fit into the device's memory by itself"
    if isinstance(fault, WrongOutput):
        return "wrong_output", "the model's answer does not fit what it was asked"
    return "model_error", "the model failed on it"


def _check(outputs: Mapping[str, Array], signature: Signature, rows: int) -> None:
    """A row for each row, of the shape that the signature promises, and every output promised."""
    promised = {spec.name: spec.shape for spec in signature.outputs}
    missing = promised.keys() - outputs.keys()
    if missing:
        raise WrongOutput(f"no output {min(missing)}")
    for name, array in outputs.items():
        shape = promised.get(name, array.shape[1:])
        fits = len(array.shape) == 1 + len(shape) and all(
            want is None or want == have for want, have in zip(shape, array.shape[1:], strict=True)
        )
        if not fits or array.shape[0] != rows:
            raise WrongOutput(f"output {name} has the shape {array.shape} for {rows} rows")


def _row(batch: Batch, ref: RowRef) -> Row:
    row = batch.works[ref.work].rows[ref.row]
    assert not isinstance(row, ItemError)
    return row


def _arrays(batch: Batch, spans: Spans) -> list[Mapping[str, Array]]:
    found: list[Mapping[str, Array]] = []
    for index, first, last in spans.parts:
        block = batch.works[index].block
        assert block is not None and block.arrays is not None
        found.append({name: array[first:last] for name, array in block.arrays.items()})
    return found


def _spans(inside: Sequence[Work], refs: Sequence[RowRef]) -> Iterator[tuple[Work, RowSpan]]:
    if isinstance(refs, Spans):
        ranges = [(first, last) for _, first, last in refs.parts]
    else:
        rows: dict[int, list[int]] = {}
        for ref in refs:
            rows.setdefault(ref.work, []).append(ref.row)
        ranges = [(min(one), max(one) + 1) for one in rows.values()]
    for work, (first, last) in zip(inside, ranges, strict=True):
        assert work.block is not None
        yield work, work.block.span(work.job.id, first, last)


def _by_shape(batch: Batch, shape: str) -> Mapping[str, Sequence[RowRef]]:
    """The rows to run, grouped so that each group can be stacked."""
    blocks = [work.block for work in batch.works if work.block is not None]
    if blocks and blocks[0].arrays is not None:
        return {shape: Spans([(at, 0, len(one.positions)) for at, one in enumerate(blocks)])}
    groups: dict[str, list[RowRef]] = defaultdict(list)
    assert batch.lease is not None
    signature = batch.lease.model.signature
    for index, work in enumerate(batch.works):
        for place, row in enumerate(work.rows):
            if not isinstance(row, ItemError):
                own = shape if shape != MIXED else shapes.shape_of(signature, [row])
                groups[own].append(RowRef(index, place))
    return groups
