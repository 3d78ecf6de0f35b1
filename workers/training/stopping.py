"""Early stopping, as Keras does it: whether an epoch was the best so far, and whether to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from storage.records.errors import InvalidInput
from storage.records.training import EarlyStopping

_MORE_IS_BETTER = (
    *("acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "iou", "similarity"),
    *("true_positives", "true_negatives"),
)


@dataclass(frozen=True, slots=True)
class Patience:
    """What early stopping remembers between epochs."""

    best: float | None = None
    best_epoch: int = 0  # from 1; 0 while there is none
    waited: int = 0  # epochs since

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best one."""
        return self.best_epoch > 0 and self.waited == 0


def more_is_better(monitor: str) -> bool:
    """Whether a larger value is a better one: of accuracy and its like, not of losses."""
    name = monitor.removeprefix("val_")
    if "loss" in name or "error" in name:
        return False
    return any(part in name for part in _MORE_IS_BETTER)


def after_epoch(
    before: Patience, rule: EarlyStopping, epoch: int, values: Mapping[str, float | None]
) -> Patience:
    """``values`` are those of epoch ``epoch`` (from 1). A value that is no number is no better one.

    ``InvalidInput`` (``bad_monitor``) where nothing of that name is measured.
    """
    if rule.monitor not in values:
        measured = ", ".join(sorted(set(values) - {"epoch", "seconds", "rows"}))
        raise InvalidInput(
            f"early_stopping watches {rule.monitor!r}, which is not measured; there are {measured}"
            + ("" if "val_loss" in values else " (split.validation is 0)"),
            code="bad_monitor",
            field="spec.early_stopping.monitor",
        )
    value = values[rule.monitor]
    if value is not None and math.isfinite(value) and _is_better(value, before.best, rule):
        return Patience(value, epoch, 0)
    return replace(before, waited=before.waited + 1)


def is_over(patience: Patience, rule: EarlyStopping) -> bool:
    """Whether to stop after the epoch that was looked at last."""
    return not patience.improved and patience.waited >= max(1, rule.patience)


def _is_better(value: float, best: float | None, rule: EarlyStopping) -> bool:
    if best is None:
        return True
    if more_is_better(rule.monitor):
        return value - abs(rule.min_delta) > best
    return value + abs(rule.min_delta) < best
