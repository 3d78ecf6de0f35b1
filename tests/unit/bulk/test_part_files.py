"""Part files: what is read back is what was written, and equal rows make equal bytes."""

from __future__ import annotations

import csv
import datetime
import decimal
import hashlib
import io
import math
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.bulk import PartFormat
from workers.bulk import part_files
from workers.bulk.part_files import open_part
from workers.bulk.texts import cell_names, cell_texts, json_texts

FORMS = list(PartFormat)


def predictions(rows: int, seed: int = 1) -> pa.RecordBatch:
    chance = np.random.default_rng(seed)
    values = pa.array(chance.normal(size=rows * 10).astype("float32"))
    return pa.record_batch(
        {
            "row_id": [f"0:{i}" for i in range(rows)],
            "text": [None if i % 5 == 1 else f'no. "{i}",\n\\' for i in range(rows)],
            "label": [str(i % 10) for i in range(rows)],
            "score": pa.array(chance.random(rows).astype("float32")),
            "prediction": pa.FixedSizeListArray.from_arrays(values, 10),
        }
    )


def written(path: Path, form: PartFormat, batches: list[pa.RecordBatch]):
    with open_part(path, form, batches[0].schema) as part:
        for batch in batches:
            part.write(batch)
        return part.close()


def read(path: Path, form: PartFormat) -> list[dict]:
    match form:
        case PartFormat.PARQUET:
            return pq.read_table(path).to_pylist()
        case PartFormat.JSONL:
            return [orjson.loads(line) for line in path.read_bytes().splitlines()]
        case PartFormat.CSV:
            return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_read_back_is_what_was_written(form: PartFormat, tmp_path: Path) -> None:
    batch = predictions(1_000)
    summary = written(tmp_path / "part", form, [batch])
    data = (tmp_path / "part").read_bytes()
    assert summary.rows == 1_000
    assert summary.size_bytes == len(data)
    assert summary.sha256_hex == hashlib.sha256(data).hexdigest()
    found, expected = read(tmp_path / "part", form), batch.to_pylist()
    if form is PartFormat.CSV:
        for row in found:
            row["text"] = row["text"] or None
            row["score"] = float(row["score"])
            row["prediction"] = [float(row.pop(f"prediction_{i}")) for i in range(10)]
    for row in [*found, *expected]:
        row["score"] = np.float32(row["score"])
        row["prediction"] = np.array(row["prediction"], "float32").tolist()
    assert found == expected


@pytest.mark.parametrize("form", FORMS)
def test_equal_rows_make_equal_bytes_however_they_are_batched(
    form: PartFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files._Parquet, "group_rows", 700)
    monkeypatch.setattr(part_files._Lines, "group_rows", 700)
    monkeypatch.setattr(part_files._Csv, "group_rows", 700)
    batch = predictions(3_000)
    whole = written(tmp_path / "whole", form, [batch])
    pieces = [batch.slice(start, 37) for start in range(0, 3_000, 37)]
    assert written(tmp_path / "pieces", form, pieces) == whole
    assert written(tmp_path / "other", form, [predictions(3_000, seed=2)]) != whole


@pytest.mark.parametrize("form", FORMS)
def test_a_part_without_rows_is_still_a_file_of_its_format(
    form: PartFormat, tmp_path: Path
) -> None:
    summary = written(tmp_path / "part", form, [predictions(5).slice(0, 0)])
    assert summary.rows == 0
    assert read(tmp_path / "part", form) == []


@pytest.mark.parametrize("form", FORMS)
def test_wide_rows_are_written_before_they_fill_the_memory(
    form: PartFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files, "_MAX_GROUP_BYTES", 10_000)
    held: list[int] = []
    for kind in (part_files._Parquet, part_files._Lines, part_files._Csv):
        plain = kind.write
        monkeypatch.setattr(
            kind, "write", lambda self, batch, f=plain: (held.append(batch.nbytes), f(self, batch))
        )
    batch = predictions(2_000)
    assert written(tmp_path / "part", form, [batch]).rows == 2_000
    assert len(read(tmp_path / "part", form)) == 2_000
    assert len(held) > 5 and max(held) < 20_000


def test_row_groups_are_bounded_and_floats_have_no_dictionary(tmp_path: Path) -> None:
    written(tmp_path / "part", PartFormat.PARQUET, [predictions(10_000)] * 7)
    told = pq.read_metadata(tmp_path / "part")
    assert [told.row_group(i).num_rows for i in range(told.num_row_groups)] == [65_536, 4_464]
    columns = {
        told.row_group(0).column(i).path_in_schema: told.row_group(0).column(i) for i in range(5)
    }
    assert "RLE_DICTIONARY" in columns["label"].encodings
    assert "RLE_DICTIONARY" not in columns["prediction.list.element"].encodings
    assert columns["row_id"].statistics.min == "0:0"


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_fails_half_way_leaves_no_file(form: PartFormat, tmp_path: Path) -> None:
    batch = predictions(10)
    with pytest.raises(ZeroDivisionError), open_part(tmp_path / "p", form, batch.schema) as part:
        part.write(batch)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_json_lines_may_change_the_type_of_a_kept_column(tmp_path: Path) -> None:
    batches = [pa.record_batch({"n": [1, None]}), pa.record_batch({"n": ["one"]})]
    written(tmp_path / "part", PartFormat.JSONL, batches)
    assert (tmp_path / "part").read_text() == '{"n":1}\n{"n":null}\n{"n":"one"}\n'


