"""A number is a number, however the first lines of its file look."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support.training_data import NUMBERS, DataDesk, everything, spec_of
from workers.bulk.reading import line_source
from workers.training.ports import Part


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few lines instead of 4 MiB."""
    monkeypatch.setattr(line_source, "_SAMPLE_BYTES", 200)


def written(desk: DataDesk, form: str, rows: list[dict[str, Any]]) -> str:
    if form == "csv":
        lines = [",".join(map(str, one.values())) for one in rows]
        return desk.csv("d.csv", ",".join(rows[0]), lines)
    return desk.write("d.jsonl", "".join(json.dumps(one) + "\n" for one in rows))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_fractions_that_come_late_are_features_and_labels(desk: DataDesk, form: str) -> None:
    values = [n + (0.5 if n > 60 else 0) for n in range(80)]
    every = [{"a": int(one) if one.is_integer() else one} for one in map(float, values)]
    uri = written(desk, form, [{**one, "label": one["a"]} for one in every])
    rows = desk.prepare(spec_of(uri, loss=NUMBERS))
    batches = [everything(rows, part) for part in Part]
    features = np.concatenate([one.inputs["features"] for one in batches])
    assert sorted(features.ravel()) == values
    assert np.array_equal(features, np.concatenate([one.target for one in batches]))


def test_whole_numbers_of_a_file_of_text_are_pixels_still(desk: DataDesk) -> None:
    uri = written(desk, "csv", [{"a": n, "b": 255 - n, "label": n % 2} for n in range(80)])
    rows = desk.prepare(spec_of(uri, data={"shape": (2, 1)}))
    assert rows.prepared.features[0].dtype == "uint8"


def test_labels_that_are_classes_stay_whole(desk: DataDesk) -> None:
    uri = written(desk, "jsonl", [{"a": n, "label": 2**53 + 1 + n % 2} for n in range(80)])
    assert desk.prepare(spec_of(uri)).prepared.labels == (str(2**53 + 1), str(2**53 + 2))
