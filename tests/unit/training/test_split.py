"""A split has its shares, of the whole and of each class, and every row once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.training import Split
from workers.training.data.split import split_rows
from workers.training.ports import Part

SHARES = st.sampled_from([0.0, 0.1, 0.15, 0.2, 0.25, 1 / 3])
COUNTS = st.lists(st.integers(2, 60), min_size=1, max_size=12)


def labels_of(counts: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return np.random.default_rng(seed).permutation(labels)


def parted(split: Split, labels: np.ndarray) -> dict[Part, np.ndarray] | None:
    try:
        return split_rows(split, len(labels), labels if split.stratify else None)
    except InvalidInput as error:
        assert error.stable_code == "split_empty"
        return None


@settings(deadline=None)
@given(COUNTS, SHARES, SHARES, st.integers(0, 99), st.booleans())
def test_parts_are_disjoint_and_cover_all_rows(
    counts: list[int], validation: float, test: float, seed: int, stratify: bool
) -> None:
    labels = labels_of(counts, seed)
    parts = parted(Split(validation, test, seed, stratify), labels)
    if parts is not None:
        every = np.concatenate(list(parts.values()))
        assert np.array_equal(np.sort(every), np.arange(len(labels)))
        assert all((np.diff(rows) > 0).all() for rows in parts.values())


@settings(deadline=None)
@given(COUNTS, SHARES, SHARES, st.integers(0, 99))
def test_each_class_has_its_share_to_a_row(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    labels = labels_of(counts, seed)
    parts = parted(Split(validation, test, seed), labels)
    if parts is None:
        return
    for part, share in ((Part.VALIDATION, validation), (Part.TEST, test)):
        for label, count in enumerate(counts):
            has = int((labels[parts[part]] == label).sum())
            assert abs(has - count * share) < 1
            if abs(count * share - round(count * share)) < 1e-9:
                assert has == round(count * share)
    assert set(labels[parts[Part.TRAIN]]) == set(range(len(counts)))


@settings(deadline=None)
@given(st.lists(st.integers(3, 60), min_size=1, max_size=12), SHARES, st.integers(0, 99))
def test_a_part_as_a_whole_has_its_share(counts: list[int], share: float, seed: int) -> None:
    labels = labels_of(counts, seed)
    for stratify in (True, False):
        parts = parted(Split(share, 0.0, seed, stratify), labels)
        if parts is not None:
            assert abs(len(parts[Part.VALIDATION]) - len(labels) * share) <= 0.5 + 1e-6


def test_the_seed_decides_and_nothing_else() -> None:
    labels = labels_of([30, 40, 50], 1)
    one, same, other = (
        split_rows(Split(0.2, 0.2, seed), 120, labels)[Part.TRAIN] for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_part_that_nobody_asked_for_may_be_empty() -> None:
    parts = split_rows(Split(0.0, 0.0), 9, None)
    assert [len(parts[part]) for part in Part] == [9, 0, 0]


def test_many_small_classes_together_fill_a_part() -> None:
    """0.2 rows of each of fifty classes are ten rows, not none."""
    parts = split_rows(Split(0.1, 0.1), 100, labels_of([2] * 50, 1))
    assert [len(parts[part]) for part in Part] == [80, 10, 10]


def held_out(counts: list[int], seed: int) -> tuple[set[int], set[int]]:
    """The classes that are validated on and those that are tested on."""
    labels = labels_of(counts, 1)
    parts = split_rows(Split(0.1, 0.1, seed), len(labels), labels)
    return set(labels[parts[Part.VALIDATION]].tolist()), set(labels[parts[Part.TEST]].tolist())


def test_of_many_small_classes_each_part_takes_others() -> None:
    validated, tested = held_out([4] * 100, 1)
    assert len(validated) == len(tested) == 40
    assert not validated & tested


def test_it_is_not_the_first_of_many_small_classes_that_are_held_out() -> None:
    seen = set()
    for seed in range(20):
        validated, tested = held_out([4] * 100, seed)
        seen |= validated | tested
    assert seen == set(range(100))


def test_classes_of_a_somewhat_smaller_remainder_are_tested_on_as_well() -> None:
    _, tested = held_out([4] * 50 + [5] * 50, 1)
    assert tested & set(range(50))


@pytest.mark.parametrize(
    ("split", "part"), [(Split(0.01, 0.2), "validation"), (Split(0.2, 0.01), "test")]
)
def test_an_empty_part_says_which_and_how_many_rows_there_are(split: Split, part: str) -> None:
    with pytest.raises(InvalidInput, match=f"the {part} part .* there are 20 rows") as caught:
        split_rows(split, 20, None)
    assert caught.value.stable_code == "split_empty"
    assert caught.value.field == f"split.{part}"
