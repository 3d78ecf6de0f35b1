"""Rows as a run's parts give them, made by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from workers.bulk.evaluating.reading import Scored


def scored(
    positions: Sequence[int],
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | None = None,
    *,
    file: int = 0,
    kept: Mapping[str, Sequence[object]] | None = None,
    **outputs: Any,
) -> Scored:
    """Scores are 0.5 unless told otherwise."""
    given = [0.5] * len(positions) if scores is None else scores
    return Scored(
        file,
        np.array(positions, np.int64),
        {name: pa.array(values) for name, values in (kept or {}).items()},
        None if labels is None else pa.array(labels, pa.string()),
        None if labels is None else np.array(given, np.float32),
        {name: np.asarray(values) for name, values in outputs.items()},
    )


def chunked(rows: Sequence[tuple[int, int]], sizes: Iterator[int]) -> list[Scored]:
    """Rows by file and position in chunks of these sizes; each answers with where it is."""
    found, at = [], 0
    while at < len(rows):
        size = next(sizes)
        some = [row for row in rows[at : at + size] if row[0] == rows[at][0]]
        at += len(some)
        positions = [position for _, position in some]
        where = [float(1000 * file + position) for file, position in some]
        texts = [str(number) for number in where]
        found.append(scored(positions, texts, file=some[0][0], y=where))
    return found
