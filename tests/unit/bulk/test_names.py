"""Names of a run's objects: in the order of the work, and known again."""

from __future__ import annotations

import pytest

from storage.objects.keys import check_key
from storage.records.bulk import PartFormat
from workers.bulk import names


def test_parts_sort_as_their_shards_and_positions_do() -> None:
    places = [(0, 1, 0), (0, 1, 9), (0, 1, 10), (0, 2, 11), (2, 1, 0), (10, 1, 7)]
    made = [names.part_name(*place, PartFormat.PARQUET) for place in places]
    assert made == sorted(made)
    assert made[1] == "part-00000-001-000000000009.parquet"


@pytest.mark.parametrize("form", list(PartFormat))
def test_whatever_a_run_writes_is_known_as_its_own(form: PartFormat) -> None:
    written = [
        names.part_name(3, 2, 10**13, form),
        names.errors_part_name(123_456, 1_000, 0),
        names.MANIFEST,
        names.PARTIAL_MANIFEST,
        names.ERRORS,
    ]
    for name in written:
        assert check_key(name) == name
        assert names.is_ours(name)
        assert not names.is_ours(f"x{name}")
        assert not names.is_ours(f"{name}.bak")
        assert not names.is_ours(f"sub/{name}")


@pytest.mark.parametrize(
    "name",
    ["", "part-0.parquet", "part-00000-001-000000000000.json", "data.parquet", "MANIFEST.json"],
)
def test_other_names_are_left_alone(name: str) -> None:
    assert not names.is_ours(name)


def test_readers_of_folders_pass_over_error_parts() -> None:
    assert names.errors_part_name(0, 1, 0) == "_errors-00000-001-000000000000.jsonl"
    assert names.PARTIAL_MANIFEST.startswith("_")
