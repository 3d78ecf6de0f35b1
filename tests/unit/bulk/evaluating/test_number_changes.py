"""How far numbers moved is what doing it one by one says."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scored import scored
from workers.bulk.evaluating import number_changes
from workers.bulk.evaluating.number_changes import SMALL, Differences, NumberChanges

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def name(at: int) -> dict[str, object]:
    return {"row_id": f"0:{at}"}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
def test_changes_are_those_of_comparing_one_by_one(seed: int, tolerance: float) -> None:
    chance = np.random.default_rng(seed)
    before = {"a": chance.normal(size=(200, 2)), "b": chance.normal(size=200) * 1e-4}
    after = {
        key: array + (chance.random(array.shape) < 0.3) * chance.normal(size=array.shape) * scale
        for (key, array), scale in zip(before.items(), (0.05, 1e-6), strict=True)
    }
    changes = NumberChanges(7, tolerance, [("a", "a"), ("b", "b")])
    for first in range(0, 200, 64):
        some = slice(first, first + 64)
        places = list(range(200))[some]
        pair = [
            scored(places, **{key: array[some] for key, array in side.items()})
            for side in (before, after)
        ]
        changes.add((pair[0], pair[1]), None, lambda at, first=first: name(first + at))
    moved, differ = [], []
    for row in range(200):
        pairs = [(*before["a"][row], before["b"][row]), (*after["a"][row], after["b"][row])]
        off = [abs(now - was) for was, now in zip(*pairs, strict=True)]
        least = [max(abs(was), abs(now), SMALL) for was, now in zip(*pairs, strict=True)]
        moved.append(max(off))
        if any(one > tolerance * size for one, size in zip(off, least, strict=True)):
            differ.append(row)
    told = changes.told()
    assert (changes.rows, changes.disagreed) == (200, len(differ)), seed
    found = told["differences"]
    assert isinstance(found, dict)
    expected = {"mean": np.mean(moved), "p95": np.percentile(moved, 95), "max": max(moved)}
    assert found == pytest.approx(expected, rel=1e-12), seed
    examples = told["examples"]
    assert isinstance(examples, list)
    differ.sort(key=lambda row: (-moved[row], row))
    assert [one["row_id"] for one in examples] == [f"0:{row}" for row in differ[:7]]
    for one, row in zip(examples, differ, strict=False):
        assert one["before"] == {"a": before["a"][row].tolist(), "b": before["b"][row]}


def test_a_row_is_shown_with_its_truth_and_the_digits_of_its_type() -> None:
    changes = NumberChanges(1, 1e-3, [("y", "z")])
    one = scored([4], y=np.array([0.1], np.float32))
    other = scored([4], z=np.array([[0.2]], np.float32))
    changes.add((one, other), pa.array([0.3]), name)
    told = changes.told()["examples"]
    assert told == [{"row_id": "0:0", "truth": 0.3, "before": 0.1, "after": 0.2}]


@pytest.mark.parametrize(
    ("truth", "shown"),
    [
        (pa.array([Decimal("1.20")]), 1.2),
        (pa.array([timedelta(seconds=61)]), "0:01:01"),
        (pa.array([[Decimal("0.50"), None]]), [0.5, None]),
        (pa.array([None], pa.float64()), None),
    ],
)
def test_a_truth_is_shown_in_what_json_can_hold(truth: pa.Array, shown: object) -> None:
    changes = NumberChanges(1, 1e-3, [("y", "y")])
    changes.add((scored([4], y=np.array([0.1])), scored([4], y=np.array([0.2]))), truth, name)
    (example,) = changes.told()["examples"]
    assert json.loads(json.dumps(example))["truth"] == shown


def test_the_percentile_of_very_many_rows_is_near_and_takes_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(number_changes, "_MOST_KEPT", 1_000)
    chance = np.random.default_rng(3)
    every = chance.exponential(size=20_000)
    found, at = Differences(), 0
    while at < len(every):
        size = int(chance.integers(1, 700))
        found.add(every[at : at + size])
        at += size
        held = sum(map(len, found._kept))
        assert held <= 1_000 and (at < 1_000 or held >= 499)
    np.testing.assert_array_equal(np.concatenate(found._kept), every[:: found._step])
    told = found.told()
    assert told is not None
    assert told["max"] == every.max() and math.isclose(told["mean"], every.mean(), rel_tol=1e-9)
    below = float((every < told["p95"]).mean())
    assert 0.93 < below < 0.97


def test_of_no_rows_nothing_is_told() -> None:
    assert NumberChanges(5, 0.1, [("y", "y")]).told()["differences"] is None