def test_numbers_are_spelled_as_online(tmp_path: Path) -> None:
    values = np.array([1, 1e-5, 1.5e20, 0.1, -0.0, 1e-45, 3.4e38, 16777216], "float32")
    expected = [orjson.dumps(v, option=orjson.OPT_SERIALIZE_NUMPY).decode() for v in values]
    assert json_texts(pa.array(values)).to_pylist() == expected
    assert cell_texts(pa.array(values))[0].to_pylist() == expected


NAN = math.nan


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([True, None, False]), [True, None, False]),
        (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
        (pa.array([1.5, NAN, math.inf, None]), [1.5, None, None, None]),
        (pa.array([1.5, None], pa.float16()), [1.5, None]),
        (pa.array([None, None]), [None, None]),
        (pa.array(["", None, 'a "b"', "\x00\n\\", "ü"]), ["", None, 'a "b"', "\x00\n\\", "ü"]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array([[1, None], None, [], [3]]), [[1, None], None, [], [3]]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (pa.array([[1, 2], [None, 4]], pa.list_(pa.int8(), 2)), [[1, 2], [None, 4]]),
        (pa.array([["a", None], []], pa.large_list(pa.string())), [["a", None], []]),
        (pa.array([[[1], []], [], None]), [[[1], []], [], None]),
        (
            pa.array([{"a": 1, 'b"': [0.5]}, None, {"a": None, 'b"': []}]),
            [{"a": 1, 'b"': [0.5]}, None, {"a": None, 'b"': []}],
        ),
        (pa.array([datetime.date(2013, 1, 2), None]), ["2013-01-02", None]),
        (pa.array([datetime.datetime(2013, 1, 2, 5)], pa.timestamp("s")), ["2013-01-02T05:00:00"]),
        (pa.array([decimal.Decimal("1.50"), None]), [1.5, None]),
        (pa.array([b"\x00\xff", None]), ["AP8=", None]),
        (pa.array([datetime.timedelta(seconds=61)]), ["0:01:01"]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), [[["k", 1]]]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_kind_of_kept_column_is_json(array: pa.Array, expected: list) -> None:
    assert [orjson.loads(text) for text in json_texts(array).to_pylist()] == expected
    whole = pa.concat_arrays([array, array]).slice(1)
    twice = [orjson.loads(text) for text in json_texts(whole).to_pylist()]
    assert twice == (expected * 2)[1:]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([True, None]), [["true"], [""]]),
        (pa.array([1.5, NAN, math.inf, None]), [["1.5"], ["nan"], ["inf"], [""]]),
        (pa.array(["", None, 'a "b",\n']), [[""], [""], ['a "b",\n']]),
        (pa.array([datetime.date(2013, 1, 2), None]), [["2013-01-02"], [""]]),
        (pa.array([decimal.Decimal("1.50"), None]), [["1.50"], [""]]),
        (pa.array([None]), [[""]]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [["1", "2"], ["", ""]]),
        (
            pa.array([[1.5, NAN], [None, 2]], pa.list_(pa.float32(), 2)),
            [["1.5", "nan"], ["", "2"]],
        ),
        (
            pa.array([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int8(), 2), 2)),
            [["1", "2", "3", "4"]],
        ),
        (pa.array([[1, 2], None, []]), [["[1,2]"], [""], ["[]"]]),
        (pa.array([["a"]], pa.list_(pa.string(), 1)), [['["a"]']]),
        (pa.array([[0] * 257], pa.list_(pa.int8(), 257)), [["[" + ",".join("0" * 257) + "]"]]),
        (pa.array([{"a": 'x"'}]), [['{"a":"x\\""}']]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_kind_of_kept_column_is_cells(array: pa.Array, expected: list) -> None:
    columns = [pa.array(["0"] * len(array)), *cell_texts(array)]
    lines = [",".join(cells) for cells in zip(*(c.to_pylist() for c in columns), strict=True)]
    found = list(csv.reader(io.StringIO("\n".join(lines), newline="")))
    assert found == [["0", *row] for row in expected]
    assert {len(row) for row in expected} == {len(cell_names(pa.field("x", array.type)))}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
            st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
            st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        )
    )
)
def test_any_row_is_read_back_from_json(rows: list) -> None:
    array = pa.array(
        [{"t": t, "f": f, "l": values} for t, f, values in rows],
        pa.struct({"t": pa.string(), "f": pa.float32(), "l": pa.list_(pa.int64())}),
    )
    found = [orjson.loads(text) for text in json_texts(array).to_pylist()]
    assert found == [
        {"t": t, "f": None if f is None else pytest.approx(f), "l": values} for t, f, values in rows
    ]
