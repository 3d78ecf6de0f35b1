"""Intervals hold what is so 95 times of a hundred, about; and the same rows have the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tests.unit.bulk.evaluating.test_measures import measured, model, softmax
from workers.bulk.evaluating import intervals
from workers.bulk.evaluating.intervals import of_mean, of_share

TRIES = 200


def test_a_share_has_wilsons_interval() -> None:
    for some, rows in ((0, 5), (3, 7), (50, 100), (999, 1000), (8, 8)):
        expected = stats.binomtest(some, rows).proportion_ci(0.95, method="wilson")
        assert of_share(some, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert of_share(0, 0) is None


def test_a_mean_has_students_interval() -> None:
    chance = np.random.default_rng(1)
    for rows in (2, 3, 4, 6, 12, 40, 3000):
        values = chance.normal(5, 2, rows)
        expected = stats.t.interval(0.95, rows - 1, values.mean(), stats.sem(values))
        found = of_mean(values.sum(), (values**2).sum(), rows)
        assert found == pytest.approx(expected, rel=2e-2 if rows < 6 else 1e-3)
    assert of_mean(1.0, 1.0, 1) is None and intervals.around(0.5, 0.0, 0, 1) is None


def classes(chance: Any) -> dict[str, Any]:
    truth = chance.integers(0, 3, 300)
    raw = softmax(chance.normal(size=(300, 3)) + np.eye(3)[truth])
    return measured(model(3, "abc"), raw, pa.array(np.array(list("abc"))[truth]))[1]


def pairs(chance: Any) -> dict[str, Any]:
    truth = chance.integers(0, 2, 300)
    raw = softmax(chance.normal(size=(300, 2)) + np.eye(2)[truth])
    return measured(model(2, "ab"), raw, pa.array(np.array(list("ab"))[truth]))[1]


def numbers(chance: Any) -> dict[str, Any]:
    truth = chance.normal(10, 3, 300)
    said = (truth + chance.normal(0.2, 1, 300)).astype("float32").reshape(-1, 1)
    return measured(model(1, scores="auto"), said, pa.array(truth))[1]


@pytest.mark.parametrize("draw", [classes, pairs, numbers])
def test_an_interval_holds_what_many_more_rows_show(draw: Callable[[Any], dict[str, Any]]) -> None:
    told = [draw(np.random.default_rng(seed)) for seed in range(TRIES)]
    names = set(told[0]["intervals"])
    assert (
        names
        >= {
            classes: {"accuracy", "f1", "macro_recall", "auc", "log_loss", "brier"},
            pairs: {"accuracy", "precision", "recall", "f1", "macro_f1", "auc", "brier"},
            numbers: {"mae", "mse", "rmse", "bias", "r2"},
        }[draw]
    )
    for name in names:
        truth = np.mean([one["metrics"][name] for one in told])  # of 60,000 rows
        held = sum(one["intervals"][name][0] <= truth <= one["intervals"][name][1] for one in told)
        assert held / TRIES > 0.9, (name, held)
        widths = [one["intervals"][name][1] - one["intervals"][name][0] for one in told]
        spread = np.std([one["metrics"][name] for one in told])
        assert 2.5 * spread < np.mean(widths) < 6 * spread, (name, spread, np.mean(widths))


def test_the_same_rows_have_the_same_intervals() -> None:
    first, second = (pairs(np.random.default_rng(9)) for _ in range(2))
    assert first["intervals"] == second["intervals"]
