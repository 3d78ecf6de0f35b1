"""Values that rows are told apart by: the most frequent ones by name, the rest as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from workers.bulk.evaluating.truth import words_of
from workers.inference.ports import Array
from workers.training.data.values import sorted_words

MOST_VALUES = 50
_MOST_COUNTED = 100_000  # different values: of those that come later none is told apart


class Counting:
    """The first look at a column: which values there are, and how often."""

    def __init__(self) -> None:
        self._rows: Counter[str | None] = Counter()

    def add(self, column: pa.Array) -> None:
        """Some rows of it."""
        counts = words_of(column).value_counts()
        for one in counts.to_pylist():
            value = one["values"]
            if value in self._rows or len(self._rows) < _MOST_COUNTED:
                self._rows[value] += one["counts"]

    def values(self) -> Values:
        """The most frequent ones; of equally frequent ones the first in their order."""
        texts = sorted_words([word for word in self._rows if word is not None])
        ordered: list[str | None] = [*texts, *([None] if None in self._rows else [])]
        often = sorted(ordered, key=lambda word: -self._rows[word])[:MOST_VALUES]
        chosen = set(often)
        words = [word for word in ordered if word in chosen]
        others = len(ordered) - len(chosen)
        return Values(words, [self._rows[word] for word in words], others)


class Values:
    """Those that are told apart, in their order (numbers by value, None last), how many ``rows``
    each has, and how many other values there are."""

    def __init__(self, words: Sequence[str | None], rows: Sequence[int], others: int) -> None:
        self.words, self.rows, self.others = words, rows, others
        self._places = {word: at for at, word in enumerate(words)}

    @property
    def groups(self) -> int:
        """Of rows; the last is all others."""
        return len(self.words) + 1

    def places(self, column: pa.Array) -> Array:
        """Each row's group, int64 (n,)."""
        encoded = words_of(column).dictionary_encode(null_encoding="encode")
        other = len(self.words)
        table = [self._places.get(word, other) for word in encoded.dictionary.to_pylist()]
        found: Array = np.array([*table, other], np.int64)[encoded.indices.to_numpy()]
        return found
