"""Rows come back out of a run's parts as they went in, in the order of its input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from storage.objects import Objects
from storage.records.bulk import PartFormat
from storage.records.errors import InvalidInput, NotFound, ObjectsUnavailable
from storage.records.push_options import InputForm
from storage.records.signatures import InputSpec, OutputSpec, Signature
from tests.support.evaluated import Failing, Writing, kit_of
from workers.bulk import part_files
from workers.bulk.evaluating import reading
from workers.bulk.evaluating.reading import Scored, scored_rows
from workers.bulk.kit import Stopped

SIGNATURE = Signature(
    form=InputForm.TENSOR,
    inputs=(InputSpec("x", "float32", (2,)),),
    outputs=(OutputSpec("y", "float32", (3,)), OutputSpec("n", "int64", ())),
    labels=("a", "b", "c"),
    top_k=3,
    label_output="y",
)
KEPT = pa.schema([("label", pa.int64()), ("hour", pa.string())])  # the first is renamed in parts
FORMS = list(PartFormat)


def written(folder: Path, form: PartFormat = PartFormat.PARQUET, *, outside: bool = False):
    """Three parts of two files, the later part of the first file written first."""
    chance = np.random.default_rng(1)
    run = Writing(kit_of(folder), SIGNATURE, KEPT, form=form, outside=outside)
    rows = {}
    for file, positions in ((0, range(60, 100)), (1, range(0, 90, 3)), (0, range(50))):
        count = len(positions)
        y = chance.random((count, 3)).astype("float32")
        labels = [None if at % 7 == 3 else at % 3 for at in positions]
        hours = [f'{at % 5} "o, clock' for at in positions]
        numbers = np.arange(count) + 2**53
        run.part(file, positions, {"label": labels, "hour": hours}, y=y, n=numbers)
        for index, at in enumerate(positions):
            rows[file, at] = (labels[index], hours[index], y[index], numbers[index])
    return run, rows


def rows_of(run: Writing, columns=("label", "hour"), still=lambda: True) -> list[Scored]:
    return list(scored_rows(run.kit, run.plan, run.parts, SIGNATURE, columns, still))


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_rows_come_back_in_the_inputs_order_with_all_that_was_written(
    tmp_path: Path, form: PartFormat, outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 16)
    run, rows = written(tmp_path, form, outside=outside)
    found = rows_of(run)
    assert len(found) > 3
    keys = [(one.file, at) for one in found for at in one.positions.tolist()]
    assert keys == sorted(rows)
    for one in found:
        best = [SIGNATURE.labels[at] for at in one.outputs["y"].argmax(axis=1)]
        assert one.label is not None and one.label.to_pylist() == best
        assert one.score is not None and one.score.dtype == np.float32
        assert np.array_equal(one.score, one.outputs["y"].max(axis=1))
        assert one.outputs["y"].dtype == np.float32 and one.outputs["n"].dtype == np.int64
        for index, at in enumerate(one.positions.tolist()):
            label, hour, y, n = rows[one.file, at]
            assert one.kept["label"][index].as_py() == label
            assert one.kept["hour"][index].as_py() == hour
            assert np.array_equal(one.outputs["y"][index], y) and one.outputs["n"][index] == n


@pytest.mark.parametrize("form", FORMS)
def test_outputs_keep_their_shape_and_ragged_ones_and_texts_are_left_out(
    tmp_path: Path, form: PartFormat
) -> None:
    model = replace(
        SIGNATURE,
        outputs=(
            OutputSpec("grid", "float32", (2, 2)),
            OutputSpec("wide", "float32", (20, 20)),  # too many numbers for cells
            OutputSpec("ragged", "float32", (None,)),
            OutputSpec("word", "string", ()),
        ),
        labels=(),
        label_output=None,
    )
    run = Writing(kit_of(tmp_path), model, pa.schema([]), form=form)
    chance = np.random.default_rng(2)
    grid = chance.normal(size=(9, 2, 2)).astype("float32")
    wide = chance.normal(size=(9, 20, 20)).astype("float32")
    ragged, word = np.zeros((9, 4), "float32"), np.array([b"w"] * 9, object)
    run.part(0, range(9), {}, grid=grid, wide=wide, ragged=ragged, word=word)
    found = list(scored_rows(run.kit, run.plan, run.parts, model, (), lambda: True))
    assert all(set(one.outputs) == {"grid", "wide"} for one in found)
    assert np.array_equal(np.concatenate([one.outputs["grid"] for one in found]), grid)
    assert np.array_equal(np.concatenate([one.outputs["wide"] for one in found]), wide)
    assert all(one.label is None and one.score is None and not one.kept for one in found)


def test_a_store_that_stops_answering_costs_no_row_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files._Parquet, "group_rows", 8)
    run, rows = written(tmp_path)
    shaky = Failing(run.kit.objects, lambda: ObjectsUnavailable("no answer"))
    run.kit = kit_of(tmp_path, cast("Objects", shaky))
    run.kit.hurry.wait = lambda timeout=None: False  # type: ignore[method-assign]
    keys = [(one.file, at) for one in rows_of(run) for at in one.positions.tolist()]
    assert keys == sorted(rows) and shaky.failed > 3


def test_reading_stops_between_chunks_when_it_is_nobodys_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 16)
    run, _ = written(tmp_path)
    left = iter([True, True, False])
    found = []
    with pytest.raises(Stopped):
        for one in scored_rows(run.kit, run.plan, run.parts, SIGNATURE, (), lambda: next(left)):
            found.append(one)
    assert len(found) == 2


def test_a_part_that_was_taken_away_says_so(tmp_path: Path) -> None:
    run, _ = written(tmp_path)
    run.kit.objects.delete([f"bulk/run/{run.parts[1].part.key}"])
    with pytest.raises(NotFound, match="retention has passed") as caught:
        rows_of(run)
    assert caught.value.stable_code == "part_gone"


def test_a_column_that_was_not_kept_is_refused_by_name(tmp_path: Path) -> None:
    run, _ = written(tmp_path)
    with pytest.raises(InvalidInput, match="'minute'") as caught:
        rows_of(run, ("minute",))
    assert caught.value.stable_code == "unknown_column"


def test_a_part_of_other_rows_is_never_taken_for_ours(tmp_path: Path) -> None:
    run, _ = written(tmp_path)
    run.parts[1] = replace(run.parts[1], file=5)
    with pytest.raises(InvalidInput, match="file 5") as caught:
        rows_of(run)
    assert caught.value.stable_code == "not_comparable"


def test_a_part_that_is_no_part_is_refused(tmp_path: Path) -> None:
    run, _ = written(tmp_path)
    part = run.parts[1]
    run.kit.objects.delete([f"bulk/run/{part.part.key}"])
    run.kit.objects.put(f"bulk/run/{part.part.key}", b"x" * part.part.size_bytes)
    with pytest.raises(InvalidInput) as caught:
        rows_of(run)
    assert caught.value.stable_code == "not_comparable"
