"""What the demo prints is counted, not estimated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from forebay.figures import figures, percentile


def job(pack, latency_ms):
    result = SimpleNamespace(pack_id=pack) if pack else None
    return SimpleNamespace(result=result, created_at=1000, finished_at=1000 + latency_ms)


def test_batches_are_the_packs_that_were_written():
    members = [job("a", 10), job("a", 20), job("b", 30), job(None, 40)]
    truth = {"0": "7", "1": "1", "2": "2", "3": "3"}
    found = figures(members, {"0": "7", "1": "1", "2": "9"}, truth, elapsed_s=2.0)
    assert (found.jobs, found.batches, found.mean_batch) == (4, 2, 2.0)
    assert (found.correct, found.accuracy, found.jobs_per_s) == (2, 0.5, 2.0)
    assert (found.latency_p50_ms, found.latency_p99_ms) == (20, 40)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, 0), ([5], 1, 5), ([5], 99, 5), ([1, 2, 3, 4], 50, 2), (list(range(1, 101)), 99, 99)],
)
def test_percentiles_are_values_that_occurred(values, percent, expected):
    assert percentile(values, percent) == expected
