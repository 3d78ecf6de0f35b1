"""What a training measured goes by the names that evaluations have."""

from __future__ import annotations

from typing import Any

import pytest

from producers.gate_values import trained_metrics
from storage.records.models import ModelFormat, ModelVersion, VersionState

MACRO = {"precision": 0.1, "recall": 0.2, "f1": 0.3}
POSITIVE = {"label": "yes", "precision": 0.4, "recall": 0.5, "f1": 0.6}
OF_MACRO = {"macro_precision": 0.1, "macro_recall": 0.2, "macro_f1": 0.3}


def version(origin: dict[str, Any] | None) -> ModelVersion:
    return ModelVersion(
        *("id", "alice", "digits", 1, VersionState.READY, ModelFormat.KERAS, "d", 1, "k", {}),
        *(False, None, 0, 0),
        origin=origin,
    )


@pytest.mark.parametrize(
    ("evaluation", "metrics"),
    [
        (
            {"on": "test", "rows": 5, "accuracy": 0.9, "auc": 0.95, "macro": MACRO},
            {"rows": 5, "accuracy": 0.9, "auc": 0.95, **OF_MACRO}
            | {"precision": 0.1, "recall": 0.2, "f1": 0.3},
        ),
        (
            {"rows": 5, "accuracy": 0.9, "auc": None, "macro": MACRO, "positive": POSITIVE},
            {"rows": 5, "accuracy": 0.9, **OF_MACRO, "precision": 0.4, "recall": 0.5, "f1": 0.6},
        ),
        ({"rows": 5, "mse": 4.0, "rmse": 2.0, "r2": None}, {"rows": 5, "mse": 4.0, "rmse": 2.0}),
        ({"on": None, "rows": 0, "note": "nothing is known"}, {"rows": 0}),
    ],
    ids=["of several labels", "of two labels", "of numbers", "of nothing"],
)
def test_a_trainings_figures_are_found_by_name(
    evaluation: dict[str, Any], metrics: dict[str, float]
) -> None:
    assert trained_metrics(version({"job_id": "j", "evaluation": evaluation})) == metrics


@pytest.mark.parametrize("origin", [None, {}, {"evaluation": None}, {"evaluation": "0.9"}])
def test_a_version_that_was_not_trained_here_has_none(origin: dict[str, Any] | None) -> None:
    assert trained_metrics(version(origin)) == {}
