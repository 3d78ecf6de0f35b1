"""Every bucket once before a job comes: what is small first, as far as the budget goes.

A first call allocates, picks kernels and, with XLA, compiles. What the budget leaves out is warmed
by the first batch that needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import cycle, islice

from storage.records.signatures import Signature
from workers.inference.ports import DeviceOutOfMemory
from workers.inference.shapes import shape_of, stack
from workers.runtime.probes import Forward, check_batch_axis, made_up_rows, usual_lengths

log = logging.getLogger(__name__)

_DIFFERENT_ROWS = 4  # of a batch that is only run for its size


def warm(
    signature: Signature,
    sizes: tuple[int, ...],
    forward: Forward,
    *,
    refusals: type[Exception],
    budget_s: float,
    monotonic_s: Callable[[], float],
) -> tuple[int, ...]:
    """Run each bucket once; the sizes that fit on the device."""
    end_s = monotonic_s() + budget_s
    fitting = sizes
    for size, step in _buckets(signature, sizes):
        if monotonic_s() > end_s:
            log.info("batches from %d rows are not warm", size)
            break
        if size not in fitting:
            continue
        few = made_up_rows(signature, [usual_lengths(signature, step)] * _DIFFERENT_ROWS, seed=size)
        rows = list(islice(cycle(few), size))
        try:
            check_batch_axis(forward(stack(signature, rows, shape_of(signature, rows), size)), size)
        except refusals:
            break
        except DeviceOutOfMemory:
            if step > 0:
                continue  # of this length only: whoever runs it learns its own bound
            fitting = tuple(s for s in fitting if s < size)
            if not fitting:
                raise
    return fitting


def _buckets(signature: Signature, sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(batch size, index among the allowed lengths), what costs least first."""
    pads = signature.serving.pad.values()
    steps = max((len(pad.sizes) for pad in pads), default=1)

    def cost(bucket: tuple[int, int]) -> int:
        size, step = bucket
        return size * max((pad.sizes[min(step, len(pad.sizes) - 1)] for pad in pads), default=1)

    yield from sorted(((size, step) for size in sizes for step in range(steps)), key=cost)
