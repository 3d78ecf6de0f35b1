"""The one place that calls the model: pads, counts, maps rows to jobs, and finds culprits.

Rows go in under a ``RowRef`` each and come out under the same one, checked by number on the way.
When a pass raises, its rows are halved and run again until the culprit stands alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from storage.clock import Clock
from storage.records.errors import ItemError
from storage.records.signatures import Signature
from workers.inference.batch import Batch, RowRef, Segment
from workers.inference.batcher import LatencyModel, next_chunk
from workers.inference.ledger import Ledger
from workers.inference.ports import Array, LoadedModel, Row, shapes_of, stack_rows

log = logging.getLogger(__name__)


class WrongRows(Exception):
    """The model gave back another number of rows than it was given, or other rows than it said."""


class Device:
    """Runs batches, one at a time, on the thread that owns the device."""

    def __init__(self, ledger: Ledger, clock: Clock, max_batch: int) -> None:
        self._ledger, self._clock, self._max_batch = ledger, clock, max_batch
        self._latency: WeakKeyDictionary[LoadedModel, LatencyModel] = WeakKeyDictionary()
        self._busy_since_s: float | None = None

    def busy_for_s(self) -> float:
        """How long the running forward pass has taken; 0 when none runs."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else self._clock.monotonic_s() - since_s

    def compute(self, batch: Batch) -> None:
        """Fill the batch's segments and faults."""
        model = batch.lease.model
        sizes = self._sizes(model)
        latency = self._latency.setdefault(model, LatencyModel())
        for refs in _same_shapes(batch):
            while refs:
                count, bucket = next_chunk(len(refs), sizes, latency)
                self._guarded(batch, model, refs[:count], bucket)
                refs = refs[count:]

    def _sizes(self, model: LoadedModel) -> Sequence[int]:
        sizes = [size for size in model.batch_sizes if size <= self._max_batch]
        return sizes or model.batch_sizes[:1]

    def _guarded(self, batch: Batch, model: LoadedModel, refs: list[RowRef], bucket: int) -> None:
        try:
            outputs = self._forward(batch, model, refs, bucket)
        except Exception as fault:
            if len(refs) > 1:
                self._halve(batch, model, refs)
            else:
                self._accuse(batch, refs[0], fault)
            return
        batch.segments.append(Segment(outputs, tuple(refs)))

    def _halve(self, batch: Batch, model: LoadedModel, refs: list[RowRef]) -> None:
        middle = len(refs) // 2
        for half in (refs[:middle], refs[middle:]):
            fits = [size for size in model.batch_sizes if size >= len(half)]
            self._guarded(batch, model, half, fits[0])

    def _accuse(self, batch: Batch, ref: RowRef, fault: Exception) -> None:
        # The text may hold a caller's data: it goes to the caller's own job, not to the log.
        log.warning("a row fails on the device by itself: %s", type(fault).__name__)
        # A framework's message goes on with the frames of its stack: only the first line counts.
        text = f"{type(fault).__name__}: {fault}".strip().splitlines()[0][:500]
        batch.faults[ref] = ItemError(f"the model failed on it: {text}", code="model_error")
        work = batch.works[ref.work]
        if not work.is_list:
            work.culprit = text

    def _forward(
        self, batch: Batch, model: LoadedModel, refs: list[RowRef], bucket: int
    ) -> dict[str, Array]:
        inputs = stack_rows([_row(batch, ref) for ref in refs], bucket)
        works = dict.fromkeys(ref.work for ref in refs)
        for work in works:
            batch.works[work].entered_device = True
        self._ledger.publish(batch.session_id, [batch.works[work].job.id for work in works])
        self._busy_since_s = began_s = self._clock.monotonic_s()
        try:
            outputs = model.forward(inputs)
        finally:
            self._busy_since_s = None
            self._ledger.clear()
        self._latency[model].observe(bucket, self._clock.monotonic_s() - began_s)
        _check(outputs, model.signature, bucket)
        return {name: array[: len(refs)] for name, array in outputs.items()}


def _check(outputs: Mapping[str, Array], signature: Signature, rows: int) -> None:
    """A row for each row, of the shape that the signature promises."""
    promised = {spec.name: spec.shape for spec in signature.outputs}
    for name, array in outputs.items():
        shape = promised.get(name, array.shape[1:])
        fits = len(array.shape) == 1 + len(shape) and all(
            want is None or want == have for want, have in zip(shape, array.shape[1:], strict=True)
        )
        if not fits or array.shape[0] != rows:
            raise WrongRows(f"output {name} has the shape {array.shape} for {rows} rows")


def _row(batch: Batch, ref: RowRef) -> Row:
    row = batch.works[ref.work].rows[ref.row]
    assert not isinstance(row, ItemError)
    return row


def _same_shapes(batch: Batch) -> list[list[RowRef]]:
    """The rows to run, grouped so that each group can be stacked."""
    groups: dict[object, list[RowRef]] = defaultdict(list)
    for index, work in enumerate(batch.works):
        for place, row in enumerate(work.rows):
            if not isinstance(row, ItemError):
                groups[shapes_of(row)].append(RowRef(index, place))
    return list(groups.values())
