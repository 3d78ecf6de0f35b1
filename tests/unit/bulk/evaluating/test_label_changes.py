"""What became of labels is what counting them one by one says."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pytest

from tests.support.scored import scored
from workers.bulk.evaluating import label_changes
from workers.bulk.evaluating.label_changes import LabelChanges

LABELS = ["ant", "bee", "cat", "dog"]


def name(at: int) -> dict[str, object]:
    return {"row_id": f"0:{at}"}


@pytest.mark.parametrize("seed", range(20))
def test_changes_are_those_of_counting_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    rows = [
        (chance.choice(LABELS), chance.choice(LABELS), chance.choice([*LABELS, None, "elk"]))
        for _ in range(300)
    ]
    scores = [(round(chance.random(), 3), round(chance.random(), 3)) for _ in rows]
    changes = LabelChanges(5)
    for first in range(0, 300, 70):
        some = slice(first, first + 70)
        places = list(range(len(rows)))[some]
        befores, afters, truths = zip(*rows[some], strict=True)
        sure_before, sure_after = zip(*scores[some], strict=True)
        pair = scored(places, befores, sure_before), scored(places, afters, sure_after)
        changes.add(pair, pa.array(truths), lambda at, first=first: name(first + at))
    differ = [at for at, (before, after, _) in enumerate(rows) if before != after]
    told = changes.told()
    assert (changes.rows, changes.disagreed) == (300, len(differ)), seed
    counts = Counter((rows[at][0], rows[at][1]) for at in differ)
    assert told["transitions"] == [
        {"from": before, "to": after, "rows": count}
        for (before, after), count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]
    assert told["fixed"] == sum(before != truth == after for before, after, truth in rows)
    assert told["broken"] == sum(before == truth != after for before, after, truth in rows)
    differ.sort(key=lambda at: (-sum(scores[at]), at))
    assert told["examples"] == [
        {
            "row_id": f"0:{at}",
            "truth": rows[at][2],
            "before": rows[at][0],
            "after": rows[at][1],
            "score_before": scores[at][0],
            "score_after": scores[at][1],
        }
        for at in differ[:5]
    ]


def test_without_a_truth_nothing_is_fixed_or_broken() -> None:
    changes = LabelChanges(0)
    pair = scored([1, 2], ["ant", "bee"]), scored([1, 2], ["ant", "ant"])
    changes.add(pair, None, name)
    told = changes.told()
    assert (told["fixed"], told["broken"], told["examples"]) == (None, None, [])
    changes.add(pair, pa.array([None, None], pa.string()), name)
    assert changes.told()["fixed"] is None


def test_of_very_many_transitions_the_frequent_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_changes, "_MOST_KEPT", 10)
    changes = LabelChanges(0)
    for turn in range(20):
        labels = ["often", f"rare-{turn}", f"rarer-{turn}", "often"]
        changes.add((scored(range(4), labels), scored(range(4), ["x"] * 4)), None, name)
    transitions = changes.told()["transitions"]
    assert isinstance(transitions, list) and len(transitions) <= 10
    assert transitions[0] == {"from": "often", "to": "x", "rows": 40}
