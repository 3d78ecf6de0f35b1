"""Two scorings of the same files meet row by row, however each of them was cut."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.scored import chunked
from workers.bulk.evaluating.matching import Matching

Place = tuple[int, int]


@pytest.mark.parametrize("seed", range(60))
def test_each_row_that_both_have_meets_itself_once_and_the_others_are_counted(seed: int) -> None:
    chance = random.Random(seed)
    every = [(file, place) for file in range(3) for place in range(chance.choice([0, 1, 7, 90]))]

    def some() -> list[Place]:
        share = chance.choice([0.0, 0.3, 0.9, 1.0])
        return [one for one in every if chance.random() < share]

    def sizes() -> Iterator[int]:
        while True:
            yield chance.choice([1, 2, 5, 40])

    before, after = some(), some()
    matching, met = Matching(), []
    for one, other in matching.pairs(chunked(before, sizes()), chunked(after, sizes())):
        assert one.file == other.file
        np.testing.assert_array_equal(one.positions, other.positions)
        for side in (one, other):  # everything of a row went with it
            where = 1000.0 * side.file + side.positions
            np.testing.assert_array_equal(side.outputs["y"], where)
            assert side.label is not None and side.score is not None
            assert side.label.to_pylist() == [str(number) for number in where.tolist()]
            assert len(side.score) == len(where)
        met += [(one.file, place) for place in one.positions.tolist()]
    assert met == sorted(set(before) & set(after)), seed
    assert matching.missing == len(set(before) ^ set(after)), seed
