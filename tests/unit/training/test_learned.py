"""Means, deviations and medians over kept rows are NumPy's, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.training.data import flat
from workers.training.data.flat import FlatFile
from workers.training.data.learned import Moments, means, medians, moments_of

FLOATS = st.floats(width=32, allow_infinity=False)


def kept(tmp_path: Path, block: np.ndarray) -> FlatFile:
    file = FlatFile(tmp_path / "rows", block.dtype.name, block.shape[1:])
    file.append(block)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learned")


@settings(deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, st.booleans()), min_size=1, max_size=60))
def test_a_median_is_the_middle_of_what_is_there(
    folder: Path, rows: list[tuple[float, float, bool]]
) -> None:
    block = np.array([row[:2] for row in rows], np.float32)
    train = np.array([row[2] for row in rows])
    file = kept(folder, block)
    for index, found in enumerate(medians(file, train, [0, 1])):
        column = block[train, index].astype(np.float64)
        column = column[~np.isnan(column)]
        if len(column):
            assert found == np.median(column)
        else:
            assert np.isnan(found)
    file.close()


def test_means_are_of_what_is_there(tmp_path: Path) -> None:
    block = np.array([[1, np.nan], [np.nan, np.nan], [4, np.nan], [100, 5]], np.float32)
    file = kept(tmp_path, block)
    first, second = means(file, np.array([1, 1, 1, 0], bool), [0, 1])
    assert first == 2.5
    assert np.isnan(second)
    assert len(means(file, np.ones(4, bool), [])) == 0


def test_moments_of_many_blocks_are_those_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat, "BLOCK_BYTES", 1000)
    block = np.random.default_rng(1).normal(1e4, 3, (5000, 4)).astype(np.float32)
    train = np.arange(5000) % 3 > 0
    moments = moments_of(kept(tmp_path, block), train, 4)
    exact = block[train].astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.deviation, exact.std(axis=0), rtol=1e-10)
    assert np.array_equal(moments.least, exact.min(axis=0))
    assert np.array_equal(moments.most, exact.max(axis=0))


def test_no_rows_are_no_moments() -> None:
    moments = Moments(2)
    moments.add(np.empty((0, 2)))
    assert moments.count == 0
    assert (moments.deviation == 0).all()
