"""Flat files give back any rows, in any order, and tell all of them by one digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.training.data.flat import FlatFile

ROWS = np.random.default_rng(2).integers(0, 256, (50, 3, 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FlatFile:
    made = FlatFile(tmp_path_factory.mktemp("flat") / "rows", "uint8", (3, 2))
    made.append(ROWS)
    return made


@settings(deadline=None)
@given(st.lists(st.integers(0, 49), max_size=80))
def test_any_rows_in_any_order(file: FlatFile, wanted: list[int]) -> None:
    indices = np.array(wanted, np.int64)
    assert np.array_equal(file.gather(indices), ROWS[indices])


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=6))
def test_the_digest_does_not_know_how_rows_were_cut(
    tmp_path_factory: pytest.TempPathFactory, file: FlatFile, cuts: list[int]
) -> None:
    other = FlatFile(tmp_path_factory.getbasetemp() / "other", "uint8", (3, 2))
    for piece in np.split(ROWS, sorted(cuts)):
        other.append(piece)
    assert other.digest == file.digest
    assert np.array_equal(other.read(0, 50), ROWS)
    other.remove()


@pytest.mark.parametrize("wrong", [-1, 50])
def test_a_row_that_there_is_not(file: FlatFile, wrong: int) -> None:
    with pytest.raises(IndexError):
        file.gather(np.array([0, wrong]))


def test_a_file_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    file = FlatFile(tmp_path / "rows", "float32", (4,))
    file.append(np.ones((9, 4)))
    with file.path.open("r+b") as other:
        other.truncate(100)
    with pytest.raises(OSError, match="shorter"):
        file.gather(np.array([8]))
    with pytest.raises(OSError, match="shorter"):
        file.read(0, 9)
    file.remove()
    assert not file.path.exists()
