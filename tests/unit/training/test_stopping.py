"""Early stopping decides as Keras does."""

from __future__ import annotations

import math

import pytest

from producers.training_names import METRICS
from storage.records.training import EarlyStopping
from workers.training.stopping import Patience, after_epoch, is_over, more_is_better


def run(rule: EarlyStopping, values: list[float | None]) -> tuple[int, int]:
    """After how many epochs it stops, and the best one."""
    patience = Patience()
    for epoch, value in enumerate(values, 1):
        patience = after_epoch(patience, rule, epoch, {rule.monitor: value})
        if is_over(patience, rule):
            return epoch, patience.best_epoch
    return len(values) + 1, patience.best_epoch


def test_it_waits_as_long_as_it_is_told() -> None:
    losses: list[float | None] = [3.0, 2.0, 2.5, 2.1, 1.9, 2.0, 2.0, 2.0]
    assert run(EarlyStopping(patience=3), losses) == (8, 5)
    assert run(EarlyStopping(patience=2), losses) == (4, 2)
    assert run(EarlyStopping(patience=0), losses) == (3, 2)


def test_a_little_better_is_not_better() -> None:
    assert run(EarlyStopping(patience=2, min_delta=0.5), [3.0, 2.6, 2.55, 1.0]) == (3, 1)


@pytest.mark.parametrize("name", ["accuracy", "val_accuracy", "val_auc", "recall", "r2_score"])
def test_of_accuracy_and_its_like_more_is_better(name: str) -> None:
    assert more_is_better(name)
    assert run(EarlyStopping(monitor=name, patience=1), [0.5, 0.6, 0.7, 0.6]) == (4, 3)


@pytest.mark.parametrize("name", ["loss", "val_loss", "val_mean_squared_error", "mae"])
def test_of_losses_less_is_better(name: str) -> None:
    assert not more_is_better(name)


def test_every_metric_that_a_spec_may_name_is_watched_the_right_way() -> None:
    """``f1`` at its best is 1, ``false_positives`` is 0."""
    most = {
        *("accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"),
        *("sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy"),
        *("precision", "recall", "f1", "auc", "r2", "cosine_similarity"),
        *("true_positives", "true_negatives"),
    }
    least = {
        *("mae", "mse", "root_mean_squared_error", "log_cosh_error"),
        *("mean_absolute_percentage_error", "mean_squared_logarithmic_error"),
        *("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"),
        *("hinge", "squared_hinge", "categorical_hinge", "poisson"),
        *("false_positives", "false_negatives"),
    }
    assert most | least == set(METRICS), "say which way a new metric goes"
    for monitor in METRICS:
        assert more_is_better(monitor) is (monitor in most), monitor
        assert more_is_better(f"val_{monitor}") is (monitor in most), monitor


def test_what_is_no_number_is_never_the_best() -> None:
    assert run(EarlyStopping(patience=2), [None, math.nan, 1.0]) == (2, 0)
    assert run(EarlyStopping(patience=3), [math.inf, 2.0, None, 1.0]) == (5, 4)
