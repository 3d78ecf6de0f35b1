"""Labels beside a comparison: which answers became right or wrong, and how good the other side was
on the very same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from storage.records.errors import InvalidInput
from storage.records.signatures import Signature
from workers.bulk.evaluating.matching import Pair
from workers.bulk.evaluating.measuring import Measures
from workers.bulk.evaluating.target import CLASSES, Target, target_of
from workers.bulk.evaluating.truth import Truth, words_of

Told = dict[str, object]
LabelOf = Callable[[Mapping[str, pa.Array]], pa.Array]


class Judging:
    """Of one comparison; ``before`` is the other side's signature. ``label_of`` finds the labels
    among the kept columns."""

    def __init__(self, before: Signature, after: Signature, label_of: LabelOf) -> None:
        self._before, self._after, self._label_of = before, after, label_of
        self._truth: Truth | None = None
        self._target: Target | None = None
        self._measures: Measures | None = None

    def add(self, pair: Pair) -> pa.Array:
        """What is true of some rows: of classes as the answers are spelled."""
        label = self._label_of(pair[1].kept)
        if self._target is None:
            self._target = target_of(self._after, label.type)
            self._truth, self._measures = Truth(self._target), self._of_before(label.type)
        if self._measures is not None:
            self._measures.add(pair[0], label, {})
        if self._target.task != CLASSES or self._truth is None:
            return label
        places, good = self._truth.read(label)
        labels = pa.array(self._target.labels, pa.string())
        known = labels.take(pa.array(places.clip(0)))
        return pc.if_else(pa.array(good), known, words_of(label))

    def metrics(self, look: Callable[[], None]) -> Told | None:
        """The other side's; ``look`` is called now and then, and may raise."""
        if self._measures is None or not self._measures.rows:
            return None
        told: Told = self._measures.told(look)["metrics"]
        return told

    def _of_before(self, label: pa.DataType) -> Measures | None:
        try:
            return Measures(target_of(self._before, label))
        except InvalidInput:  # such a version has no metrics of these labels
            return None
