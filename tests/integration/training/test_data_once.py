"""No row is in two parts of a split."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.training_data import DataDesk, everything, spec_of
from workers.training.ports import Part


@pytest.mark.parametrize("again", ["b.csv", "*.csv", ""])
def test_a_file_that_two_addresses_name_is_read_once(desk: DataDesk, again: str) -> None:
    for name, first in (("a", 0), ("b", 40)):
        desk.csv(f"{name}.csv", "a,label", [f"{n},{n % 2}" for n in range(first, first + 40)])
    rows = desk.prepare(spec_of(desk.uri("a.csv"), desk.uri("b.csv"), desk.uri(again)))
    parts = [everything(rows, part).inputs["features"][:, 0] for part in Part]
    assert sorted(np.concatenate(parts)) == list(range(80))
    note = rows.prepared.note
    assert note["file_count"] == 2
    assert note["named_more_than_once"] == (1 if again == "b.csv" else 2)


def test_files_that_are_named_once_have_no_note_of_it(desk: DataDesk) -> None:
    uri = desk.csv("a.csv", "a,label", [f"{n},{n % 2}" for n in range(40)])
    assert "named_more_than_once" not in desk.prepare(spec_of(uri)).prepared.note
