"""What became of the rows' labels, from one version to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.bulk.evaluating.examples import Examples
from workers.bulk.evaluating.matching import Pair
from workers.bulk.evaluating.reading import Scored
from workers.inference.ports import Array

MOST_TOLD = 100  # transitions
_MOST_KEPT = 100_000  # beyond that the rarest half is forgotten: some counts may be too low then

Told = dict[str, object]


class LabelChanges:
    """A row disagrees where its label is another one, however close the scores are."""

    def __init__(self, examples: int) -> None:
        self.rows = self.disagreed = 0
        self._transitions: Counter[tuple[str, str]] = Counter()
        self._judged, self._fixed, self._broken = False, 0, 0
        self._examples = Examples(examples)

    def add(self, pair: Pair, truth: pa.Array | None, name: Callable[[int], Told]) -> None:
        """Rows with their true labels as text, null where there is none; ``name`` says which row
        is at an index."""
        (before, _), (after, _) = (_best(rows) for rows in pair)
        differ = pc.not_equal(before, after)
        changed = np.flatnonzero(differ.to_numpy(zero_copy_only=False))
        self.rows += len(before)
        self.disagreed += len(changed)
        if truth is not None:
            self._judge(before, after, truth)
        if len(changed):
            some = pa.array(changed)
            self._count(before.take(some), after.take(some))
            self._show(pair, changed, truth, name)

    def told(self) -> Told:
        """The document's part. ``fixed`` and ``broken`` are None where no row had a truth."""
        often = sorted(self._transitions.items(), key=lambda one: (-one[1], one[0]))
        return {
            "transitions": [
                {"from": before, "to": after, "rows": rows}
                for (before, after), rows in often[:MOST_TOLD]
            ],
            "fixed": self._fixed if self._judged else None,
            "broken": self._broken if self._judged else None,
            "differences": None,
            "examples": self._examples.told(),
        }

    def _judge(self, before: pa.Array, after: pa.Array, truth: pa.Array) -> None:
        self._judged = self._judged or truth.null_count < len(truth)
        was, now = _right(before, truth), _right(after, truth)
        self._fixed += int((~was & now).sum())
        self._broken += int((was & ~now).sum())

    def _count(self, before: pa.Array, after: pa.Array) -> None:
        table = pa.table({"from": before, "to": after})
        counts = table.group_by(["from", "to"]).aggregate([([], "count_all")])
        for one in counts.to_pylist():
            self._transitions[one["from"], one["to"]] += one["count_all"]
        if len(self._transitions) > _MOST_KEPT:
            self._transitions = Counter(dict(self._transitions.most_common(_MOST_KEPT // 2)))

    def _show(
        self, pair: Pair, changed: Array, truth: pa.Array | None, name: Callable[[int], Told]
    ) -> None:
        """Those first that both sides were surest of. A label whose score was ``s`` and that is
        not the best where another has ``t`` lost at least ``s + t - 1``."""
        (was, sure_before), (now, sure_after) = (_best(rows) for rows in pair)

        def make(at: int) -> Told:
            row = int(changed[at])
            told = name(row)
            if truth is not None:
                told["truth"] = truth[row].as_py()
            told |= {"before": was[row].as_py(), "after": now[row].as_py()}
            scores = {"score_before": sure_before[row], "score_after": sure_after[row]}
            return told | {key: float(str(score)) for key, score in scores.items()}

        self._examples.offer(sure_before[changed].astype(np.float64) + sure_after[changed], make)


def _best(rows: Scored) -> tuple[pa.Array, Array]:
    """The labels and their scores."""
    assert rows.label is not None and rows.score is not None
    return rows.label, rows.score


def _right(said: pa.Array, truth: pa.Array) -> Array:
    found: Array = pc.fill_null(pc.equal(said, truth), False).to_numpy(zero_copy_only=False)
    return found
