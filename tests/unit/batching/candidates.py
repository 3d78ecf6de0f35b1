"""Candidates and windows for the batcher's tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from workers.inference.batching import UNLIMITED, Candidate, LatencyBook, Limits, Window

SIZES = (1, 2, 4, 8, 16, 32, 64)
_numbers = itertools.count()


def candidate(
    version: str = "v",
    *,
    tenant: str = "t",
    shape: str = "",
    rows: int = 1,
    row_cost: float = 1.0,
    rank_ms: int = 0,
    bulk: bool = False,
    latest_start_s: float = math.inf,
    companions: int = UNLIMITED,
) -> Candidate:
    """One with a name of its own."""
    return Candidate(
        job_id=f"job-{next(_numbers)}",
        tenant=tenant,
        version_id=version,
        shape=shape,
        rows=rows,
        cost=rows * row_cost,
        rank_ms=rank_ms,
        bulk=bulk,
        latest_start_s=latest_start_s,
        companions=companions,
    )


def limits(
    sizes: tuple[int, ...] = SIZES, *, max_cost: float | None = None, objective_s: float = 10.0
) -> Limits:
    """With an objective that is out of the way unless it is asked for."""
    return Limits(sizes, max_cost, objective_s)


def taught(
    *versions: str, fixed_s: float = 0.005, per_row_s: float = 0.00025, book: LatencyBook | None
) -> LatencyBook:
    """A book that has seen every size of these versions a few times."""
    book = book or LatencyBook()
    for version in versions:
        for size in SIZES:
            for _ in range(5):
                book.observe(version, "", size, fixed_s + per_row_s * size)
    return book


def window(book: LatencyBook | None = None, of: Callable[[str], Limits] | None = None) -> Window:
    """A window whose versions all have the same limits."""
    return Window(book or taught("v", book=None), limits=of or (lambda version_id: limits()))


def always(version_id: str) -> bool:
    """Every version is loaded and free."""
    return True
