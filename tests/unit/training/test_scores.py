"""Scores are the textbook's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workers.training.scores import (
    auc,
    auc_macro,
    confusion,
    errors_of_numbers,
    macro,
    shares,
    tally,
)

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], np.int64)
SAID = np.array([0, 0, 1, 2, 1, 1, 0, 2, 2, 1], np.int64)


def test_a_confusion_matrix_counts_what_is_so_by_what_was_said() -> None:
    matrix = confusion(TRUTH, SAID, 3)
    assert matrix.tolist() == [[2, 1, 1], [1, 2, 0], [0, 1, 2]]


def test_precision_recall_and_f1_of_each_label() -> None:
    counts = tally(TRUTH, SAID, 3)
    assert counts.support.tolist() == [4, 3, 3]
    found = shares(counts)
    assert found["precision"] == pytest.approx([2 / 3, 2 / 4, 2 / 3])
    assert found["recall"] == pytest.approx([2 / 4, 2 / 3, 2 / 3])
    assert found["f1"] == pytest.approx([4 / 7, 4 / 7, 2 / 3])
    assert macro(tally(TRUTH, SAID, 3))["f1"] == pytest.approx((4 / 7 + 4 / 7 + 2 / 3) / 3)


def test_counts_by_label_are_the_sums_of_the_matrix() -> None:
    matrix, counts = confusion(TRUTH, SAID, 4), tally(TRUTH, SAID, 4)
    assert np.array_equal(counts.hits, np.diag(matrix))
    assert np.array_equal(counts.support, matrix.sum(axis=1))
    assert np.array_equal(counts.said, matrix.sum(axis=0))


def test_a_label_that_nobody_has_or_says_counts_for_nothing() -> None:
    with_fourth = tally(TRUTH, SAID, 4)
    assert macro(with_fourth) == macro(tally(TRUTH, SAID, 3))
    assert shares(with_fourth)["f1"][3] == 0.0
    assert macro(tally(TRUTH[:0], SAID[:0], 2))["recall"] == 0.0


def test_auc_is_the_chance_that_a_positive_scores_higher() -> None:
    chance = np.random.Generator(np.random.PCG64(1))
    for _ in range(20):
        positive = chance.random(30) < 0.4
        score = chance.integers(0, 6, 30).astype(np.float32)  # with many ties
        pairs = list(itertools.product(score[positive], score[~positive]))
        counted = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
        assert auc(positive, score) == pytest.approx(counted, abs=1e-12)


def test_auc_of_known_cases() -> None:
    yes = np.array([False, False, True, True])
    assert auc(yes, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(yes, np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert auc(yes, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert auc(np.array([True, True]), np.array([0.1, 0.2])) is None
    assert auc(yes, np.array([0.1, np.nan, 0.3, 0.4])) is None


def test_auc_of_several_labels_leaves_out_those_that_cannot_be_told() -> None:
    scores = np.eye(3)[TRUTH[:7]] + 0.1
    assert auc_macro(TRUTH[:7], scores) == 1.0
    assert auc_macro(np.zeros(3, np.int64), np.ones((3, 2))) is None


def test_errors_of_numbers() -> None:
    found = errors_of_numbers(np.array([3.0, -0.5, 2.0, 7.0]), np.array([[2.5], [0.0], [2.0], [8]]))
    assert found["mse"] == pytest.approx(0.375)
    assert found["mae"] == pytest.approx(0.5)
    assert found["rmse"] == pytest.approx(0.375**0.5)
    assert found["r2"] == pytest.approx(0.9486081370449679)
    assert errors_of_numbers(np.ones(3), np.zeros(3))["r2"] is None
