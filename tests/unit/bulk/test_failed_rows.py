"""A run over the failed rows of another is about these rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from workers.bulk.ports import Chunk, RowError
from workers.bulk.scoring import those


def test_rows_of_the_other_run_that_did_not_fail_count_as_nothing() -> None:
    batch = pa.record_batch({"x": [1, 2, 3]})
    errors = (RowError(5, "wrong_type", "no number"), RowError(6, "wrong_type", "no number"))
    chunk = Chunk(batch, np.array([0, 10, 20]), errors, 2, 30)
    left = those(chunk, np.array([6, 10]))
    assert left.batch.to_pydict() == {"x": [2]} and left.positions.tolist() == [10]
    assert left.errors == errors[1:]
    assert (left.skipped, left.next) == (0, 30)
